"""``--experiment=NAME``: from the words of a command line, or one call, to tables and pictures."""

from __future__ import annotations

import contextlib
import logging
import shlex
import sys
from collections.abc import Sequence

from recbole_genci.config import config_files_words, parse_argv
from recbole_genci.config.command_line import key_value_words
from recbole_genci.experiments.cache import Preparation
from recbole_genci.experiments.definition import chosen, describe
from recbole_genci.experiments.outcome import Outcome
from recbole_genci.experiments.request import Asked, Request, check_request, parse_seeds
from recbole_genci.experiments.results import check_report, write_results
from recbole_genci.experiments.runner import Runner
from recbole_genci.report import aligned
from recbole_genci.tokenizer.source import check_source
from recbole_genci.training import stopped, tracking
from recbole_genci.utils import interrupts
from recbole_genci.utils.lock import only_process
from recbole_genci.utils.logs import log_file, start_console
from recbole_genci.utils.own_code import reference_of

_logger = logging.getLogger(__name__)

_OWN = ("experiment", "dataset", "models", "seeds", "config_files")
USAGE = """\
usage: python run_recbole_genci.py --experiment=NAME --dataset=NAME [--seeds=N] [--models=NAME,NAME...] [--key=value ...]

Trains what the experiment needs, and writes results/NAME-DATASET/: table.md, table.csv, pictures, and runs.jsonl with a line
for every run. Runs that have finished are kept: the same command, started again, goes on where it was stopped. A run that
another experiment of the same results folder needs too is trained once. --experiment=all runs all of them. Other keys as of
--help without --experiment; they count for every line of the table, a line's own keys apart.

"""


def experiment(
    name: str,
    dataset: str,
    models: Sequence[str | type] | None = None,
    seeds: int | None = None,
    config_files: Sequence[str] | None = None,
    config_dict: dict | None = None,
    argv: Sequence[str] = (),
) -> list[Outcome]:
    """Run an experiment of ``properties/experiment/``, or ``all`` of them, and write
    ``results/NAME-DATASET/``.

    Args:
        name: of the experiment.
        dataset: the dataset's name.
        models: for experiments over models, instead of the definition's; one's own as of
            ``recbole_genci.run``.
        seeds: how many, instead of the definition's.
        config_files, config_dict, argv: as of ``recbole_genci.run``; for every line, whose own keys
            beat them.

    Returns:
        list: the outcome of each experiment. Failed runs are in ``outcome.failed()``; they end
            nothing.

    Raises:
        ValueError, FileNotFoundError, ImportError: a request that cannot be carried out; before any
            training.
    """
    models = [reference_of(model) for model in models] if models else None
    words = [*(f"--{key}={value}" for key, value in (config_dict or {}).items()), *argv]
    command = _command(name, dataset, models, seeds, config_files, words)
    asked = Asked(dataset, models, parse_seeds(seeds), config_files, config_dict, argv, command)
    return [execute(request, preparation) for request, preparation in _prepare(name, asked)]


def _prepare(name: str, asked: Asked) -> list[tuple[Request, Preparation]]:
    definitions = chosen(name)
    requests = [
        check_request(each, asked, [other for other in definitions if other is not each])
        for each in definitions
    ]
    preparation = Preparation()
    start_console(requests[0].config["state"])
    tracking.check(requests[0].config)
    for request in requests:
        _check_semantic_ids(request)
    parts, _ = preparation.rows(
        requests[0].config
    )  # a missing file or column is a refused request too
    return [
        (request, preparation)
        for request in requests
        if _can_be_reported(request, parts, alone=len(requests) == 1)
    ]


def _check_semantic_ids(request: Request) -> None:
    """Say before rows are read that semantic IDs cannot be had. Where lines are about how they are
    made, the others go on.
    """
    makes_ids, failed = request.definition.makes_semantic_ids(), set()
    for line in request.lines:
        config = request.configs[line.name]
        if (
            not getattr(config.model_class, "reads_semantic_ids", False)
            or config["text_encoder"] in failed
        ):
            continue
        try:
            check_source(config, published=not makes_ids)
        except (OSError, ImportError, RuntimeError) as error:
            if not makes_ids:
                raise
            failed.add(config["text_encoder"])
            _logger.warning(
                f"Experiment {request.definition.name}: the line {line.name} will fail. {error}"
            )


