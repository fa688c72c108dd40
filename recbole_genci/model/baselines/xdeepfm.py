"""xDeepFM (Lian et al., 2018), RecBole's, with a deep network that can lower a score too."""

from __future__ import annotations

from recbole.data.dataset import Dataset
from recbole.model.context_aware_recommender.xdeepfm import xDeepFM as RecBolexDeepFM

from recbole_genci.model.base import ModelContract
from recbole_genci.utils.config_like import ConfigLike


class xDeepFM(ModelContract, RecBolexDeepFM):  # noqa: N801, RecBole's name
    """RecBole's xDeepFM ends its deep network in a ReLU (xdeepfm.py:70): that branch can only raise
    a score, and is 0 for nearly every row after some initialisations. In the paper the output unit
    is linear in the last hidden layer, as here.
    """

    #: Tells runs of this class from those of RecBole's (registry.py).
    revision = 2

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        del self.mlp_layers.mlp_layers[-1]
