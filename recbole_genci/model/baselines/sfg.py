"""SFG, also called GE4Rec: feature interaction as feature generation (Yin et al., ICML 2025, arXiv
2512.14041).

A wrapper that makes an interaction model generative: of the two factors of each product, one is
*generated* from all fields. There is no reconstruction loss; the click alone supervises. GenCI's
paper does not say which model it wrapped. Here are DCN V2, the paper's strongest, and DeepFM. The
authors' code, which gave the published results, decides the following:

- the generated factor is ``scale * ReLU(W x)`` without bias; ``scale`` is tuned by dataset (0.01 to
  8), not learned;
- DCN V2: each cross layer generates from its own input, which is also the target, has no bias, and
  adds its input to what it generates (``gen_residual``); the two branches meet in a linear layer as
  in DCN V2 itself, not in the code's extra MLP;
- DeepFM: field i generates the fields after it (i < j), so that each pair counts once; nothing is
  added.
"""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_normal_initialization
from recbole.model.layers import MLPLayers
from torch import nn

from recbole_genci.model.base import ClickModel
from recbole_genci.utils.config_like import ConfigLike


class FeatureGenerator(nn.Module):
    """The encoder: every field's factor, generated from all fields by a matrix of its own, ``[B, F
    * d]`` to ``[B, F * d]``.

    Args:
        size: F * d.
        scale: constant factor of what is generated.
        residual: add the input.
    """

    def __init__(self, size: int, scale: float, residual: bool):
        super().__init__()
        self.linear = nn.Linear(
            size, size, bias=False
        )  # its F blocks of d rows are the fields' matrices
        self.scale, self.residual = scale, residual

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        generated = self.scale * self.linear(fields).relu()
        return generated + fields if self.residual else generated


class GenerativeCrossLayer(nn.Module):
    """x + generate(x) * W x, elementwise, ``[B, F * d]`` to ``[B, F * d]``: the cross layer of DCN
    V2 made generative.
    """

    def __init__(self, size: int, scale: float, dropout: float):
        super().__init__()
        self.generator = FeatureGenerator(size, scale, residual=True)
        self.linear = nn.Linear(size, size, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        return self.dropout(fields + self.generator(fields) * self.linear(fields))


def generated_pairs(generated: torch.Tensor, fields: torch.Tensor) -> torch.Tensor:
    """Sum over i < j of <generated_i, field_j>, ``[B, 1]``, of two ``[B, F, d]``; linear in F."""
    later = fields.sum(dim=1, keepdim=True) - fields.cumsum(dim=1)  # sum over j > i of field_j
    return (generated * later).sum(dim=(1, 2)).unsqueeze(1)


class SFG(ClickModel):
    """Supervised Feature Generation over DCN V2 (``sfg_base: dcnv2``) or DeepFM (``deepfm``).

    Args:
        config: see ``properties/model/SFG.yaml`` for every key.
        dataset: a training part.
    """

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.base = config["sfg_base"]
        size, hidden = self.num_feature_field * self.embedding_size, config["mlp_hidden_size"]
        self.mlp = MLPLayers([size, *hidden], config["dropout_prob"])
        if self.base == "dcnv2":
            del self.first_order_linear  # of the FM family
            self.cross_network = nn.Sequential(
                *(
                    GenerativeCrossLayer(size, config["generation_scale"], config["cross_dropout"])
                    for _ in range(config["cross_layer_num"])
                )
            )
            self.predict_layer = nn.Linear(size + hidden[-1], 1)
        else:
            self.generator = FeatureGenerator(size, config["generation_scale"], residual=False)
            self.predict_layer = nn.Linear(hidden[-1], 1)
        self.apply(xavier_normal_initialization)

    def forward(self, interaction: Interaction) -> torch.Tensor:
        """Click logits ``[B]``."""
        fields = self.concat_embed_input_fields(interaction)  # [B, F, d]
        flat = fields.flatten(1)
        if self.base == "dcnv2":
            return self.predict_layer(
                torch.cat([self.cross_network(flat), self.mlp(flat)], dim=1)
            ).squeeze(1)
        pairs = generated_pairs(self.generator(flat).view_as(fields), fields)
        return (
            self.first_order_linear(interaction) + pairs + self.predict_layer(self.mlp(flat))
        ).squeeze(1)
