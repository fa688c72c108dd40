"""RecBole's DIEN (Zhou et al., 2019), safe for batches of short histories, and faster."""

from __future__ import annotations

import torch
from recbole.data.dataset import Dataset
from recbole.model.layers import MLPLayers
from recbole.model.sequential_recommender.dien import DIEN as RecBoleDIEN
from recbole.model.sequential_recommender.dien import (
    DynamicRNN,
    InterestEvolvingLayer,
    InterestExtractorNetwork,
)
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from recbole_genci.model.base import ModelContract
from recbole_genci.model.layers.click_attention import ClickAttention, check_graphs
from recbole_genci.model.layers.history_features import HistoryFeatureEmbedding
from recbole_genci.model.layers.last_state import last_state
from recbole_genci.model.layers.mended import Mended
from recbole_genci.model.layers.packed_gru import PackedAttentionGRU, PackedGRU, padded_states
from recbole_genci.utils.config_like import ConfigLike
from recbole_genci.utils.static import is_static


class DIEN(ModelContract, RecBoleDIEN):
    """RecBole's DIEN with faster parts.

    Scores, losses and gradients are RecBole's up to the order of sums, except where
    ``InterestExtractor`` mends a fault, and where ``attention_mlp_hidden_size`` or
    ``attention_activation`` ask for another MLP in the attention. Sizes: B rows, H history
    positions, E width of an item's features.
    """

    reads_negatives = True
    reads_row_features = False
    embedding_layer: HistoryFeatureEmbedding
    interset_extractor: InterestExtractor
    interest_evolution: InterestEvolution

    @classmethod
    def check_settings(cls, config: ConfigLike) -> None:
        """Refuse ``cuda_graphs`` beside Dice in the attention."""
        check_graphs(config)

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.embedding_layer = HistoryFeatureEmbedding.from_layer(self.embedding_layer)
        extractor = InterestExtractor.from_layer(self.interset_extractor)
        extractor.gru = PackedGRU.from_layer(extractor.gru)
        self.interset_extractor = extractor
        evolution = InterestEvolution.from_layer(self.interest_evolution)
        self.interest_evolution = evolution
        evolution.attention_layer = ClickAttention.instead_of(
            evolution.attention_layer,
            config["attention_mlp_hidden_size"],
            config["attention_activation"],
            self._init_weights,
        )
        # AGRU and AUGRU; the other gru_types are torch's GRU
        attends = isinstance(evolution.dynamic_rnn, DynamicRNN)
        recurrence = PackedAttentionGRU if attends else PackedGRU
        evolution.dynamic_rnn = recurrence.from_layer(evolution.dynamic_rnn)


class InterestExtractor(Mended, InterestExtractorNetwork):
    """The GRU over the clicks, and its auxiliary loss: a mean over clicks that follow a click.

    If no history of a batch has two clicks, RecBole computes 0 / 0, and one such batch turns every
    weight into NaN (dien.py:268); here the loss is then 0. The loss's MLP, more than half of the
    model's arithmetic, has no activation (dien.py:208), so that its linear layers are multiplied
    into one first. In evaluation mode it is 0: scores do not need it, nor do the checks that look
    at a loss before training.
    """

    gru: nn.GRU
    auxiliary_net: MLPLayers

    def forward(
        self,
        keys: torch.Tensor,
        keys_length: torch.Tensor,
        neg_keys: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States ``[B, H, E]`` after the clicks ``[B, H, E]``, and the auxiliary loss."""
        if not is_static():
            return super().forward(keys, keys_length, neg_keys)
        # RecBole packs the sequences, for which it looks at their lengths.
        states = padded_states(self.gru, keys, keys_length)
        if neg_keys is None:
            return states, keys.new_zeros(())
        loss = self.auxiliary_loss(states[:, :-1], keys[:, 1:], neg_keys[:, 1:], keys_length - 1)
        return states, loss

    def auxiliary_loss(
        self,
        h_states: torch.Tensor,
        click_seq: torch.Tensor,
        noclick_seq: torch.Tensor,
        keys_length: torch.Tensor,
    ) -> torch.Tensor:
        """The loss of telling the next click from an unclicked item by the state after a click.

        Args:
            h_states: ``[B, H - 1, E]`` states of the GRU after clicks 1..H - 1.
            click_seq: ``[B, H - 1, E]`` clicks 2..H.
            noclick_seq: ``[B, H - 1, E]`` another item for each of them.
            keys_length: ``[B]`` number of clicks that follow another one; -1 or 0 for none.

        Returns:
            the mean binary cross-entropy; 0 if there are no such clicks, and in evaluation mode.
        """
        if not self.training:
            return h_states.new_zeros(())
        weight, bias = self._linear()
        of_state, of_item = weight.split(h_states.shape[-1])
        follows = torch.arange(h_states.shape[1], device=h_states.device) < keys_length.unsqueeze(
            1
        )  # [B, H - 1]
        state = h_states @ of_state + bias
        clicked, other = (state + items @ of_item for items in (click_seq, noclick_seq))
        if is_static():  # the number of clicks would decide about shapes
            losses = (softplus(-clicked) + softplus(other)) * follows
            return losses.sum() / (2 * follows.sum()).clamp(min=1)
        clicked, other = clicked[follows], other[follows]  # [clicks]
        logits, target = (
            torch.cat([clicked, other]),
            torch.cat([torch.ones_like(clicked), torch.zeros_like(other)]),
        )
        return binary_cross_entropy_with_logits(logits, target, reduction="sum") / max(
            len(logits), 1
        )

    def _linear(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight ``[2 E]`` and bias ``[]`` of the linear layer that equals ``auxiliary_net``."""
        *lower, last = [
            layer for layer in self.auxiliary_net.mlp_layers if isinstance(layer, nn.Linear)
        ]
        weight, bias = last.weight[0], last.bias[0]
        for layer in reversed(lower):
            weight, bias = weight @ layer.weight, bias + weight @ layer.bias
        return weight, bias


class InterestEvolution(Mended, InterestEvolvingLayer):
    """The GRU over the states, which the target's attention steers."""

    gru: str
    attention_layer: ClickAttention
    dynamic_rnn: PackedGRU | PackedAttentionGRU

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, keys_length: torch.Tensor
    ) -> torch.Tensor:
        """Interests ``[B, E]`` of targets ``[B, E]`` and states ``[B, H, E]``.

        RecBole packs the sequences, which an exported program cannot.
        """
        if not is_static():
            return super().forward(queries, keys, keys_length)
        if self.gru == "GRU":
            states = padded_states(self.dynamic_rnn, keys, keys_length)
            return self.attention_layer(queries, states, keys_length).squeeze(1)
        attention = self.attention_layer(queries, keys, keys_length)  # [B, 1, H]
        if self.gru == "AIGRU":
            interest = keys * attention.transpose(1, 2)
            states = padded_states(self.dynamic_rnn, interest, keys_length)
        else:
            assert isinstance(self.dynamic_rnn, PackedAttentionGRU)
            states = self.dynamic_rnn.padded(keys, attention.squeeze(1))
        return last_state(states, keys_length)
