"""One command, or one call: prepare the rows, give the items semantic IDs, train, evaluate, report."""

from __future__ import annotations

import contextlib
import functools
import logging
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from recbole_genci.config import Config, config_files_words, parse_argv
from recbole_genci.config.help import help_text
from recbole_genci.data import create_dataset, create_loaders
from recbole_genci.data.download import check_dataset
from recbole_genci.data.loaders import log_summary
from recbole_genci.report import save_comparison
from recbole_genci.tokenizer import SemanticIDs, load_or_build_semantic_ids, tokenizer_settings
from recbole_genci.training.checkpoint import training_state_file
from recbole_genci.training.launch import train_together, world_size
from recbole_genci.training.run import config_as_yaml, new_folder, new_run_folder, train_and_evaluate
from recbole_genci.utils.files import check_writable, read_mapping
from recbole_genci.utils.lock import only_process
from recbole_genci.utils.logs import start_console


def run(
    model: str | Sequence[str],
    dataset: str,
    config_files: Sequence[str] | None = None,
    config_dict: dict | None = None,
    argv: Sequence[str] = (),
) -> list[dict]:
    """Train and evaluate one model or several on the same rows, one after another.

    Args:
        model: a name, several separated by commas, or a list of names.
        dataset: the dataset's name.
        config_files: YAML files.
        config_dict: keys, stronger than the files.
        argv: ``--key=value`` words, stronger than the dict.

    Returns:
        list of dict: what each run wrote to its ``metrics.json``, seed by seed and model by model.

    Raises:
        ValueError, FileNotFoundError: anything wrong with models, keys, files or columns; before any training.
    """
    return execute(prepare(model, dataset, config_files, config_dict, argv))


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, read and checked: nothing but training is left to do.

    Attributes:
        configs: each model's Config, in the order asked for.
        parts: the training, validation and test part that all of them share.
        semantic_ids: of the dataset's items, if a model reads them.
        command: the command line that makes this plan.
    """

    configs: dict[str, Config]
    parts: list
    semantic_ids: SemanticIDs | None
    command: str


def prepare(model, dataset, config_files=None, config_dict=None, argv=(), check: Callable[[Config], None] | None = None) -> Plan:
    """Check the request, read the rows and give the items semantic IDs; arguments and errors as of ``run``.

    ``check`` may refuse each model's Config, before anything is read.
    """
    names = [name.strip() for name in (model.split(",") if isinstance(model, str) else model)]
    if len(set(names)) != len(names):
        raise ValueError(f"model: {', '.join(names)} names a model twice.")
    configs = {name: Config(name, dataset, config_files, config_dict, argv, compared_models=names) for name in names}
    first = configs[names[0]]
    start_console(first["state"])
    check_same_rows(configs)
    for config in configs.values():
        getattr(config.model_class, "check_settings", lambda config: None)(config)
        if check:
            check(config)
    check_dataset(first)
    for key in ("checkpoint_dir", "results_dir"):
        check_writable(Path(first[key]), key)
    reader = next((c for c in configs.values() if getattr(c.model_class, "reads_semantic_ids", False)), None)
    settings = tokenizer_settings(reader) if reader and reader["semantic_id_path"] is None else None
    if reader and settings is None and not Path(reader["semantic_id_path"]).is_dir():
        raise FileNotFoundError(f"semantic_id_path: there is no folder {reader['semantic_id_path']}. Give the folder of an "
                                "artifact, or leave the key out to have semantic IDs made.")  # fmt: skip

    parts = prepare_rows(first)
    semantic_ids = prepare_semantic_ids(reader, parts[0], settings) if reader else None
    for config in configs.values():  # a wrong setting of the last model is found before the first one trains
        config.model_class(config, create_loaders(config, parts, semantic_ids)[0].dataset)
    command = shlex.join(["python", "run_recbole_genci.py", f"--model={','.join(names)}", f"--dataset={dataset}",
                          *config_files_words(config_files), *argv])  # fmt: skip
    return Plan(configs, parts, semantic_ids, command)


def execute(plan: Plan) -> list[dict]:
    """Train and evaluate the plan's models, seed by seed, and save their table; returns what ``run`` returns."""
    first = next(iter(plan.configs.values()))
    runs, seeds = [], range(first["seed"], first["seed"] + first["seeds"])
    try:
        for seed in seeds:
            for config in plan.configs.values():
                config["seed"] = seed
                runs.append(_train(config, plan))
    except Exception:
        if runs:
            files = " ".join(str(Path(run["folder"]) / "metrics.json") for run in runs)
            logging.getLogger().error(f"{len(runs)} runs had finished; their table: python -m recbole_genci.report {files}")
        raise
    finally:
        for config in plan.configs.values():
            config["seed"] = seeds.start
    if first["offset"]:  # another machine has the first process, and the results
        return runs
    folder = new_folder(Path(first["results_dir"]), first["dataset"])
    table = save_comparison(runs, folder, plan.command)
    logging.getLogger().info(f"Test results, also in {folder}/:\n{table}")
    return runs


def _train(config, plan: Plan) -> dict:
    if world_size(config) == 1:
        return train_and_evaluate(config, plan.parts, plan.semantic_ids)
    with contextlib.ExitStack() as stack:
        if config["offset"]:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = new_run_folder(config)
        ids = plan.semantic_ids if getattr(config.model_class, "reads_semantic_ids", False) else None
        metrics = train_together(train_and_evaluate, config, config_as_yaml(config), plan.parts, ids, folder)
    return metrics | {"folder": str(folder)}


