"""RFM: features as angles, their interactions as rotations (Tian, Shi, Wu, Zhao and Wen, KDD 2024).

Where the paper leaves things open, the authors' code decides: gates by a sigmoid, not a softmax;
one weight of the angle differences for all heads; matrices for queries, keys and values of each
field; one linear map for real and imaginary parts. The code in circulation multiplies values
``[fields, width]`` by scores ``[fields, fields]``, which only runs where the two numbers are equal;
here, as in the paper, a field gathers the values of the fields that it attends to.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_normal_initialization
from torch import nn

from recbole_genci.model.base import ClickModel
from recbole_genci.utils.config_like import ConfigLike
from recbole_genci.utils.value_checks import check_divides

ROTATION_GAIN = 1.414
AMPLIFICATION_STD = 0.01


class SelfAttentiveRotation(nn.Module):
    """One layer of self-attentive rotations: angles ``[B, F, in_size]`` to angles ``[B, F,
    out_size]``.

    Args:
        num_fields: F.
        in_size, out_size: widths before and after.
        num_heads: divides ``out_size``.
        dropout: of the values and of the linear map's input.
    """

    def __init__(
        self, num_fields: int, in_size: int, out_size: int, num_heads: int, dropout: float
    ):
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value = (
            nn.Parameter(torch.empty(num_fields, in_size, out_size)) for _ in range(3)
        )
        self.weight = nn.Parameter(torch.empty(1, out_size // num_heads))
        self.linear = nn.Linear(in_size, out_size, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(out_size)

    def reset_parameters(self) -> None:
        for parameter in (self.query, self.key, self.value, self.weight, self.linear.weight):
            nn.init.xavier_normal_(parameter, gain=ROTATION_GAIN)

    def gates(self, angles: torch.Tensor) -> torch.Tensor:
        """How much field i attends to field j, ``[B, heads, F, F]``: sigmoid(sum over c of weight_c
        cos(q_ic - k_jc)).

        cos(q - k) = cos q cos k + sin q sin k makes it two matrix products.
        """
        query, key = (
            self._heads(angles, self.query),
            self._heads(angles, self.key).transpose(-2, -1),
        )
        return torch.sigmoid(
            (query.cos() * self.weight) @ key.cos() + (query.sin() * self.weight) @ key.sin()
        )

    def forward(self, angles: torch.Tensor) -> torch.Tensor:
        gathered = self.gates(angles) @ self.dropout(
            self._heads(angles, self.value)
        )  # [B, heads, F, out / heads]
        gathered = gathered.transpose(1, 2).flatten(2)  # [B, F, out]
        return self.norm(gathered + self.linear(self.dropout(angles)))

    def _heads(self, angles: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
        projected = torch.einsum("bfi,fio->bfo", angles, matrices)
        return projected.unflatten(-1, (self.num_heads, -1)).transpose(
            1, 2
        )  # [B, heads, F, out / heads]


class ModulusAmplification(nn.Module):
    """One amplification layer: a linear map for both parts, ReLU, and layer norms over groups of
    ``group_size``.

    Takes and gives real and imaginary parts ``[B, in_size]``, ``[B, out_size]``; ``group_size``
    divides ``out_size``.
    """

    def __init__(self, in_size: int, out_size: int, group_size: int, dropout: float):
        super().__init__()
        self.group_size = group_size
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(in_size, out_size)
        self.real_norm, self.imaginary_norm = nn.LayerNorm(group_size), nn.LayerNorm(group_size)

    def forward(
        self, real: torch.Tensor, imaginary: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self._amplify(real, self.real_norm), self._amplify(imaginary, self.imaginary_norm)

    def _amplify(self, part: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
        amplified = self.linear(self.dropout(part)).relu()
        return norm(amplified.unflatten(1, (-1, self.group_size))).flatten(1)


class RFM(ClickModel):
    """Rotative Factorization Machine.

    Args:
        config: see ``properties/model/RFM.yaml`` for every key.
        dataset: a training part.
    """

    # Modules of modules: torch knows their elements as Module alone.
    rotations: Any
    amplifications: Any

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        del self.first_order_linear  # the residual of the angles takes its place
        size, num_fields = config["rotation_size"], self.num_feature_field
        sizes = [self.embedding_size] + [size] * config["rotation_layers"]
        self.rotations = nn.Sequential(
            *(
                SelfAttentiveRotation(
                    num_fields, i, o, config["rotation_heads"], config["rotation_dropout"]
                )
                for i, o in zip(sizes[:-1], sizes[1:])
            )
        )
        self.projection: nn.Linear | None = None
        if config["first_order_residual"]:
            self.projection = nn.Linear(self.embedding_size, size)
            self.real_norm, self.imaginary_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        sizes = [num_fields * size, *config["mlp_hidden_size"]]
        self.amplifications = nn.ModuleList(
            ModulusAmplification(i, o, config["group_size"], config["dropout_prob"])
            for i, o in zip(sizes[:-1], sizes[1:])
        )
        self.predict_layer = nn.Linear(sizes[-1], 1)
        self._initialise()

    def _initialise(self) -> None:
        self.apply(xavier_normal_initialization)
        for layer in self.rotations:
            layer.reset_parameters()
        for linear in (self.projection, *(layer.linear for layer in self.amplifications)):
            if linear is not None:
                nn.init.normal_(linear.weight, std=AMPLIFICATION_STD)

    @classmethod
    def check_settings(cls, config: ConfigLike) -> None:
        check_divides(config, "rotation_heads", "rotation_size")
        uneven = [size for size in config["mlp_hidden_size"] if size % config["group_size"]]
        if uneven:
            raise ValueError(
                f"group_size: {config['group_size']} does not divide a width of mlp_hidden_size, "
                f"{uneven[0]}."
            )

    def forward(self, interaction: Interaction) -> torch.Tensor:
        """Click logits ``[B]``."""
        fields = self.concat_embed_input_fields(interaction)  # [B, F, d], read as angles
        angles = self.rotations(fields)
        real, imaginary = angles.cos(), angles.sin()
        if self.projection is not None:
            first_order = self.projection(fields)
            real, imaginary = (
                self.real_norm(real + first_order.cos()),
                self.imaginary_norm(imaginary + first_order.sin()),
            )
        real, imaginary = real.flatten(1), imaginary.flatten(1)
        for layer in self.amplifications:
            real, imaginary = layer(real, imaginary)
        return (self.predict_layer(real) + self.predict_layer(imaginary)).squeeze(1)