def _can_be_reported(request: Request, parts, alone: bool) -> bool:
    """Whether models and rows have what the experiment measures. One among many that lacks it is
    left out, with a warning.
    """
    try:
        check_report(request, parts)
    except ValueError as error:
        if alone:
            raise
        _logger.warning(f"Experiment {request.definition.name} is left out. {error}")
        return False
    return True


def execute(request: Request, preparation: Preparation) -> Outcome:
    """Train what is not there yet, and write the results.

    Raises:
        RuntimeError: another process is at it.
    """
    try:
        return _execute(request, preparation)
    except KeyboardInterrupt as stop:
        stop.add_note(stopped.go_on(stopped.TRAIN, shlex.split(request.command)[2:]))
        raise


def _execute(request: Request, preparation: Preparation) -> Outcome:
    with only_process(request.folder), log_file(request.folder / "experiment.log"):
        runner = Runner(request, preparation)
        outcome = Outcome(request, runner.run(), runner.parts, runner.records)
        text = write_results(outcome)
        _logger.info(f"Everything is in {request.folder}/.\n{aligned(text)}")
    return outcome


def _command(name, dataset, models, seeds, config_files, argv) -> str:
    words = [f"--experiment={name}", f"--dataset={dataset}"]
    words += [f"--models={','.join(models)}"] if models else []
    words += [f"--seeds={seeds}"] if seeds is not None else []
    words += config_files_words(config_files)
    return shlex.join(["python", "run_recbole_genci.py", *words, *argv])


@interrupts.answered
def main(argv: Sequence[str]) -> int:
    """The command line with ``--experiment``.

    A request that cannot be carried out is one sentence on stderr and exit status 2, before
    anything is trained. Status 1 says that a run has failed; all others have finished, and the
    table says which.
    """
    words = {}
    try:
        argv = key_value_words(argv)
        help_wanted = {"--help", "-h"} & set(argv)
        words = parse_argv([word for word in argv if word not in ("--help", "-h")])
        if help_wanted:
            print(USAGE + describe(str(words["experiment"])))
            return 0
        asked = _asked(argv, words)
        work = _prepare(str(words["experiment"]), asked)
        with (
            contextlib.ExitStack() as stack
        ):  # that none of them is being run is known before the first one trains
            for request, _ in work:
                stack.enter_context(only_process(request.folder))
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if str(words.get("state")).upper() == "DEBUG":
            raise
        print(f"recbole_genci: {error}", file=sys.stderr)
        return 2
    failed = [
        run for request, preparation in work for run in execute(request, preparation).failed()
    ]
    if failed:
        first = failed[0]
        print(
            f"recbole_genci: {len(failed)} runs failed; the first, {first['model']} seed "
            f"{first['seed']}: {first['error']}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _asked(argv: Sequence[str], words: dict) -> Asked:
    name = words["experiment"]
    if not words.get("dataset"):
        raise ValueError("command line: --dataset is missing, for example --dataset=ml-100k.")
    if "model" in words:
        raise ValueError(
            f"model: --experiment={name} trains the models of its table; choose among them by "
            "--models, for example "
            "--models=LR,DeepFM,GenCI."
        )
    if "resume" in words:
        raise ValueError(
            f"resume: --experiment={name} goes on by itself where it was stopped; leave --resume "
            "out."
        )
    models = (
        [model.strip() for model in str(words["models"]).split(",")]
        if words.get("models")
        else None
    )
    files = str(words["config_files"]).split() if words.get("config_files") else None
    rest = [word for word in argv if word[2:].partition("=")[0] not in _OWN]
    seeds = parse_seeds(words.get("seeds"))
    return Asked(
        str(words["dataset"]),
        models,
        seeds,
        files,
        None,
        rest,
        _command(name, words["dataset"], models, seeds, files, rest),
    )
