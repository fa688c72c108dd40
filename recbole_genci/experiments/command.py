"""``--experiment=NAME``: run an experiment from a command line or from Python."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from safetensors import SafetensorError

from recbole_genci.comparison.text_tables import aligned
from recbole_genci.config import known_keys, parse_argv
from recbole_genci.config.as_command import as_command
from recbole_genci.config.command_line import HELP, key_value_words, missing_word
from recbole_genci.config.unknown_keys import check_words
from recbole_genci.config.words import check_dict
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.experiments import packing
from recbole_genci.experiments.cache import DataCache
from recbole_genci.experiments.definition import Definition, chosen, describe
from recbole_genci.experiments.outcome import Outcome
from recbole_genci.experiments.request import (
    ExperimentArguments,
    Request,
    check_request,
    parse_seeds,
)
from recbole_genci.experiments.results import check_report, write_results
from recbole_genci.experiments.runner import Runner
from recbole_genci.model.registry import known_models
from recbole_genci.plan import (
    say_what_is_unread,
    warn_of_files_of_other_models,
    warn_of_unread_keys,
)
from recbole_genci.results import ExperimentResult
from recbole_genci.tokenizer.source import check_source
from recbole_genci.training import stopped
from recbole_genci.training.own_checks import try_metrics
from recbole_genci.training.tracking.tracked_run import check_trackers
from recbole_genci.utils.answers import Work, answering
from recbole_genci.utils.lock import only_process
from recbole_genci.utils.logs import log_file, print_if_quiet, start_console
from recbole_genci.utils.own_code import reference_of
from recbole_genci.utils.scripts import TRAIN, words_of
from recbole_genci.utils.words import counted

_logger = logging.getLogger(__name__)

_Name = TypeVar("_Name")
_EMPTY = {
    "models": "Name models, for example --models=LR,DeepFM, or leave --models out for all lines of "
    "the table.",
    "against": "Name lines of the table, for example --against=DeepFM, or leave --against out.",
}
_ARGUMENTS = ("experiment", "dataset", "models", "against", "seeds", "config_files", "pack")
USAGE = """\
usage: python run_recbole_genci.py --experiment=NAME --dataset=NAME [--seeds=N]
                                   [--models=NAME,NAME...] [--against=NAME,NAME...]
                                   [--pack=all|shown] [--key=value ...]

Makes a table or figure of the paper: trains what it needs, and writes results/NAME-DATASET/:
report.html for a browser, table.md, table.csv, table.tex, pictures, and runs.jsonl with one line
for every run. Finished runs are kept: after a stop, the same command continues. If two experiments
in one results folder need the same run, it is trained once. --experiment=all runs all experiments.

--against=MyNet compares the line MyNet with every other, by paired differences with intervals, in
place of GenCI (compare, volatility).

--pack=all then puts the test scores of all runs of the folder into one small file, from which the
command makes its tables again without training. --pack=shown also drops the records of runs that
no table of the results folder shows.

All other keys are listed by --help without --experiment; they apply to every line of the table,
except where a line sets the key itself.

