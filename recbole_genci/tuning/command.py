"""The command ``run_hyper.py``: words ``--key=value``."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from recbole_genci.config import parse_argv
from recbole_genci.config.command_line import HELP, key_value_words, missing_word
from recbole_genci.config.unknown_keys import check_words
from recbole_genci.model.registry import known_models
from recbole_genci.tuning.search import (
    Search,
    execute,
    prepare_resumed_search,
    prepare_search,
)
from recbole_genci.tuning.settings import Settings
from recbole_genci.utils.answers import Work, answering
from recbole_genci.utils.logs import print_if_quiet

USAGE = """\
usage: python run_hyper.py --model=NAME --dataset=NAME --params_file=FILE
                           [--algo=exhaustive|random|bayes] [--max_evals=N] [--early_stop=N]
                           [--tool=Hyperopt|Ray] [--config_files="FILE ..."] [--key=value ...]
       python run_hyper.py --resume_search=FOLDER [--max_evals=N] [--early_stop=N]

Searches for good values of some keys: trains a model with each combination (a trial), selects the
one with the best validation score, and tests only that one.

  --params_file    a file with one key per line, for example:
                     mu choice [0.1, 1.0]
                     dropout_prob uniform 0,0.5
                     learning_rate loguniform -8,-3     (from e^-8 to e^-3)
                     intent_layers quniform 1,5,1       (rounded to multiples of 1)
  --algo           exhaustive: every combination once, in random order (default);
                   random: random combinations, none twice; bayes: TPE, by hyperopt
  --max_evals      largest number of trials [all combinations of an exhaustive search, else 100]
  --early_stop     end after this many trials in a row without a better validation score [never]
  --tool           Hyperopt: one trial after another (default); Ray: trials side by side, on this
                   machine or a cluster, with bad trials stopped early (ASHA); not with bayes
  --resume_search  the folder of a stopped search, results/hyper-<model>-<dataset>-<time>; the
                   search continues after its last trial. With a larger --max_evals a finished
                   search gets more trials

With --tool=Ray:
  --cpus_per_trial  CPU cores of a trial [1]
  --gpus_per_trial  GPUs of a trial [1 with a GPU, else 0]
  --grace_epochs    epochs that every trial may train before it is compared with others [3]
  --ray_address     address of a running cluster, with recbole_genci installed on its nodes [a new
                    one on this machine]. No shared folder is needed: rows and results travel
                    through Ray

All other keys are those of run_recbole_genci.py; see its --help. You cannot also set a key that is
searched.
"""
_SETTINGS = tuple(field.name for field in dataclasses.fields(Settings))
_OPTIONS = ("params_file", "resume_search", "trust_code")
_ON_RESUMING = ("max_evals", "early_stop", "ray_address", "cpus_per_trial", "gpus_per_trial")


@answering
def main(argv: Sequence[str]) -> Work:
    """Run the command; return the exit status.

    A wrong request ends before any training, with one sentence on stderr and exit status 2;
    ``--state=DEBUG`` shows the traceback. The exit status is 1 if no trial finished, or if the
    machine or cluster failed.
    """
    argv = key_value_words(argv)
    if set(HELP) & set(argv):
        words = parse_argv([word for word in argv if word not in HELP])
        models = [str(words["model"])] if words.get("model") else known_models()
        check_words(words, (*_SETTINGS, *_OPTIONS), models, words.get("dataset"))
        print(USAGE)
        return lambda: 0
    return functools.partial(_done, _prepare(argv, parse_argv(argv)))


def _done(search: Search) -> int:
    print_if_quiet(execute(search))
    return 0


def _prepare(argv: Sequence[str], words: dict) -> Search:
    settings = {name: words[name] for name in _SETTINGS if words.get(name) is not None}
    if "resume_search" in words:
        allowed = {"resume_search", "model", "trust_code", *_ON_RESUMING}
        if others := sorted(set(words) - allowed):
            raise ValueError(
                "command line: --resume_search=<folder> takes "
                f"{', '.join('--' + name for name in _ON_RESUMING)} beside it, and --model or "
                f"--trust_code for a model of your own, not --{others[0]}; the folder says "
                "everything else."
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
            raise missing_word(key, example, words)
    files = str(words["config_files"]).split() if words.get("config_files") else None
    arguments = {f"--{key}" for key in ("config_files", *examples, *_SETTINGS)}
    keys = [word for word in argv if word.partition("=")[0] not in arguments]
    model, dataset, params_file = (str(words[key]) for key in examples)
    return prepare_search(model, dataset, params_file, files, None, keys, Settings(**settings))
