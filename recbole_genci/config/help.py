"""``--help``: every key a person may want to set, its meaning and default, read from the properties files themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from recbole_genci.config import RECBOLE_FOLDER, properties_folder
from recbole_genci.model.registry import get_model, known_models, resolve

#: What commands that read a dataset say of it.
DATASET_USAGE = """\
  --dataset       a folder of RecBole atomic files under --data_path, a name of RecBole's dataset store, or ml-100k, which ships
                  inside RecBole
  --config_files  YAML files of keys, in one word separated by spaces"""
_USAGE = """\
usage: python run_recbole_genci.py --model=NAME[,NAME...] --dataset=NAME [--key=value ...]
       python run_recbole_genci.py --resume=FOLDER
       python run_recbole_genci.py --experiment=NAME --dataset=NAME [--seeds=N] [--models=NAME,NAME...] [--key=value ...]
       python run_recbole_genci.py --help [--model=NAME[,NAME...]] [--dataset=NAME]

Trains and evaluates each model on the same rows, and prints one table.

  --model         {models}
{dataset}
  --experiment    {experiments}
  --resume        folder of a run that was stopped, saved/<model>-<dataset>-<time>; goes on as if it never had

Values are YAML-like literals: 0.001, True, [64, 64], "{{'rating': 4}}". The command line beats config_files, which beat the
properties files. A key that nobody knows is refused, with the nearest name.
"""

# Keys of RecBole that say nothing about labelled rows, or that this plugin refuses.
_LEFT_OUT = re.compile(
    r"save_data|dataset_save|dataloaders_save|train_neg_sample_args|topk|repeatable|POSITION_FIELD|.*ENTITY.*|RELATION|.*entity|"
    r"kg_|relation|alias_of_(?:entity|relation)|RATING_FIELD|require_pow|enable_scaler|transform|valid_metric_bigger"
)  # fmt: skip
_LINE = re.compile(r"^(\w+):([^#]*)(?:#\s*(?:\(([\w ]+)\)\s*)?(.*))?$")


def help_text(models: Sequence[str] = ("GenCI",), dataset: str | None = None) -> str:
    """The text of ``--help`` for some models and, if given, a dataset's defaults.

    Raises:
        ValueError: an unknown model.
    """
    for name in models:
        get_model(name)
    ours, theirs = properties_folder(), RECBOLE_FOLDER / "properties"
    host = [theirs / "overall.yaml", theirs / "dataset/sample.yaml"]
    own = [ours / "overall.yaml", *([ours / f"dataset/{dataset}.yaml"] if dataset else [])]
    entries = entries_of(host + own)
    experiments = ", ".join(file.stem for file in sorted((ours / "experiment").glob("*.yaml")))
    text = [
        _USAGE.format(
            dataset=DATASET_USAGE,
            models=_wrap(", ".join(sorted(known_models(), key=str.lower)), 18),
            experiments=_wrap(f"a table or figure of the paper: {experiments}, or all; --help --experiment=NAME", 18),
        )
    ]
    text += [section(title, {key: entries[key] for key in keys}) for title, keys in _sections(own + host).items()]
    for name in models:
        model, changed_defaults = resolve(name)
        of_model = entries_of([theirs / f"model/{model}.yaml", ours / f"model/{model}.yaml"])
        of_model |= {key: (default, *of_model[key][1:]) for key, default in changed_defaults.items()}
        text.append(section(f"{name}'s own", {key: entry for key, entry in of_model.items() if key not in entries}))
        tuned = entries_of([ours / f"tuned/{dataset}/{model}.yaml"])
        if tuned:
            text.append(section(f"{name}'s defaults on {dataset}, found by tuning", tuned))
    return "\n".join(part for part in text if part)


def _lines(files: Sequence[Path]):
    """``(title, key, type, meaning, default)`` of each key's line in YAML files, with the section comment above it."""
    for file in files:
        if not file.is_file():
            continue
        text, title = file.read_text(encoding="utf-8"), ""
        values = yaml.safe_load(text) or {}
        for line in text.splitlines():
            if line.startswith("# "):
                title = re.split(r"[.,:(]", line[2:])[0].strip()
            match = _LINE.match(line)
            if match and not _LEFT_OUT.match(match[1]):
                yield title, match[1], match[3], (match[4] or "").strip(), values[match[1]]


def entries_of(files: Sequence[Path]) -> dict[str, tuple]:
    """``{key: (default, type, meaning)}``, later files over earlier; a remark without a type joins the earlier meaning."""
    entries = {}
    for _, key, kind, meaning, default in _lines(files):
        _, kind_before, meaning_before = entries.get(key, (None, None, ""))
        parts = [meaning] if kind or not meaning_before else [meaning_before, meaning]
        entries[key] = (default, kind or kind_before, " ".join(part for part in parts if part))
    return entries


def _sections(files: Sequence[Path]) -> dict[str, list[str]]:
    """Keys by section, each in the section that names it first."""
    sections, seen = {}, set()
    for title, key, *_ in _lines(files):
        if key not in seen:
            sections.setdefault(title, []).append(key)
            seen.add(key)
    return sections


def section(title: str, entries: dict) -> str:
    """A titled list of ``entries_of`` keys with default, meaning and type; an empty text where there are none."""
    lines = [f"{title}:"]
    for key, (default, kind, meaning) in entries.items():
        shown = "" if default is None else f" [{_short(default)}]"
        head = f"  --{key}{shown}"
        about = _wrap(f"{meaning}{f' ({kind})' if kind else ''}".strip(), 34)
        lines.append(f"{head:<33} {about}" if len(head) < 34 and about else f"{head}\n{' ' * 34}{about}" if about else head)
    return "\n".join(lines) + "\n" if entries else ""


def _short(value) -> str:
    if isinstance(value, str):
        return value if value.strip() else repr(value)
    return (
        str(value) if not isinstance(value, (dict, list)) else yaml.safe_dump(value, default_flow_style=True, width=999).strip()
    )


def _wrap(text: str, indent: int, width: int = 120) -> str:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) + 1 > width - indent:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return f"\n{' ' * indent}".join([*lines, line])