"""


def experiment(
    name: str,
    dataset: str,
    models: str | type | Sequence[str | type] | None = None,
    seeds: int | None = None,
    config_files: Sequence[str] | None = None,
    config_dict: dict | None = None,
    argv: Sequence[str] = (),
    pack: str | None = None,
    against: str | type | Sequence[str | type] | None = None,
) -> list[ExperimentResult]:
    """Run an experiment of ``properties/experiment/``, or ``all``, into ``results/NAME-DATASET/``.

    Args:
        name: name of the experiment.
        dataset: the dataset's name.
        models: models that replace the definition's, if the experiment compares models; named as
            for ``recbole_genci.run``.
        seeds: number of seeds that replaces the definition's.
        config_files, config_dict, argv: as for ``recbole_genci.run``. They apply to every variant
            of the experiment; keys that a variant sets itself win.
        pack: ``all`` or ``shown``, see ``--help --experiment=all``.
        against: the lines that are compared with every other, by paired differences with intervals;
            GenCI by default. For experiments that compare models.

    Returns:
        list of ExperimentResult: one of each experiment, see ``recbole_genci.results``. Failed runs
            are in its ``failed``; they end nothing but for a machine that fails (a full disk).

    Raises:
        ValueError, FileNotFoundError, ImportError: the request is wrong; raised before any
            training.

    Examples:
        >>> (result,) = experiment("ablation", "ml-100k", seeds=3)
        >>> result.table                               # as results/ablation-ml-100k/table.csv
        >>> result.variants["w/o SR"][0].test["auc"]   # of its first seed
    """
    if config_dict is not None:
        check_dict(config_dict)
    names, ones = _references("models", models), _references("against", against)
    command = _command(name, dataset, names, ones, seeds, config_files, config_dict, argv)
    arguments = ExperimentArguments(
        dataset=dataset,
        models=names,
        seeds=parse_seeds(seeds),
        config_files=config_files,
        config_dict=config_dict,
        argv=argv,
        command=command,
        pack=_pack(pack),
        against=ones,
    )
    work = prepare(chosen(name), arguments)
    return [execute(request, work.cache).result() for request in work.requests]


def _references(key: str, models: str | type | Sequence[str | type] | None) -> list[str] | None:
    """``models`` or ``against`` by name or reference; None if it is not given."""
    if models is None:
        return None
    if isinstance(models, str):
        models = _split(models)
    elif isinstance(models, type):
        models = [models]
    return [reference_of(model) for model in _some(key, models)]


def _split(names: str) -> list[str]:
    """The names of a text with commas; none of a blank one."""
    return [name.strip() for name in names.split(",")] if names.strip() else []


def _some(key: str, names: Sequence[_Name]) -> Sequence[_Name]:
    """The same names; ValueError if there are none, of which nothing could be meant."""
    if not names:  # a shell's variable or a filtered list, perhaps; all lines take hours
        raise ValueError(f"{key}: it is empty. {_EMPTY[key]}")
    return names


@dataclass(frozen=True)
class Prepared:
    """Experiments that are checked. Only ``execute`` is left to do.

    Attributes:
        requests: those that can be carried out.
        cache: the rows that all of them share.
    """

    requests: list[Request]
    cache: DataCache


def prepare(definitions: Sequence[Definition], arguments: ExperimentArguments) -> Prepared:
    """Check everything that ``execute`` needs, and read the rows.

    Raises:
        ValueError, FileNotFoundError, ImportError: the arguments are wrong.
    """
    requests = [
        check_request(each, arguments, [other for other in definitions if other is not each])
        for each in definitions
    ]
    cache = DataCache()
    start_console(requests[0].config["state"])
    check_trackers(requests[0].config)
    configs = [each for request in requests for each in request.configs.values()]
    warn_of_unread_keys(_unread_keys(requests))
    warn_of_files_of_other_models(configs)
    for request in requests:
        _check_semantic_ids(request)
    # Reads the rows, since a missing file or column must end the command before any training.
    parts, _ = cache.rows(requests[0].config)
    say_what_is_unread({each["model"]: each for each in configs}, parts[0])
    if any(request.variants for request in requests):
        try_metrics(requests[0].config, parts[1])
    alone = len(requests) == 1
    return Prepared([each for each in requests if _can_be_reported(each, parts, alone)], cache)


def _unread_keys(requests: Sequence[Request]) -> dict[str, str]:
    """The keys that a person has set and no line reads, each with why.

    A line may switch a key off, which others read.
    """
    lines = [
        (line, request.configs[line.name]) for request in requests for line in request.variants
    ]
    found = {
        key: why
        for line, config in lines
        for key, why in config.without_effect.items()
        if key not in line.keys
    }
    return {
        key: why
        for key, why in found.items()
        if all(
            key in config.without_effect
            for _, config in lines
            if key in known_keys([config.model_reference], config["dataset"])
        )
    }


def _check_semantic_ids(request: Request) -> None:
    """Check before rows are read that semantic IDs can be made.

    If the variants differ in how IDs are made, a variant without IDs is a warning; the others run.
    """
    makes_ids, failed = request.definition.makes_semantic_ids(), set()
    for variant in request.variants:
        config = request.configs[variant.name]
        if not config.model_class.reads_semantic_ids or config["text_encoder"] in failed:
            continue
        try:
            check_source(config, published=not makes_ids)
        except (OSError, ImportError, RuntimeError) as error:
            if not makes_ids:
                raise
            failed.add(config["text_encoder"])
            _logger.warning(
                f"Experiment {request.definition.name}: the line {variant.name} will fail. {error}"
            )


def _can_be_reported(request: Request, parts: Sequence[CTRDataset], alone: bool) -> bool:
    """Whether the models and rows allow the experiment's report.

    If not, an experiment among several is left out with a warning; a single one is an error.
    """
    try:
        check_report(request, parts)
    except ValueError as error:
        if alone:
            raise
        _logger.warning(f"Experiment {request.definition.name} is left out. {error}")
        return False
    return True


def execute(request: Request, cache: DataCache) -> Outcome:
    """Train the runs that are missing, and write the results.

    Raises:
        RuntimeError: another process runs the experiment in the same folder.
    """
    try:
        return _execute(request, cache)
    except (KeyboardInterrupt, OSError, MemoryError, SafetensorError) as stop:
        words = words_of(request.command)
        words += [f"--pack={request.pack}"] if request.pack else []
        stop.add_note(stopped.go_on(TRAIN, words))
        raise


def _execute(request: Request, cache: DataCache) -> Outcome:
    with only_process(request.folder), log_file(request.folder / "experiment.log"):
        runner = Runner(request, cache)
        runs = runner.run()
        outcome = Outcome(request, runs, runner.parts, runner.records, runner.semantic_ids)
        text = write_results(outcome)
        _logger.info(f"Everything is in {request.folder}/.\n{aligned(text)}")
        if request.pack:  # last, so that the table is seen whatever packing says
            packing.pack(outcome, request.pack)
    return outcome


def _command(
    name: str,
    dataset: str,
    models: Sequence[str] | None,
    against: Sequence[str] | None,
    seeds: object,
    config_files: Sequence[str] | None,
    config_dict: dict | None,
    argv: Sequence[str],
) -> str:
    words = [f"--experiment={name}", f"--dataset={dataset}"]
    words += [f"--models={','.join(models)}"] if models else []
    words += [f"--against={','.join(against)}"] if against else []
    words += [f"--seeds={seeds}"] if seeds is not None else []
    references = [*(models or ()), *(against or ())]
    return as_command(TRAIN, words, references, config_files, config_dict, argv)


@answering
def main(argv: Sequence[str]) -> Work:
    """Run the command line with ``--experiment``; return the exit status.

    A wrong request ends before any training, with one sentence on stderr and status 2. Status 1
    means that at least one run failed; all others have finished, and the table says which, unless
    the machine failed.
    """
    argv = key_value_words(argv)
    help_wanted = set(HELP) & set(argv)
    words = parse_argv([word for word in argv if word not in HELP])
    if help_wanted:
        check_words(words, _ARGUMENTS, known_models(), words.get("dataset"))
        print(USAGE + describe(str(words["experiment"])))
        return lambda: 0
    work = prepare(chosen(str(words["experiment"])), _parsed(argv, words))
    # Check all folders before the first run trains: another process may be using one.
    with contextlib.ExitStack() as stack:
        for request in work.requests:
            stack.enter_context(only_process(request.folder))
    return functools.partial(_done, work)


def _done(work: Prepared) -> int:
    failed = []
    for request in work.requests:
        outcome = execute(request, work.cache)
        print_if_quiet(outcome.result())
        failed += outcome.failed()
    if failed:
        first = failed[0]
        print(
            f"recbole_genci: {counted(len(failed), 'run')} failed; the first, {first['model']} "
            f"seed {first['seed']}: {first['error']}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _parsed(argv: Sequence[str], words: dict) -> ExperimentArguments:
    name = words["experiment"]
    if not words.get("dataset"):
        raise missing_word("dataset", "--dataset=ml-100k", words)
    if "model" in words:
        raise ValueError(
            f"model: --experiment={name} trains the models of its table; choose among them by "
            "--models, for example --models=LR,DeepFM,GenCI."
        )
    if "resume" in words:
        raise ValueError(
            f"resume: --experiment={name} resumes by itself where it was stopped; leave out "
            "--resume."
        )
    models, against = (
        None if words.get(key) is None else list(_some(key, _split(str(words[key]))))
        for key in ("models", "against")
    )
    files = str(words["config_files"]).split() if words.get("config_files") else None
    keys = [word for word in argv if word[2:].partition("=")[0] not in _ARGUMENTS]
    seeds = parse_seeds(words.get("seeds"))
    return ExperimentArguments(
        dataset=str(words["dataset"]),
        models=models,
        seeds=seeds,
        config_files=files,
        argv=keys,
        command=_command(name, words["dataset"], models, against, seeds, files, None, keys),
        pack=_pack(words.get("pack")),
        against=against,
    )


def _pack(value: object) -> str | None:
    """``--pack``, checked."""
    if value is None or value in packing.CHOICES:
        return value
    raise ValueError(
        f"pack: '{value}' is neither {packing.ALL} nor {packing.SHOWN}; see --help "
        "--experiment=all."
    )