def check_same_rows(configs: dict[str, Config]) -> None:
    """Refuse configurations under which the compared models would see different rows, splits or histories.

    Raises:
        ValueError: names the key and both values.
    """
    keys = {*next(iter(configs.values())).parameters["Dataset"], "eval_args", "history_labels", "history_source", "seed",
            "data_seed", "shuffle", "metrics", "valid_metric", "train_batch_size"}  # fmt: skip
    (name, config), *others = configs.items()
    for other_name, other in others:
        for key in sorted(keys):
            if config[key] != other[key]:
                raise ValueError(
                    f"{key}: {name} has {config[key]!r} but {other_name} has {other[key]!r}, so they would not be compared "
                    "on the same rows. Set it once, on the command line or in a configuration file."
                )


def prepare_rows(config) -> list:
    """Training, validation and test part, summarised on the console, and the arithmetic that every run uses."""
    # Numbers below 1e-38 (sharp attention, moments of rare features) make a CPU several times slower: take them for 0.
    torch.set_flush_denormal(True)
    parts = create_dataset(config).build()
    log_summary(parts)
    return parts


def prepare_semantic_ids(config, part, settings: dict | None) -> SemanticIDs:
    """Load the semantic IDs of the dataset's items, or build and cache them."""
    tokens = [str(token) for token in part.field2id_token[part.iid_field][1:]]
    if settings is None:
        ids = SemanticIDs.load(Path(config["semantic_id_path"]))
        logging.getLogger().info(
            f"Semantic IDs of {len(ids.item_tokens)} items from {config['semantic_id_path']}, hash {ids.digest[:12]}; the "
            "tokenizer's keys have no effect."
        )
        return ids
    ids = load_or_build_semantic_ids(
        settings, part.item_file, part.iid_field, tokens, Path(config["semantic_id_dir"]), part.dataset_name,
        device=config["device"], show_progress=config["show_progress"], field_separator=config["field_separator"],
        encoding=config["encoding"] or "utf-8",
    )  # fmt: skip
    torch.cuda.empty_cache()  # the encoder's, where it was on a GPU: this process keeps it while others train
    return ids


def resume(folder: str | Path) -> dict:
    """Go on with a run that was stopped, from its last evaluated epoch, as if it had never stopped.

    Args:
        folder: the run's folder; its ``config.yaml`` says what was asked for.

    Returns:
        dict: the content of ``metrics.json``.

    Raises:
        FileNotFoundError, ValueError: no run there, nothing to resume, or data that have changed since.
        RuntimeError: another process is training it.
    """
    return _execute_resumed(prepare_resumed(folder), folder)


def prepare_resumed(folder: str | Path, moved: Sequence[str] = ()) -> Plan:
    """Check that ``folder`` holds a stopped run, and prepare its data again; ``moved`` may be the word ``--data_path=...``."""
    folder = Path(folder)
    file = folder / "config.yaml"
    if not file.is_file():
        raise FileNotFoundError(f"resume: {file} does not exist; give the folder of a run, saved/<model>-<dataset>-<time>.")
    asked = read_mapping(file, ["model", "dataset"], "Start the run anew.", "resume")
    if (asked.get("nproc") or 1) > 1 or (asked.get("world_size") or 1) > 1:
        raise ValueError(f"resume: {folder} was trained by several processes (nproc), of which a stopped run keeps no state. "
                         "Start it anew.")  # fmt: skip
    training_state_file(folder)
    with only_process(folder):  # which may still be training
        pass
    return prepare(asked["model"], asked["dataset"], [str(file)], argv=moved)


def _execute_resumed(plan: Plan, folder: str | Path) -> dict:
    (config,) = plan.configs.values()
    return train_and_evaluate(config, plan.parts, plan.semantic_ids, resume_folder=Path(folder))


def main(argv: Sequence[str]) -> int:
    """The command ``run_recbole_genci.py``: words ``--key=value``.

    ``--help`` prints the keys. A request that cannot be carried out is one sentence on stderr and exit status 2, before
    anything is trained; ``--state=DEBUG`` shows where it was raised.
    """
    if any(word.startswith("--experiment=") for word in argv):
        from recbole_genci.experiments.command import main as run_experiments  # which build on this module

        return run_experiments(argv)
    words = {}
    try:
        if {"--help", "-h"} & set(argv):
            words = parse_argv([word for word in argv if word not in ("--help", "-h")])
            print(help_text(str(words.get("model", "GenCI")).split(","), words.get("dataset")))
            return 0
        words = parse_argv(argv)
        if "resume" in words:
            if set(words) - {"resume", "data_path"}:
                raise ValueError("command line: --resume=<folder> stands alone, or beside --data_path where files have moved; "
                                 "the folder's config.yaml says everything else.")  # fmt: skip
            moved = [word for word in argv if word.startswith("--data_path=")]
            work = functools.partial(_execute_resumed, prepare_resumed(str(words["resume"]), moved), str(words["resume"]))
        else:
            work = functools.partial(execute, prepare_from_argv(argv))
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if str(words.get("state")).upper() == "DEBUG":
            raise
        print(f"recbole_genci: {error}", file=sys.stderr)
        return 2
    work()
    return 0


def prepare_from_argv(argv: Sequence[str]) -> Plan:
    """``prepare`` for a command line, which must name model and dataset."""
    words = parse_argv(argv)
    for key, example in {"model": "--model=GenCI", "dataset": "--dataset=ml-100k"}.items():
        if not words.get(key):
            raise ValueError(f"command line: --{key} is missing, for example {example}.")
    files = str(words["config_files"]).split() if words.get("config_files") else None
    own = ("--model", "--dataset", "--config_files")
    rest = [word for word in argv if word.partition("=")[0] not in own]
    return prepare(str(words["model"]), str(words["dataset"]), files, argv=rest)


def command() -> None:
    """Entry point of the installed command."""
    sys.exit(main(sys.argv[1:]))
