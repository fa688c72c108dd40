"""GenCI (WWW '26) for RecBole: CTR prediction by generative user intent.

RecBole's own models train and are tested on the same rows.
"""

import importlib
import os
import sys
from typing import Any

from recbole_genci.utils import interrupts, scripts
from recbole_genci.utils.imports import uncollected
from recbole_genci.utils.installation import require_recbole

# `python -m recbole_genci.tokenizer` and `python run_hyper.py` import this package, which takes
# seconds, before the command can answer a signal.
_words = sys.orig_argv[1:5]
_is_module = sys.argv[:1] == ["-m"] and any(word.startswith("recbole_genci.") for word in _words)
_scripts = {name.removesuffix(".py") for name in (scripts.TRAIN, scripts.TUNE)}
if _is_module or any(os.path.basename(word).removesuffix(".py") in _scripts for word in _words):
    interrupts.end_at_once()

require_recbole()  # before anything imports RecBole, and before seconds go into importing torch

from recbole_genci import compat  # noqa: E402

compat.add_numpy_aliases()

__version__ = "0.1.0"

# Loaded on first use, so that `import recbole_genci.tokenizer` does not pay for RecBole's trainer.
_EXPORTS = {
    "Config": "recbole_genci.config",
    "run": "recbole_genci.quick_start",
    "resume": "recbole_genci.quick_start",
    "load": "recbole_genci.serving.saved_run",
    "tune": "recbole_genci.tuning.search",
    "resume_search": "recbole_genci.tuning.search",
    "experiment": "recbole_genci.experiments.command",
    "tokenize": "recbole_genci.tokenizer.command",
    "Ranker": "recbole_genci.serving.ranker",
    "push": "recbole_genci.hub.push",
    "pull": "recbole_genci.hub.pull",
    "SavedRun": "recbole_genci.serving.saved_run",
    "RunResult": "recbole_genci.results",
    "Results": "recbole_genci.results",
    "SearchResult": "recbole_genci.results",
    "ExperimentResult": "recbole_genci.results",
}
__all__ = [*_EXPORTS, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        with uncollected():
            return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'recbole_genci' has no attribute '{name}'")


def __dir__():
    return sorted({*globals(), *__all__})
