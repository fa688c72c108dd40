"""Check the losses of a model while it is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from torch import nn

from recbole_genci.config import Config
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.loaded_columns import LARGE_NUMBER
from recbole_genci.utils.own_code import is_reference
from recbole_genci.utils.ragged import Ragged

_WORSE = 1.0  # a LogLoss that only confident wrong scores have
_TIMES = 10  # a loss so many times the smallest one has exploded


def loss_in_parts(model: nn.Module, losses: Any) -> tuple[torch.Tensor, int]:
    """The sum of what ``calculate_loss`` has returned, and of how many parts it is.

    Raises:
        ValueError: it is not one number that depends on the weights, nor a tuple of such parts.
    """
    parts = losses if isinstance(losses, tuple) else (losses,)
    right = [
        isinstance(part, torch.Tensor) and part.numel() == 1 and part.is_floating_point()
        for part in parts
    ]
    if not parts or not all(right):
        raise ValueError(
            f"model: {type(model).__name__}.calculate_loss must return one number, as a tensor of "
            "floats, or a tuple of such parts."
        )
    total = torch.stack([part.reshape(()) for part in parts]).sum()
    if not total.requires_grad:
        raise ValueError(
            f"model: {type(model).__name__}.calculate_loss returned a loss that does not depend on "
            "the model's weights, so that nothing can be learned. Return it with its gradient: "
            "without detach(), item() or no_grad()."
        )
    return total, len(parts)


def checked_loss(model: AbstractRecommender, objective: Any, config: Config) -> Callable | None:
    """``objective.calculate_loss`` with each batch's result checked if the model is a person's own;
    None for others, which tests cover.
    """
    if not is_reference(config.model_reference):
        return None

    def checked(batch: Any) -> Any:
        losses = objective.calculate_loss(batch)
        loss_in_parts(model, losses)
        return losses

    return checked


def largest_number(dataset: CTRDataset) -> tuple[str, float] | None:
    """The feature that has the largest number of all that models multiply embeddings by, and the
    number; None if none is large.
    """
    found = []
    cut = {field for field, each in dataset.transforms.items() if each.makes_tokens}
    cut.update(dataset.config["discretization"] or ())
    for field in dataset.config["numerical_features"] or ():
        for table in (dataset.inter_feat, dataset.user_feat, dataset.item_feat):
            if field not in cut and table is not None and field in table:
                column = table[field]
                values = column.values if isinstance(column, Ragged) else column
                if len(values):
                    found.append((float(values[..., 0].abs().max()), field))
    largest, field = max(found, default=(0.0, ""))
    return (field, largest) if largest > LARGE_NUMBER else None


def _remedy(config: Config, dataset: CTRDataset | None) -> str:
    """What to do against divergence: first a feature, if one is much too large."""
    clipping = "" if config["clip_grad_norm"] else " or set clip_grad_norm: {'max_norm': 5.0}"
    steps = f"ower learning_rate (now {config['learning_rate']:g}){clipping}."
    large = None if dataset is None else largest_number(dataset)
    if not large:
        return f"L{steps}"
    field, value = large
    return (
        f"Numbers of '{field}' reach {value:g}, and models multiply its embedding by them: scale "
        f"it to 0 to 1 by normalize_field: [{field}]. If that does not help, l{steps}"
    )


def not_finite(
    config: Config, loss: torch.Tensor, epoch: int, dataset: CTRDataset | None = None
) -> str:
    """A sentence about a loss that is not finite.

    Args:
        config: the run's Config.
        loss: the loss of a batch.
        epoch: number of the epoch, from 0.
        dataset: the training part, in which the cause may be.
    """
    return (
        f"{config['model']}: the loss of a batch is {loss.item()} in epoch {epoch + 1}; training "
        f"diverged. {_remedy(config, dataset)}"
    )


def diverged(
    config: Config, scores: torch.Tensor, labels: torch.Tensor, dataset: CTRDataset | None = None
) -> str | None:
    """A sentence about scores that are far worse than one constant for all rows; None otherwise.

    Args:
        config: the run's Config.
        scores: click probabilities ``[R]``.
        labels: labels ``[R]``.
        dataset: the part that was scored, in which the cause may be.
    """
    rate = float(labels.double().mean())
    constant = _log_loss(np.full(len(labels), rate), labels.numpy())
    value = _log_loss(scores.double().numpy(), labels.numpy())
    # A model that has hardly begun to learn has about .69, whatever the constant has.
    if not value > max(_WORSE, 2 * constant):
        return None
    return (
        f"{config['model']} diverged: its LogLoss is {value:.4g}, that of one constant for all "
        f"rows {constant:.4g}. Its scores are no probabilities. {_remedy(config, dataset)}"
    )


def _log_loss(scores: np.ndarray, labels: np.ndarray) -> float:
    scores = np.clip(scores, 1e-15, 1 - 1e-15)  # as RecBole's LogLoss
    return float(-np.where(labels == 1, np.log(scores), np.log1p(-scores)).mean())


def exploded(config: Config, losses: list[float], dataset: CTRDataset | None = None) -> str | None:
    """A sentence about a last epoch whose loss is far above the smallest before; else None.

    Args:
        config: the run's Config.
        losses: the mean loss of each epoch so far.
        dataset: the training part, in which the cause may be.
    """
    *before, last = losses
    if not before or not last > _TIMES * max(abs(min(before)), 1.0):
        return None
    return (
        f"{config['model']}: the loss rose from {min(before):.4g} to {last:.4g}; training "
        f"diverges. {_remedy(config, dataset)}"
    )
