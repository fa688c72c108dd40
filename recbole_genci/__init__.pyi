"""What ``recbole_genci`` loads on first use, for type checkers."""

from recbole_genci.config import Config as Config
from recbole_genci.quick_start import resume as resume
from recbole_genci.quick_start import run as run
from recbole_genci.serving.ranker import Ranker as Ranker
from recbole_genci.serving.saved_run import load as load

__version__: str
