"""RecBole's DIN (Zhou et al., 2018) with the user's features."""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from recbole.model.layers import MLPLayers
from recbole.model.sequential_recommender.din import DIN as RecBoleDIN

from recbole_genci.model.base import ModelContract
from recbole_genci.model.layers.click_attention import ClickAttention, check_graphs
from recbole_genci.model.layers.history_features import HistoryFeatureEmbedding
from recbole_genci.utils.config_like import ConfigLike


class DIN(ModelContract, RecBoleDIN):
    """DIN whose MLP reads the user's features, as in the paper.

    RecBole's DIN leaves them out, as DIN's first public code did; ``use_user_features: False`` is
    RecBole's model, unchanged. ``interest_product: False`` leaves out the product of interest and
    target, which the paper lacks. ``attention_mlp_hidden_size`` and ``attention_activation`` are
    those of the attention's MLP, whose sizes in RecBole are the prediction MLP's.

    Sizes: B rows, H history items, F item features, G user features, d embedding size.
    """

    reads_history = True
    reads_row_features = False
    embedding_layer: HistoryFeatureEmbedding
    attention: ClickAttention

    @classmethod
    def check_settings(cls, config: ConfigLike) -> None:
        """Refuse ``cuda_graphs`` beside Dice in the attention."""
        check_graphs(config)

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.embedding_layer = HistoryFeatureEmbedding.from_layer(self.embedding_layer)
        self.attention = ClickAttention.instead_of(
            self.attention,
            config["attention_mlp_hidden_size"],
            config["attention_activation"],
            self._init_weights,
        )
        self.use_user_features = config["use_user_features"]
        self.interest_product = config["interest_product"]
        if self.use_user_features or not self.interest_product:
            fields = self.embedding_layer.num_feature_field
            more = fields["user"] * self.use_user_features
            less = fields["item"] * (not self.interest_product)
            self.dnn_list[0] += (more - less) * self.embedding_size
            self.dnn_mlp_layers = MLPLayers(
                self.dnn_list, activation="Dice", dropout=self.dropout_prob, bn=True
            )
            self.dnn_mlp_layers.apply(self._init_weights)

    def forward(
        self,
        user: torch.Tensor,
        item_seq: torch.Tensor,
        item_seq_len: torch.Tensor,
        next_items: torch.Tensor,
    ) -> torch.Tensor:
        """Click logits ``[B]`` from user ids ``[B]``, history ``[B, H]``, its length ``[B]``, and
        target items ``[B]``.
        """
        if not self.use_user_features and self.interest_product:
            return super().forward(user, item_seq, item_seq_len, next_items)
        sparse, dense = self.embedding_layer(
            user, torch.cat([item_seq, next_items.unsqueeze(1)], dim=1)
        )
        users, items = (
            torch.cat(
                [part[kind] for part in (sparse, dense) if part[kind] is not None], dim=-2
            ).flatten(-2)
            for kind in ("user", "item")
        )  # [B, G * d], [B, H + 1, F * d]
        history, target = items[:, :-1], items[:, -1]
        interest = self.attention(target, history, item_seq_len).squeeze(1)
        inputs = [users] if self.use_user_features else []
        inputs += [interest, target]
        inputs += [interest * target] if self.interest_product else []
        hidden = self.dnn_mlp_layers(torch.cat(inputs, dim=-1))
        return self.dnn_predict_layers(hidden).squeeze(1)
