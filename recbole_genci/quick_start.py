"""One command, or one call: prepare the rows, give the items semantic IDs, train, evaluate, report."""

from __future__ import annotations

import contextlib
import dataclasses
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
from recbole_genci.config.command_line import key_value_words
from recbole_genci.config.help import help_text
from recbole_genci.data import create_dataset, create_loaders
from recbole_genci.data.download import check_dataset
from recbole_genci.data.loaders import log_summary
from recbole_genci.model.registry import entry_of
from recbole_genci.report import aligned, save_comparison
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.source import check_source, find_semantic_ids
from recbole_genci.training import stopped, tracking
from recbole_genci.training.callbacks import Callback, check_callbacks
from recbole_genci.training.checkpoint import training_state_file
from recbole_genci.training.console import Heading, legend
from recbole_genci.training.launch import train_together, world_size
from recbole_genci.training.own_checks import check_for_processes, try_metrics, try_model
from recbole_genci.training.run import config_as_yaml, new_folder, new_run_folder, train_and_evaluate
from recbole_genci.utils import interrupts
from recbole_genci.utils.files import check_writable, read_mapping
from recbole_genci.utils.layout import CONFIG_FILE, METRICS_FILE
from recbole_genci.utils.lock import only_process
from recbole_genci.utils.logs import start_console
from recbole_genci.utils.own_code import permitted_model


