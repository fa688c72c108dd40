"""RecBole's xDeepFM (Lian et al., 2018) with a deep network that can also lower a score."""

from __future__ import annotations

from recbole.data.dataset import Dataset
from recbole.model.context_aware_recommender.xdeepfm import xDeepFM as RecBolexDeepFM

from recbole_genci.model.base import ModelContract
from recbole_genci.utils.config_like import ConfigLike


class xDeepFM(ModelContract, RecBolexDeepFM):  # noqa: N801, RecBole's name
    """xDeepFM whose deep network ends in a linear layer, as in the paper.

    RecBole's ends in a ReLU (xdeepfm.py:70): that branch can only raise a score, and after some
    initialisations it is 0 for nearly every row.
    """

    #: Tells runs of this class from those of RecBole's (registry.py).
    revision = 2

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        del self.mlp_layers.mlp_layers[-1]
