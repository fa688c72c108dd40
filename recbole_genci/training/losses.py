"""Check the losses of a model while it is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from torch import nn

from recbole_genci.config import Config
from recbole_genci.utils.own_code import is_reference

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


def not_finite(config: Config, loss: torch.Tensor, epoch: int) -> str:
    """A sentence about a loss that is not finite.

    Args:
        config: the run's Config.
        loss: the loss of a batch.
        epoch: number of the epoch, from 0.
    """
    clipping = "" if config["clip_grad_norm"] else ", or set clip_grad_norm: {'max_norm': 5.0}"
    return (
        f"{config['model']}: the loss of a batch is {loss.item()} in epoch {epoch + 1}; training "
        f"diverged. Lower learning_rate (now {config['learning_rate']:g}){clipping}."
    )


def diverged(config: Config, scores: torch.Tensor, labels: torch.Tensor) -> str | None:
    """A sentence about scores that are far worse than one constant for all rows; None otherwise.

    Args:
        config: the run's Config.
        scores: click probabilities ``[R]``.
        labels: labels ``[R]``.
    """
    rate = float(labels.double().mean())
    constant = _log_loss(np.full(len(labels), rate), labels.numpy())
    value = _log_loss(scores.double().numpy(), labels.numpy())
    # A model that has hardly begun to learn has about .69, whatever the constant has.
    if not value > max(_WORSE, 2 * constant):
        return None
    return (
        f"{config['model']} diverged: its LogLoss is {value:.4g}, that of one constant for all "
        f"rows {constant:.4g}. Its scores are no probabilities. Lower learning_rate (now "
        f"{config['learning_rate']:g}) or set clip_grad_norm: {{'max_norm': 5.0}}."
    )


def _log_loss(scores: np.ndarray, labels: np.ndarray) -> float:
    scores = np.clip(scores, 1e-15, 1 - 1e-15)  # as RecBole's LogLoss
    return float(-np.where(labels == 1, np.log(scores), np.log1p(-scores)).mean())


def exploded(config: Config, losses: list[float]) -> str | None:
    """A sentence about a last epoch whose loss is far above the smallest before; else None."""
    *before, last = losses
    if not before or not last > _TIMES * max(abs(min(before)), 1.0):
        return None
    return (
        f"{config['model']}: the loss rose from {min(before):.4g} to {last:.4g}; training "
        f"diverges. Lower learning_rate (now {config['learning_rate']:g}) or set clip_grad_norm: "
        "{'max_norm': 5.0}."
    )
