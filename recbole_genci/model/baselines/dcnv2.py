"""RecBole's DCNV2 (Wang et al., 2021) with Xavier initialisation of the cross layers."""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from recbole.model.context_aware_recommender.dcnv2 import DCNV2 as RecBoleDCNV2
from torch import nn

from recbole_genci.model.base import ModelContract
from recbole_genci.utils.config_like import ConfigLike


class DCNV2(ModelContract, RecBoleDCNV2):
    """DCNV2 with Xavier initialisation of all layers.

    RecBole draws the cross layers from N(0, 1) (dcnv2.py:58 to 82) and all others by Xavier. With
    112 inputs the cross weights are then ten times as large, and RecBole needs ``reg_weight: 2`` to
    shrink them.
    """

    #: Tells runs of this class from those of RecBole's (registry.py).
    revision = 2

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        for matrices in self._cross_matrices():
            for matrix in matrices:
                nn.init.xavier_normal_(matrix)

    def _cross_matrices(self) -> list[list[torch.Tensor]]:
        """The matrices of each cross layer: one, or for a mixture U, V and C of every expert."""
        if not self.mixed:
            return [[weight] for weight in self.cross_layer_w]  # [F * d, F * d]
        return [*self.cross_layer_u, *self.cross_layer_v, *self.cross_layer_c]  # [experts, ., .]
