"""DIN's attention over the clicks of a history, RecBole's, without positions that are padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import torch
from recbole.model.layers import Dice as RecBoleDice
from recbole.model.layers import MLPLayers, SequenceAttLayer
from torch import nn

from recbole_genci.model.layers.device import on_cpu
from recbole_genci.model.layers.dice import Dice
from recbole_genci.model.layers.mended import Mended
from recbole_genci.utils.config_like import ConfigLike
from recbole_genci.utils.static import is_static


def check_graphs(config: ConfigLike) -> None:
    """Refuse ``cuda_graphs`` for an attention whose Dice is normalised over the clicks of a batch.

    Raises:
        ValueError: names both keys.
    """
    if config["cuda_graphs"] and config["attention_activation"] == "dice":
        raise ValueError(
            "cuda_graphs: Dice in the attention (attention_activation: dice) is normalised over "
            "the clicks of a batch, whose number a graph cannot follow. Leave out one of both."
        )


#: Clicks that pass the MLP at a time on a CPU, so that its hidden layers stay in the caches.
GROUP = 4096


class ClickAttention(Mended, SequenceAttLayer):
    """RecBole's layer without padding: the MLP reads only the clicks.

    RecBole's own layer runs its MLP over padding too, 4 of 10 positions on ml-100k, and masks the
    output (layers.py:336, 350). Output and gradients are the same up to the order of sums.

    Sizes: B rows, H history positions, E width of an item's features.
    """

    whole_batch: bool = False  # whether the MLP must see all clicks of a training batch at once
    mask_mat: torch.Tensor
    att_mlp_layers: MLPLayers
    dense: nn.Linear

    @classmethod
    def instead_of(
        cls,
        layer: SequenceAttLayer,
        hidden_size: Sequence[int] | None,
        activation: str,
        initialise: Callable[[nn.Module], None],
    ) -> Self:
        """RecBole's layer, or one with another MLP in its place.

        Args:
            layer: the layer that a RecBole model has made.
            hidden_size: widths of the MLP's hidden layers; None for those of ``layer``.
            activation: RecBole's name of their activation; ``dice`` is the paper's. With
                ``sigmoid`` and ``hidden_size`` None the layer keeps its weights as they were drawn.
            initialise: the model's initialisation of a module's weights.
        """
        if hidden_size is None and activation == "sigmoid":
            return cls.from_layer(layer)
        width, *own = layer.att_hidden_size
        sizes = [width, *(own if hidden_size is None else hidden_size)]
        other = SequenceAttLayer(
            layer.mask_mat, sizes, activation, layer.softmax_stag, layer.return_seq_weight
        )
        layers = other.att_mlp_layers.mlp_layers
        of_recbole = [n for n, each in enumerate(layers) if isinstance(each, RecBoleDice)]
        for place, units in zip(of_recbole, sizes[1:]):
            layers[place] = Dice(units)
        other.apply(initialise)
        attention = cls.from_layer(other)
        attention.whole_batch = bool(of_recbole)
        return attention

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, keys_length: torch.Tensor
    ) -> torch.Tensor:
        """Attention of targets to the clicks of their histories.

        Args:
            queries: targets ``[B, E]``.
            keys: histories ``[B, H, E]``.
            keys_length: number of clicks ``[B]``; they come first in a history.

        Returns:
            the weights ``[B, 1, H]``, or if ``return_seq_weight`` is off the weighted sum
            ``[B, 1, E]``.
        """
        is_click = self.mask_mat[:, : keys.shape[1]] < keys_length.unsqueeze(1)  # [B, H]
        padding = float("-inf") if self.softmax_stag else 0.0
        if is_static():  # the number of clicks would decide about shapes
            targets = queries.unsqueeze(1).expand_as(keys)
            scores = self._scores(targets.flatten(0, 1), keys.flatten(0, 1)).view_as(is_click)
            return self._weighted(scores.masked_fill(~is_click, padding), queries, keys)
        clicks = keys[is_click]  # [clicks, E]
        targets = queries.repeat_interleave(keys_length, dim=0)  # [clicks, E]
        in_groups = on_cpu(clicks) and not (self.whole_batch and self.training)
        size = GROUP if in_groups else max(len(clicks), 1)
        groups = zip(targets.split(size), clicks.split(size))
        scores = torch.cat([self._scores(*group) for group in groups])
        weights = keys.new_full(is_click.shape, padding)
        weights = weights.masked_scatter(is_click, scores.to(keys.dtype))  # of mixed precision
        return self._weighted(weights, queries, keys)

    def _weighted(
        self, weights: torch.Tensor, queries: torch.Tensor, keys: torch.Tensor
    ) -> torch.Tensor:
        """What `forward` returns, of the scores ``[B, H]`` of all positions."""
        weights = weights.unsqueeze(1) / queries.shape[-1] ** 0.5
        if self.softmax_stag:
            weights = weights.softmax(dim=-1)
        return weights if self.return_seq_weight else weights @ keys

    def _scores(self, targets: torch.Tensor, clicks: torch.Tensor) -> torch.Tensor:
        """How much a target ``[clicks, E]`` attends to its click ``[clicks, E]``: ``[clicks]``."""
        pairs = torch.cat([targets, clicks, targets - clicks, targets * clicks], dim=-1)
        return self.dense(self.att_mlp_layers(pairs)).squeeze(-1)
