"""The commands: words in, exit status out."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from recbole_genci.utils import interrupts
from recbole_genci.utils.answers import Work, answering
from recbole_genci.utils.imports import uncollected

if TYPE_CHECKING:
    from recbole_genci.plan import Plan

_OPTIONS = ("resume", "experiment", "trust_code")


def train() -> None:
    """``run_recbole_genci``: train and evaluate models, or run an experiment."""
    interrupts.end_at_once()
    sys.exit(main(sys.argv[1:]))


def tune() -> None:
    """``run_hyper``: search hyper-parameters."""
    interrupts.end_at_once()
    with uncollected(own_process=True):
        from recbole_genci.tuning.command import main as search

    sys.exit(search(sys.argv[1:]))


@answering
def main(argv: Sequence[str]) -> Work:
    """Run the command ``run_recbole_genci.py``.

    ``--help`` prints the keys. A wrong request ends before any training, with one sentence on
    stderr and exit status 2; training that fails has exit status 1. ``--state=DEBUG`` shows the
    traceback.

    Args:
        argv: words ``--key=value``, or another form that ``key_value_words`` reads.

    Returns:
        int: the exit status.
    """
    # These imports take seconds. Inside `answering` a signal meanwhile gets an answer in words.
    with uncollected(own_process=True):
        from recbole_genci.config import parse_argv
        from recbole_genci.config.command_line import HELP, key_value_words
        from recbole_genci.config.help import help_text
        from recbole_genci.config.unknown_keys import check_words
        from recbole_genci.experiments.command import main as run_experiments
        from recbole_genci.plan import prepare_resumed
        from recbole_genci.quick_start import execute, execute_resumed

    argv = key_value_words(argv)
    if any(word.startswith("--experiment=") for word in argv):
        return functools.partial(run_experiments, argv)
    if set(HELP) & set(argv):
        words = parse_argv([word for word in argv if word not in HELP])
        models = [model.strip() for model in str(words.get("model", "GenCI")).split(",")]
        check_words(words, _OPTIONS, models, words.get("dataset"))
        print(help_text(models, words.get("dataset")))
        return lambda: 0
    words = parse_argv(argv)
    if "resume" not in words:
        plan = prepare_from_argv(argv)
        return functools.partial(_done, execute, plan)
    if set(words) - {"resume", "data_path", "model", "trust_code"}:
        raise ValueError(
            "command line: --resume=<folder> stands alone; only --data_path (where the files have "
            "moved) and, for a model of your own, --model or --trust_code may stand beside it. "
            "The folder's config.yaml says everything else."
        )
    moved = [word for word in argv if word.startswith("--data_path=")]
    folder = str(words["resume"])
    plan = prepare_resumed(folder, moved, words.get("model"), words.get("trust_code", False))
    return functools.partial(_done, execute_resumed, plan, folder)


def _done(work: Callable, *arguments: object) -> int:
    from recbole_genci.utils.logs import print_if_quiet

    print_if_quiet(work(*arguments))
    return 0


def prepare_from_argv(argv: Sequence[str]) -> Plan:
    """Call ``prepare`` with the words of a command line, which must name model and dataset."""
    from recbole_genci.config import parse_argv
    from recbole_genci.config.command_line import missing_word
    from recbole_genci.plan import prepare

    words = parse_argv(argv)
    for key, example in {"model": "--model=GenCI", "dataset": "--dataset=ml-100k"}.items():
        if not words.get(key):
            raise missing_word(key, example, words)
    files = str(words["config_files"]).split() if words.get("config_files") else None
    arguments = ("--model", "--dataset", "--config_files")
    keys = [word for word in argv if word.partition("=")[0] not in arguments]
    return prepare(str(words["model"]), str(words["dataset"]), files, argv=keys)