def run(
    model: str | type | Sequence[str | type],
    dataset: str,
    config_files: Sequence[str] | None = None,
    config_dict: dict | None = None,
    argv: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
) -> list[dict]:
    """Train and evaluate one model or several on the same rows, one after another.

    Args:
        model: a name, several separated by commas, or a list of names. A model of one's own is named ``module:Class`` or
            ``path/to/file.py:Class``, or given as the class; see ``recbole_genci.model.base``.
        dataset: the dataset's name.
        config_files: YAML files.
        config_dict: keys, stronger than the files.
        argv: ``--key=value`` words, stronger than the dict.
        callbacks: functions that are called with an ``EvaluatedEpoch`` (``recbole_genci.training.callbacks``) after each
            epoch that was evaluated. An exception in one ends the run.

    Returns:
        list of dict: what each run wrote to its ``metrics.json``, seed by seed and model by model.

    Raises:
        ValueError, FileNotFoundError: anything wrong with models, keys, files or columns; before any training.
    """
    check_callbacks(callbacks)
    plan = prepare(model, dataset, config_files, config_dict, argv)
    if callbacks and world_size(next(iter(plan.configs.values()))) > 1:
        raise ValueError("callbacks: they are called in this process, and nproc asks for others. Leave one of the two out.")
    return execute(plan, callbacks)


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
    asked = model.split(",") if isinstance(model, str) else [model] if isinstance(model, type) else model
    entries = [entry_of(each) for each in asked]
    references, names = [entry.reference for entry in entries], [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise ValueError(f"model: {', '.join(references)} names a model twice.")
    configs = {entry.name: Config(entry.reference, dataset, config_files, config_dict, argv, compared_models=references)
               for entry in entries}  # fmt: skip
    first = configs[names[0]]
    start_console(first["state"])
    for key in first.without_effect:
        logging.getLogger(__name__).warning(f"{key.name}: this key does nothing here. {key.meaning}")
    check_same_rows(configs)
    for config in configs.values():
        config.model_class.check_settings(config)
        check_for_processes(config)
        if check:
            check(config)
    tracking.check(first)
    check_dataset(first)
    for key in ("checkpoint_dir", "results_dir"):
        check_writable(Path(first[key]), key)
    reader = next((c for c in configs.values() if c.model_class.reads_semantic_ids), None)
    if reader:
        check_source(reader)

    parts = prepare_rows(first)
    semantic_ids = prepare_semantic_ids(reader, parts[0]) if reader else None
    for config in configs.values():  # a wrong setting of the last model is found before the first one trains
        try_model(config, create_loaders(config, parts, semantic_ids)[0].dataset)
    try_metrics(first, parts[1])
    command = shlex.join(["python", "run_recbole_genci.py", f"--model={','.join(references)}", f"--dataset={dataset}",
                          *config_files_words(config_files), *argv])  # fmt: skip
    return Plan(configs, parts, semantic_ids, command)


def execute(plan: Plan, callbacks: Sequence[Callback] = ()) -> list[dict]:
    """Train and evaluate the plan's models, seed by seed, and save their table; returns what ``run`` returns."""
    first = next(iter(plan.configs.values()))
    runs, seeds = [], range(first["seed"], first["seed"] + first["seeds"])
    runs_asked = [(name, seed) for seed in seeds for name in plan.configs]
    folder = None
    logging.getLogger().info(legend(first))
    try:
        for name, seed in runs_asked:
            config, folder = plan.configs[name], None
            config["seed"] = seed
            folder = None if config["offset"] else new_run_folder(config)  # which the first machine has
            heading = Heading.of(config, _place(list(plan.configs), name, seeds, seed))
            runs.append(_train(config, plan, folder, callbacks, heading))
    except KeyboardInterrupt as stop:
        stop.add_note(stopped.of_runs(runs_asked, runs, folder, world_size(first) > 1))
        raise
    except Exception:
        if runs:
            files = " ".join(str(Path(run["folder"]) / METRICS_FILE) for run in runs)
            logging.getLogger().error(f"{len(runs)} runs had finished; their table: python -m recbole_genci.report {files}")
        raise
    finally:
        for config in plan.configs.values():
            config["seed"] = seeds.start
    if first["offset"]:  # another machine has the first process, and the results
        return runs
    _save_table(runs, first, plan.command)
    return runs


def _place(names: list[str], name: str, seeds: range, seed: int) -> str:
    """Which run of how many: ``model 2 of 3, seed 2020 (1 of 1)``."""
    return (f"model {names.index(name) + 1} of {len(names)}, seed {seed} "
            f"({seeds.index(seed) + 1} of {len(seeds)})")


def _save_table(runs: list[dict], config, command: str) -> None:
    folder = new_folder(Path(config["results_dir"]), config["dataset"])
    table = save_comparison(runs, folder, command)
    logging.getLogger().info(f"Test results, also in {folder}/:\n{aligned(table)}")


def _train(config, plan: Plan, folder: Path | None, callbacks: Sequence[Callback], heading: Heading) -> dict:
    train = functools.partial(train_and_evaluate, heading=heading)
    if world_size(config) == 1:
        return train(config, plan.parts, plan.semantic_ids, folder=folder, callbacks=callbacks)
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ids = plan.semantic_ids if config.model_class.reads_semantic_ids else None
        metrics = train_together(train, config, config_as_yaml(config, ids), plan.parts, ids, folder)
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


def prepare_semantic_ids(config, part, published: bool = True) -> SemanticIDs:
    """The semantic IDs of the dataset's items; ``published`` as of `find_semantic_ids`."""
    ids = find_semantic_ids(config, part.item_file, part.field2id_token[part.iid_field][1:], published)
    torch.cuda.empty_cache()  # the encoder's, where it was on a GPU: this process keeps it while others train
    return ids


def resume(folder: str | Path, model=None, trust_code: bool = False) -> dict:
    """Go on with a run that was stopped, from its last evaluated epoch, as if it had never stopped.

    Args:
        folder: the run's folder; its ``config.yaml`` says what was asked for.
        model, trust_code: of a run of one's own model, as of ``recbole_genci.load``.

    Returns:
        dict: the content of ``metrics.json``.

    Raises:
        FileNotFoundError, ValueError: no run there, nothing to resume, or data that have changed since.
        RuntimeError: another process is training it.
    """
    return _execute_resumed(prepare_resumed(folder, (), model, trust_code), folder)


def prepare_resumed(folder: str | Path, moved: Sequence[str] = (), model=None, trust_code: bool = False) -> Plan:
    """Check that ``folder`` holds a stopped run, and prepare its data again; ``moved`` may be the word ``--data_path=...``."""
    folder = Path(folder)
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise FileNotFoundError(f"resume: {file} does not exist; give the folder of a run, saved/<model>-<dataset>-<time>.")
    asked = read_mapping(file, ["model", "dataset"], "Start the run anew.", "resume")
    if (asked.get("nproc") or 1) > 1 or (asked.get("world_size") or 1) > 1:
        raise ValueError(f"resume: {folder} was trained by several processes (nproc), of which a stopped run keeps no state. "
                         "Start it anew.")  # fmt: skip
    training_state_file(folder)
    with only_process(folder):  # which may still be training
        pass
    reference = permitted_model(asked, folder, model, trust_code, "--resume")
    command = shlex.join(["python", stopped.TRAIN, f"--resume={folder}", *moved])
    return dataclasses.replace(prepare([reference], asked["dataset"], [str(file)], argv=moved), command=command)


def _execute_resumed(plan: Plan, folder: str | Path) -> dict:
    """Train the epochs that are left, and leave the table that ``execute`` leaves."""
    (config,) = plan.configs.values()
    logging.getLogger().info(legend(config))
    try:
        run = train_and_evaluate(config, plan.parts, plan.semantic_ids, resume_folder=Path(folder))
    except KeyboardInterrupt as stop:
        stop.add_note(stopped.of_runs([(config["model"], config["seed"])], [], Path(folder)))
        raise
    _save_table([run], config, plan.command)
    return run


@interrupts.answered
def main(argv: Sequence[str]) -> int:
    """The command ``run_recbole_genci.py``: words ``--key=value``, or as ``key_value_words`` takes them.

    ``--help`` prints the keys. A request that cannot be carried out is one sentence on stderr and exit status 2, before
    anything is trained; ``--state=DEBUG`` shows where it was raised.
    """
    words = {}
    try:
        argv = key_value_words(argv)
        if any(word.startswith("--experiment=") for word in argv):
            from recbole_genci.experiments.command import main as run_experiments  # which build on this module

            return run_experiments(argv)
        if {"--help", "-h"} & set(argv):
            words = parse_argv([word for word in argv if word not in ("--help", "-h")])
            print(help_text(str(words.get("model", "GenCI")).split(","), words.get("dataset")))
            return 0
        words = parse_argv(argv)
        if "resume" in words:
            if set(words) - {"resume", "data_path", "model", "trust_code"}:
                raise ValueError(
                    "command line: --resume=<folder> stands alone, or beside --data_path where files have moved, and --model "
                    "or --trust_code for a model of one's own; the folder's config.yaml says everything else."
                )
            moved = [word for word in argv if word.startswith("--data_path=")]
            plan = prepare_resumed(str(words["resume"]), moved, words.get("model"), words.get("trust_code", False))
            work = functools.partial(_execute_resumed, plan, str(words["resume"]))
        else:
            work = functools.partial(execute, prepare_from_argv(argv))
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if str(words.get("state")).upper() == "DEBUG":
            raise
        print(f"recbole_genci: {error}", file=sys.stderr)
        return 2
    try:
        work()
    except ConnectionError as error:  # W&B could not be reached
        print(f"recbole_genci: {error}", file=sys.stderr)
        return 1
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
