"""RecBole's AutoInt (Song et al., 2019) with a residual connection in each attention layer."""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from recbole.model.context_aware_recommender.autoint import AutoInt as RecBoleAutoInt
from torch import nn

from recbole_genci.model.base import ModelContract
from recbole_genci.utils.config_like import ConfigLike


class AutoInt(ModelContract, RecBoleAutoInt):
    """AutoInt whose attention layers end in ReLU(attention + W_res x), as in the paper (Eq. 7).

    RecBole's own layers have no non-linearity, and one residual connection around all of them
    (autoint.py:90 to 96). ``has_residual: False`` is RecBole's model without residuals. Both have
    a feed-forward network beside the attention, which the paper calls AutoInt+. Neither applies
    RecBole's third dropout, as no forward pass calls its layer.

    Sizes: B rows, F features, d embedding size, A ``attention_size``.
    """

    #: Tells runs of this class from those of RecBole's (registry.py).
    revision = 2

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        if self.has_residual:
            del self.v_res_embedding
            self.residuals = nn.ModuleList(
                nn.Linear(self.attention_size, self.attention_size) for _ in self.self_attns
            )
            self.residuals.apply(self._init_weights)

    def autoint_layer(self, infeature: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, 1]`` of embeddings ``[B, F, d]``, without the first-order part."""
        if not self.has_residual:
            return super().autoint_layer(infeature)
        fields = self.att_embedding(infeature).transpose(0, 1)  # [F, B, A]
        for attention, residual in zip(self.self_attns, self.residuals):
            attended, _ = attention(fields, fields, fields, need_weights=False)
            fields = torch.relu(attended + residual(fields))
        deep = self.mlp_layers(infeature.flatten(1))
        return self.attn_fc(fields.transpose(0, 1).flatten(1)) + self.deep_predict_layer(deep)
