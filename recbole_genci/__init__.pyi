"""What ``recbole_genci`` loads on first use, for type checkers."""

from recbole_genci.config import Config as Config
from recbole_genci.experiments.command import experiment as experiment
from recbole_genci.hub.pull import pull as pull
from recbole_genci.hub.push import push as push
from recbole_genci.quick_start import resume as resume
from recbole_genci.quick_start import run as run
from recbole_genci.results import ExperimentResult as ExperimentResult
from recbole_genci.results import Results as Results
from recbole_genci.results import RunResult as RunResult
from recbole_genci.results import SearchResult as SearchResult
from recbole_genci.serving.ranker import Ranker as Ranker
from recbole_genci.serving.saved_run import SavedRun as SavedRun
from recbole_genci.serving.saved_run import load as load
from recbole_genci.tokenizer.command import tokenize as tokenize
from recbole_genci.tuning.search import resume_search as resume_search
from recbole_genci.tuning.search import tune as tune

__version__: str
