"""Turn published raw files into atomic files: ``python -m recbole_genci.data.prepare``."""

from recbole_genci.data.prepare.amazon import Amazon
from recbole_genci.data.prepare.build import build_dataset
from recbole_genci.data.prepare.kuairand import KuaiRand
from recbole_genci.data.prepare.movielens import MovieLens
from recbole_genci.data.prepare.steam import Steam
from recbole_genci.data.prepare.taobao import Taobao
from recbole_genci.data.prepare.yelp import Yelp

__all__ = ["Amazon", "KuaiRand", "MovieLens", "Steam", "Taobao", "Yelp", "build_dataset"]
