"""The command ``run_hyper.py``: words ``--key=value``."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Sequence

from recbole_genci.config import parse_argv
from recbole_genci.config.command_line import key_value_words
from recbole_genci.tuning.search import (
    NoTrialFinished,
    Search,
    execute,
    prepare_resumed_search,
    prepare_search,
)
from recbole_genci.tuning.settings import Settings
from recbole_genci.tuning.trial import MachineFailed
from recbole_genci.utils import interrupts

USAGE = """\
usage: python run_hyper.py --model=NAME --dataset=NAME --params_file=FILE [--algo=exhaustive|random|bayes] [--max_evals=N]
                           [--early_stop=N] [--tool=Hyperopt|Ray] [--config_files="FILE ..."] [--key=value ...]
       python run_hyper.py --resume_search=FOLDER [--max_evals=N] [--early_stop=N]

Searches the values of some keys: trains a model with each, selects one by validation, and tests that one.

  --params_file    lines like: mu choice [0.1, 1.0] | dropout_prob uniform 0,0.5 | learning_rate loguniform -8,-3 (exponents of e)
                   | intent_layers quniform 1,5,1
  --algo           exhaustive: every combination once, in random order (default); random: without repeats; bayes: TPE, by hyperopt
  --max_evals      trials at most; by default all of an exhaustive search, else 100
  --early_stop     end after so many trials in a row without a better validation score; by default never
  --tool           Hyperopt: trials one after another (default); Ray: side by side on this machine or a cluster, the hopeless
                   ones stopped by ASHA, with --cpus_per_trial [1], --gpus_per_trial [1 with a GPU, else 0], --grace_epochs [3]
                   that a trial has before it is compared, and --ray_address of a running cluster (recbole_genci must be
                   installed on its nodes; rows and results travel through Ray, no shared folder is needed)
  --resume_search  folder of a search that was stopped, results/hyper-<model>-<dataset>-<time>; goes on as if it never had. With
                   a larger --max_evals a finished search gets more trials

Other keys as of run_recbole_genci.py, see its --help; a key that is searched cannot be fixed too.
"""
_OWN = tuple(field.name for field in dataclasses.fields(Settings))
_ON_RESUMING = ("max_evals", "early_stop", "ray_address", "cpus_per_trial", "gpus_per_trial")


@interrupts.answered
def main(argv: Sequence[str]) -> int:
    """Run the command.

    A request that cannot be carried out is one sentence on stderr and exit status 2, before
    anything is trained; ``--state=DEBUG`` shows where it was raised. A search of which no trial
    finished, or whose machine or cluster failed, has exit status 1.
    """
    words = {}
    try:
        argv = key_value_words(argv)
        if {"--help", "-h"} & set(argv):
            print(USAGE)
            return 0
        words = parse_argv(argv)
        work = functools.partial(execute, _prepare(argv, words))
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if str(words.get("state")).upper() == "DEBUG":
            raise
        print(f"recbole_genci: {error}", file=sys.stderr)
        return 2
    try:
        work()
    except (NoTrialFinished, MachineFailed, ConnectionError) as error:
        print(f"recbole_genci: {error}", file=sys.stderr)
        return 1
    return 0


def _prepare(argv: Sequence[str], words: dict) -> Search:
    settings = {name: words[name] for name in _OWN if words.get(name) is not None}
    if "resume_search" in words:
        ours = {"resume_search", "model", "trust_code", *_ON_RESUMING}
        if others := sorted(set(words) - ours):
            raise ValueError(
                "command line: --resume_search=<folder> takes "
                f"{', '.join('--' + name for name in _ON_RESUMING)} beside it, "
                "and --model or --trust_code for a model of one's own, "
                f"not --{others[0]}; the folder says everything else."
            )
        return prepare_resumed_search(
            str(words["resume_search"]),
            words.get("model"),
            words.get("trust_code", False),
            **settings,
        )
    examples = {
        "model": "--model=GenCI",
        "dataset": "--dataset=ml-100k",
        "params_file": "--params_file=hyper.test",
    }
    for key, example in examples.items():
        if not words.get(key):
            raise ValueError(f"command line: --{key} is missing, for example {example}.")
    files = str(words["config_files"]).split() if words.get("config_files") else None
    own = {f"--{key}" for key in ("config_files", *examples, *_OWN)}
    rest = [word for word in argv if word.partition("=")[0] not in own]
    model, dataset, params_file = (str(words[key]) for key in examples)
    return prepare_search(model, dataset, params_file, files, None, rest, Settings(**settings))
