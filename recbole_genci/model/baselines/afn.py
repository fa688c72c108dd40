"""AFN and AFN+: feature interactions of learned, real-valued orders (Cheng, Shen and Huang, AAAI
2020, arXiv 1909.03276).

Where sources differ:

- AFN+ joins AFN and a DNN, which has its own embeddings, by a linear layer. The paper trains the
  two separately and then ensembles them; here they learn jointly, as in public re-implementations.
- The logarithm is that of ``max(|e|, 1e-5)``. The paper adds 1e-7 instead, which gives much steeper
  logarithms; FuxiCTR found them worse.
"""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import ContextRecommender
from recbole.model.init import xavier_normal_initialization
from recbole.model.layers import MLPLayers
from torch import nn

from recbole_genci.model.base import ClickModel
from recbole_genci.utils.config_like import ConfigLike

SMALLEST_MAGNITUDE = 1e-5
ORDER_STD = 0.1


class LogarithmicTransformation(nn.Module):
    """K logarithmic neurons: neuron k multiplies the fields' embeddings, each raised to a learned
    power.

    Args:
        num_fields: F.
        num_neurons: K.
    """

    def __init__(self, num_fields: int, num_neurons: int):
        super().__init__()
        self.log_norm = nn.BatchNorm1d(num_fields)
        self.orders = nn.Linear(num_fields, num_neurons, bias=False)
        self.exp_norm = nn.BatchNorm1d(num_neurons)

    def reset_orders(self) -> None:
        """Start near order 0, because products of many powers near 1 would overflow."""
        nn.init.normal_(self.orders.weight, std=ORDER_STD)

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        """Cross features ``[B, K, d]`` of embeddings ``[B, F, d]``: BN(exp(W BN(ln |e|)))."""
        logarithms = self.log_norm(fields.abs().clamp(min=SMALLEST_MAGNITUDE).log())
        return self.exp_norm(self.orders(logarithms.transpose(1, 2)).exp().transpose(1, 2))


class AFN(ClickModel):
    """Adaptive Factorization Network; AFN+ with ``ensemble_dnn``.

    Args:
        config: see ``properties/model/AFN.yaml`` for every key.
        dataset: a training part.
    """

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        del self.first_order_linear  # a neuron with a single order of 1 is the first-order term
        neurons, hidden = config["logarithmic_neurons"], config["mlp_hidden_size"]
        self.transformation = LogarithmicTransformation(self.num_feature_field, neurons)
        self.mlp = MLPLayers([neurons * self.embedding_size, *hidden], config["dropout_prob"])
        self.predict_layer = nn.Linear(hidden[-1], 1)
        self.dnn = None
        if config["ensemble_dnn"]:
            hidden = config["dnn_hidden_size"]
            self.dnn_embedding = ContextRecommender(config, dataset)
            del self.dnn_embedding.first_order_linear
            self.dnn = MLPLayers(
                [self.num_feature_field * self.embedding_size, *hidden], config["dnn_dropout_prob"]
            )
            self.dnn_predict_layer = nn.Linear(hidden[-1], 1)
            self.ensemble = nn.Linear(2, 1)
        self.apply(xavier_normal_initialization)
        self.transformation.reset_orders()

    def forward(self, interaction: Interaction) -> torch.Tensor:
        """Click logits ``[B]``."""
        crossed = self.transformation(self.concat_embed_input_fields(interaction))  # [B, K, d]
        logits = self.predict_layer(self.mlp(crossed.flatten(1)))  # [B, 1]
        if self.dnn is not None:
            fields = self.dnn_embedding.concat_embed_input_fields(interaction)  # [B, F, d]
            logits = self.ensemble(
                torch.cat([logits, self.dnn_predict_layer(self.dnn(fields.flatten(1)))], dim=1)
            )
        return logits.squeeze(1)
