"""Self-supervised regularisation (Eq. 11) for any model: ``sr_weight``.

GenCI's own is a term of its loss. Other models compute their loss themselves, from labels. Binary
cross-entropy is linear in the label, so that

    BCE(y) + w BCE(p) = (1 + w) BCE((y + w p) / (1 + w)),

y the label, p the teacher's probability and w the weight: a model that is trained on the mixed
labels has Eq. 12 with its own loss, divided by 1 + w. Other parts of its loss keep their weight.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import nn

from recbole_genci.config import Config
from recbole_genci.model.teacher import build_teacher

_logger = logging.getLogger(__name__)


def has_teacher(config: Config) -> bool:
    """Whether the key gives the model a teacher."""
    return bool(config["sr_weight"]) and not config.model_class.regularises_itself


def make_teacher(config: Config, training_rows: Dataset) -> nn.Module | None:
    """The teacher of Eq. 11 on the model's fields, or None without ``sr_weight``.

    None too if the model has its own regularisation. The teacher's size is the paper's (section
    3.1.4), whatever the model's.
    """
    if not has_teacher(config):
        if config["sr_weight"]:
            _logger.warning(
                f"sr_weight: {config['model']} has this regularisation in its own loss (GenCI's "
                "weight is eta), so that the key does nothing for it."
            )
        return None
    teacher = build_teacher(
        config,
        training_rows,
        mlp_hidden_size=[256, 256, 256],
        dropout_prob=config["sr_teacher_dropout_prob"],
    )
    return teacher.to(config["device"])


class Regularised(nn.Module):
    """A model's loss on labels that are mixed with the predictions of a teacher, which learns too.

    Args:
        model: the model, with RecBole's ``calculate_loss``.
        teacher: gives click logits ``[B]``.
        label_field: name of the label.
        weight: w of the module docstring.
    """

    def __init__(self, model: Any, teacher: nn.Module, label_field: str, weight: float) -> None:
        super().__init__()
        self.model, self.teacher = model, teacher
        self.label_field, self.weight = label_field, weight

    def calculate_loss(self, interaction: Interaction) -> tuple[torch.Tensor, ...]:
        """The model's losses, and the teacher's own (Eq. 1)."""
        self.teacher.train(self.model.training)
        label = interaction[self.label_field]
        logits = self.teacher(interaction)
        probability = torch.sigmoid(logits.detach())
        mixed = (label + self.weight * probability) / (1 + self.weight)
        columns: Mapping[str, torch.Tensor] = interaction.interaction
        losses = self.model.calculate_loss(Interaction({**columns, self.label_field: mixed}))
        parts = losses if isinstance(losses, tuple) else (losses,)
        return *parts, F.binary_cross_entropy_with_logits(logits, label)
