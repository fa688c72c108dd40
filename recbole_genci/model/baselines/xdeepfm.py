"""RecBole's xDeepFM (Lian et al., 2018) with a deep network that can also lower a score."""

from __future__ import annotations

import logging

from recbole.data.dataset import Dataset
from recbole.model.context_aware_recommender.xdeepfm import xDeepFM as RecBolexDeepFM

from recbole_genci.model.base import ModelContract
from recbole_genci.utils.config_like import ConfigLike

_logger = logging.getLogger(__name__)


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
        if not self.direct and config["cin_layer_size"][-1] % 2:  # RecBole warns of the others
            _logger.warning(
                "cin_layer_size: without direct, half of a layer's units go on, so that the last "
                f"layer has {self.cin_layer_size[-1]} units, not {config['cin_layer_size'][-1]}."
            )

    @classmethod
    def check_settings(cls, config: ConfigLike) -> None:
        """Refuse layers of one unit where half of a layer's units go on.

        Raises:
            ValueError: names ``cin_layer_size``.
        """
        if not config["direct"] and min(config["cin_layer_size"]) < 2:
            raise ValueError(
                f"cin_layer_size: {config['cin_layer_size']} has a layer of one unit, and without "
                "direct half of its units go on. Give each layer at least 2, or set direct: True."
            )
