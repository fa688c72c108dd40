"""One call: prepare the rows, give the items semantic IDs, train, evaluate, report."""

from __future__ import annotations

import contextlib
import functools
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from recbole_genci.config import Config
from recbole_genci.plan import Plan, prepare, prepare_resumed
from recbole_genci.report import aligned, save_comparison
from recbole_genci.results import Results, RunResult
from recbole_genci.training import stopped
from recbole_genci.training.callbacks import Callback, check_callbacks
from recbole_genci.training.console import Heading, legend
from recbole_genci.training.launch import train_together, world_size
from recbole_genci.training.run import (
    config_as_yaml,
    new_folder,
    new_run_folder,
    train_and_evaluate,
)
from recbole_genci.utils.layout import METRICS_FILE


def run(
    model: str | type | Sequence[str | type],
    dataset: str,
    config_files: Sequence[str] | None = None,
    config_dict: dict | None = None,
    argv: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
) -> Results:
    """Train and evaluate one model or several on the same rows, one after another.

    Args:
        model: a name, several separated by commas, or a list of names. A model of one's own is
            named ``module:Class`` or ``path/to/file.py:Class``, or given as the class; see
            ``recbole_genci.model.base``.
        dataset: the dataset's name.
        config_files: YAML files.
        config_dict: keys, stronger than the files.
        argv: ``--key=value`` words, stronger than the dict.
        callbacks: functions that are called with an ``EvaluatedEpoch``
            (``recbole_genci.training.callbacks``) after each epoch that was evaluated. An exception
            in one ends the run.

    Returns:
        Results: a sequence of ``RunResult``, seed by seed and model by model; ``.table`` compares
        them. See ``recbole_genci.results``.

    Raises:
        ValueError, FileNotFoundError: anything wrong with models, keys, files or columns; before
            any training.

    Example:
        >>> runs = run("DeepFM,GenCI", "ml-100k", config_dict={"epochs": 5})
        >>> runs.table                       # a line a model, as results/ml-100k-<time>/table.csv
        >>> runs[-1].test["auc"], runs[-1].folder
        >>> runs.best("auc").load().predict("test")     # the best by validation, brought back
    """
    check_callbacks(callbacks)
    plan = prepare(model, dataset, config_files, config_dict, argv)
    if callbacks and world_size(next(iter(plan.configs.values()))) > 1:
        raise ValueError(
            "callbacks: they are called in this process, and nproc asks for others. Leave one of "
            "the two out."
        )
    return execute(plan, callbacks)


def execute(plan: Plan, callbacks: Sequence[Callback] = ()) -> Results:
    """Train and evaluate the plan's models, seed by seed, and save their table; returns what
    ``run`` returns.
    """
    first = next(iter(plan.configs.values()))
    runs, seeds = [], range(first["seed"], first["seed"] + first["seeds"])
    runs_asked = [(name, seed) for seed in seeds for name in plan.configs]
    folder = None
    logging.getLogger().info(legend(first))
    try:
        for name, seed in runs_asked:
            config, folder = plan.configs[name], None
            config["seed"] = seed
            folder = (
                None if config["offset"] else new_run_folder(config)
            )  # which the first machine has
            heading = Heading.of(config, _place(list(plan.configs), name, seeds, seed))
            runs.append(_train(config, plan, folder, callbacks, heading))
    except KeyboardInterrupt as stop:
        stop.add_note(stopped.of_runs(runs_asked, runs, folder, world_size(first) > 1))
        raise
    except Exception:
        if runs:
            files = " ".join(str(Path(run["folder"]) / METRICS_FILE) for run in runs)
            logging.getLogger().error(
                f"{len(runs)} runs had finished; their table: python -m recbole_genci.report "
                f"{files}"
            )
        raise
    finally:
        for config in plan.configs.values():
            config["seed"] = seeds.start
    # With an offset, another machine has the first process, and the results.
    table = None if first["offset"] else _save_table(runs, first, plan.command)
    return Results(tuple(map(RunResult.of, runs)), table, plan.command)


def _place(names: list[str], name: str, seeds: range, seed: int) -> str:
    """Which run of how many: ``model 2 of 3, seed 2020 (1 of 1)``."""
    return (
        f"model {names.index(name) + 1} of {len(names)}, seed {seed} "
        f"({seeds.index(seed) + 1} of {len(seeds)})"
    )


def _save_table(runs: list[dict], config, command: str) -> Path:
    folder = new_folder(Path(config["results_dir"]), config["dataset"])
    table = save_comparison(runs, folder, command)
    logging.getLogger().info(f"Test results, also in {folder}/:\n{aligned(table)}")
    return folder


def _train(
    config: Config, plan: Plan, folder: Path | None, callbacks: Sequence[Callback], heading: Heading
) -> dict:
    train = functools.partial(train_and_evaluate, heading=heading)
    if world_size(config) == 1:
        return train(config, plan.parts, plan.semantic_ids, folder=folder, callbacks=callbacks)
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ids = plan.semantic_ids if config.model_class.reads_semantic_ids else None
        metrics = train_together(
            train, config, config_as_yaml(config, ids), plan.parts, ids, folder
        )
    return metrics | {"folder": str(folder)}


def resume(folder: str | Path, model=None, trust_code: bool = False) -> RunResult:
    """Go on with a run that was stopped, from its last evaluated epoch, as if it had never stopped.

    Args:
        folder: the run's folder; its ``config.yaml`` says what was asked for.
        model, trust_code: of a run of one's own model, as of ``recbole_genci.load``.

    Returns:
        RunResult: the finished run.

    Raises:
        FileNotFoundError, ValueError: no run there, nothing to resume, or data that have changed
            since.
        RuntimeError: another process is training it.
    """
    return execute_resumed(prepare_resumed(folder, (), model, trust_code), folder)


def execute_resumed(plan: Plan, folder: str | Path) -> RunResult:
    """Train the epochs that are left, and leave the table that ``execute`` leaves."""
    (config,) = plan.configs.values()
    logging.getLogger().info(legend(config))
    try:
        run = train_and_evaluate(config, plan.parts, plan.semantic_ids, resume_folder=Path(folder))
    except KeyboardInterrupt as stop:
        stop.add_note(stopped.of_runs([(config["model"], config["seed"])], [], Path(folder)))
        raise
    _save_table([run], config, plan.command)
    return RunResult.of(run)
