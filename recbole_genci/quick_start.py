"""One call: prepare the rows, give the items semantic IDs, train, evaluate, report."""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from recbole_genci.comparison.files import save_comparison
from recbole_genci.comparison.text_tables import aligned
from recbole_genci.config import Config
from recbole_genci.config.protocol import world_size
from recbole_genci.plan import Plan, prepare, prepare_resumed
from recbole_genci.results import Results, RunResult
from recbole_genci.tokenizer.source import item_texts
from recbole_genci.training import stopped
from recbole_genci.training.callbacks import Callback, calling, check_callbacks
from recbole_genci.training.console import Heading, legend, sources_of
from recbole_genci.training.launch import train_together
from recbole_genci.training.run import train_and_evaluate
from recbole_genci.training.run_folder import config_as_yaml, new_folder, new_run_folder
from recbole_genci.utils.layout import CONFIG_FILE
from recbole_genci.webpage.cohorts import cohort_browser

_logger = logging.getLogger(__name__)


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
        model: a name, several separated by commas, or a list of names. Name a model of your own
            ``module:Class`` or ``path/to/file.py:Class``, or give its class; see
            ``recbole_genci.model.base``.
        dataset: the dataset's name.
        config_files: YAML files.
        config_dict: keys that override the files.
        argv: ``--key=value`` words that override the dict.
        callbacks: functions that are called with an ``EvaluatedEpoch``
            (``recbole_genci.training.callbacks``) after each evaluated epoch. Random numbers
            that one draws do not change the run. An exception in one ends the run.

    Returns:
        Results: a sequence of ``RunResult``, seed by seed and model by model; ``.table`` compares
        them. See ``recbole_genci.results``.

    Raises:
        ValueError, FileNotFoundError: a model, key, file or column is wrong; raised before any
            training.

    Examples:
        >>> runs = run("DeepFM,GenCI", "ml-100k", config_dict={"epochs": 5})
        >>> runs.table                       # a line a model, as results/ml-100k-<time>/table.csv
        >>> runs[-1].test["auc"], runs[-1].folder
        >>> runs.best("auc").load().predict("test")     # the best by validation, brought back
    """
    check_callbacks(callbacks)
    plan = prepare(model, dataset, config_files, config_dict, argv)
    if callbacks and world_size(next(iter(plan.configs.values()))) > 1:
        raise ValueError(
            "callbacks: they are called in this process, but nproc starts others. Leave out either "
            "callbacks or nproc."
        )
    return execute(plan, callbacks)


def execute(plan: Plan, callbacks: Sequence[Callback] = ()) -> Results:
    """Train and evaluate the plan's models, seed by seed, and save their table.

    Returns:
        Results: as ``run``.
    """
    first = next(iter(plan.configs.values()))
    runs, seeds = [], range(first["seed"], first["seed"] + first["seeds"])
    planned = [(name, seed) for seed in seeds for name in plan.configs]
    folder = None
    _logger.info(legend(plan.configs))
    try:
        for name, seed in planned:
            config, folder = plan.configs[name], None
            config["seed"] = seed
            folder = None if config["offset"] else new_run_folder(config)  # on the first machine
            heading = Heading.of(config, _place(list(plan.configs), name, seeds, seed))
            runs.append(_train(config, plan, folder, callbacks, heading))
        folder = None
        # With an offset, the first machine writes the results.
        table = None if first["offset"] else _save_table(runs, first, plan)
    except (KeyboardInterrupt, Exception) as stop:
        references = {name: each.model_reference for name, each in plan.configs.items()}
        together = world_size(first) > 1
        error = None if isinstance(stop, KeyboardInterrupt) else stop
        if folder is not None and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # the processes did not even meet
            folder = None
        if advice := stopped.of_runs(planned, runs, folder, together, references, error):
            stop.add_note(advice)
        raise
    finally:
        for config in plan.configs.values():
            config["seed"] = seeds.start
    return Results(tuple(map(RunResult.of, runs)), table, plan.command)


def _place(names: list[str], name: str, seeds: range, seed: int) -> str:
    """Say which run this is: ``model 2 of 3, seed 2020 (1 of 1)``."""
    return (
        f"model {names.index(name) + 1} of {len(names)}, seed {seed} "
        f"({seeds.index(seed) + 1} of {len(seeds)})"
    )


def _save_table(runs: list[dict], config: Config, plan: Plan) -> Path:
    folder = new_folder(Path(config["results_dir"]), config["dataset"])
    cohorts = None
    if plan.semantic_ids is not None:
        texts = item_texts(config, plan.semantic_ids, plan.parts[0].item_file)
        cohorts = cohort_browser(plan.semantic_ids, texts)
    try:
        table, beside = save_comparison(runs, folder, plan.command, cohorts)
    except BaseException:  # a table without its page would look whole
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _logger.info(f"Test results, also in {folder}/:\n{aligned(table)}")
    for note in beside:
        _logger.info(note)
    return folder


def _train(
    config: Config, plan: Plan, folder: Path | None, callbacks: Sequence[Callback], heading: Heading
) -> dict:
    train = functools.partial(train_and_evaluate, heading=heading)
    if world_size(config) == 1:
        assert folder is not None
        after_epoch = calling(callbacks, config, folder)
        return train(config, plan.parts, plan.semantic_ids, folder=folder, after_epoch=after_epoch)
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ids = plan.semantic_ids if config.model_class.reads_semantic_ids else None
        metrics = train_together(
            train, config, config_as_yaml(config, ids), plan.parts, ids, folder
        )
    return metrics | {"folder": str(folder)}


def resume(
    folder: str | Path, model: str | type | None = None, trust_code: bool = False
) -> RunResult:
    """Resume a stopped run after its last evaluated epoch; results are those of an unstopped run.

    Args:
        folder: the run's folder, whose ``config.yaml`` holds the configuration.
        model, trust_code: for a run of a model of your own, as for ``recbole_genci.load``.

    Returns:
        RunResult: the finished run.

    Raises:
        FileNotFoundError, ValueError: the folder holds no run or nothing to resume, or the data
            have changed since.
        RuntimeError: another process is training the run.
    """
    return execute_resumed(prepare_resumed(folder, (), model, trust_code), folder)


def execute_resumed(plan: Plan, folder: str | Path) -> RunResult:
    """Train the remaining epochs, and save the table that ``execute`` saves."""
    (config,) = plan.configs.values()
    folder = Path(folder)
    _logger.info(legend(plan.configs))
    heading = Heading.of(
        config, sources=sources_of(config, folder / CONFIG_FILE, "the run's config.yaml")
    )
    runs = []
    try:
        runs.append(
            train_and_evaluate(
                config, plan.parts, plan.semantic_ids, folder=folder, resumes=True, heading=heading
            )
        )
        _save_table(runs, config, plan)
    except (KeyboardInterrupt, Exception) as stop:
        name = config["model"]
        references = {name: config.model_reference}
        planned = [(name, config["seed"])]
        error = None if isinstance(stop, KeyboardInterrupt) else stop
        advice = stopped.of_runs(planned, runs, folder, references=references, error=error)
        stop.add_note(advice)
        raise
    return RunResult.of(runs[0])
