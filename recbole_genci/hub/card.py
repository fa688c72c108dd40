"""The model card: the README.md that the hub shows on the repository's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from recbole_genci.hub.contents import Contents
from recbole_genci.utils.hub.name import HubName
from recbole_genci.utils.layout import CONFIG_FILE, DATA_FILE
from recbole_genci.utils.own_code import is_reference
from recbole_genci.utils.scripts import TRAIN

CARD = "README.md"
_NO_LICENCE = (
    "None is given yet. The owner of this repository writes `license: <name>` into the first lines "
    "of this file. The dataset has a licence of its own."
)
_SHOWN = ("recbole_genci", "recbole", "torch", "numpy", "python")


def card_of(contents: Contents, name: HubName, licence: str | None = None) -> str:
    """The card of what is uploaded.

    Args:
        contents: what is uploaded.
        name: where it goes.
        licence: what the repository's card names now; None leaves the line to its owner.
    """
    facts: dict[str, Any] = {"library_name": "recbole_genci"}
    facts["tags"] = ["recbole", "recommendation", "click-through-rate"]
    facts |= {"license": licence} if licence else {}
    head = yaml.safe_dump(facts, sort_keys=False)
    head += "" if licence else "# license: the name of a licence, for example mit\n"
    body = _of_ids(contents, name) if contents.metrics is None else _of_run(contents, name)
    given = f"{licence}. The dataset has a licence of its own." if licence else _NO_LICENCE
    return f"---\n{head}---\n\n# {contents.title}\n\n{body}\n## Licence\n\n{given}\n"


def licence_of(card: str) -> str | None:
    """The licence that a card names in its first lines; None if it names none."""
    parts = card.split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        facts = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return None
    licence = facts.get("license") if isinstance(facts, dict) else None
    return licence if isinstance(licence, str) else None


def _of_run(contents: Contents, name: HubName) -> str:
    metrics = contents.metrics
    assert metrics is not None
    model, dataset = metrics["model"], metrics["dataset"]
    measures = list(dict.fromkeys([*metrics["test"], *metrics["best_valid"]]))
    lines = [
        f"A click-through rate model, {model}, trained on the dataset {dataset} by recbole_genci, "
        "a plugin of RecBole.",
        "",
        f"| rows | {' | '.join(measures)} |",
        f"| --- |{' --- |' * len(measures)}",
        f"| test | {_cells(metrics['test'], measures)} |",
        f"| validation | {_cells(metrics['best_valid'], measures)} |",
        "",
        f"One run with seed {metrics['seed']}; the weights are those of epoch "
        f"{metrics['best_epoch']} of {metrics['epochs']}, the best on the validation rows. The "
        f"split and all other keys are in `{CONFIG_FILE}`: {_split(metrics['config'])}.",
        "",
        "## Use it",
        "",
        *_use_of_run(contents, name),
        "## Train it again",
        "",
        "```bash",
        f"python {TRAIN} --model={metrics['model_reference']} --dataset={dataset} "
        f"--config_files={CONFIG_FILE}",
        "```",
        "",
        _versions(metrics.get("versions") or {}, metrics.get("git_revision")),
        "",
    ]
    return "\n".join(lines)


def _use_of_run(contents: Contents, name: HubName) -> list[str]:
    assert contents.metrics is not None
    run = str(name)
    lines = []
    if DATA_FILE not in contents.files:
        run = "a-folder"
        lines += [
            "The rows are not here. This command makes them again from the dataset's files, and "
            "checks that they are the same:",
            "",
            "```bash",
            f"python -m recbole_genci.hub pull {name} {run} --data_path=dataset",
            "```",
            "",
        ]
    own = ""
    if is_reference(contents.metrics["model_reference"]):
        own = " --model=<module:Class>"
        lines += ["The model's code is not here. Its owner has it.", ""]
    lines += [
        "```bash",
        f"python -m recbole_genci.predict --run={run} --input=rows.csv --output=scores.csv{own}",
        "```",
        "",
        "Nothing is unpickled. Every file is compared with its SHA-256 in `hub.json`.",
        "",
    ]
    return lines


def _of_ids(contents: Contents, name: HubName) -> str:
    manifest = contents.manifest
    assert manifest is not None
    settings = manifest.get("settings") or {}
    sizes = " x ".join(map(str, manifest["level_sizes"]))
    lines = [
        f"For each item a sequence of {len(manifest['level_sizes'])} codes ({sizes}), made by "
        "recbole_genci, a plugin of RecBole. The last code only tells items apart.",
        "",
    ]
    if settings:
        lines += ["| setting | value |", "| --- | --- |"]
        lines += [f"| {key} | {_cell(value)} |" for key, value in sorted(settings.items())]
        lines += [""]
    lines += [
        "## Use them",
        "",
        "```bash",
        f"python {TRAIN} --model=GenCI --dataset=<name> --semantic_id_path={name}",
        "```",
        "",
        "Nothing is unpickled. Every file is compared with its SHA-256 in `hub.json`.",
        "",
    ]
    return "\n".join(lines)


def _cells(values: Mapping[str, float | None], measures: list[str]) -> str:
    return " | ".join("" if values.get(name) is None else f"{values[name]}" for name in measures)


def _cell(value: object) -> str:
    return str(value).replace("|", r"\|").replace("\n", " ")


def _split(config: Mapping[str, Any]) -> str:
    return f"`eval_args: {config.get('eval_args')}`"


def _versions(versions: Mapping[str, str], revision: str | None) -> str:
    shown = [f"{name} {versions[name]}" for name in _SHOWN if name in versions]
    made = f", git revision {revision}" if revision else ""
    return f"Made with {', '.join(shown)}{made}."
