"""DCNV2 (Wang et al., 2021), RecBole's, with cross layers that start as Xavier's."""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from recbole.model.context_aware_recommender.dcnv2 import DCNV2 as RecBoleDCNV2
from torch import nn

from recbole_genci.model.base import ModelContract
from recbole_genci.utils.config_like import ConfigLike


class DCNV2(ModelContract, RecBoleDCNV2):
    """RecBole draws the cross layers from N(0, 1) (dcnv2.py:58 to 82), all others by Xavier: at 112
    inputs the cross weights are ten times as large, and its ``reg_weight: 2`` has to shrink them.
    Here Xavier draws them too.
    """

    #: Tells runs of this class from those of RecBole's (registry.py).
    revision = 2

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        for matrices in self._cross_matrices():
            for matrix in matrices:
                nn.init.xavier_normal_(matrix)

    def _cross_matrices(self) -> list[list[torch.Tensor]]:
        """Of each cross layer its matrices: one, or of a mixture U, V and C of every expert."""
        if not self.mixed:
            return [[weight] for weight in self.cross_layer_w]  # [F * d, F * d]
        return [*self.cross_layer_u, *self.cross_layer_v, *self.cross_layer_c]  # [experts, ., .]
