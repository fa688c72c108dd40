"""Turn published raw files into atomic files: ``python -m recbole_genci.data.prepare``."""

from recbole_genci.data.prepare.amazon import Amazon
from recbole_genci.data.prepare.build import build_dataset
from recbole_genci.data.prepare.movielens import MovieLens

__all__ = ["Amazon", "MovieLens", "build_dataset"]
