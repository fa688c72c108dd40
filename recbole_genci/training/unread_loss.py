"""Losses that the host does not wait for: a GPU's are read once an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Unread(torch.Tensor):
    """A loss whose ``item()`` gives a tensor on its device, which can be summed like a number.

    RecBole's trainer reads each part of each batch's loss (trainer.py:247-259), and a GPU's queue
    runs empty meanwhile.
    """

    def item(self) -> Any:
        """A copy of the loss in float64, in which RecBole sums numbers too; a graph's loss changes
        with the next batch.
        """
        loss = self.detach().as_subclass(torch.Tensor)
        return loss.to(torch.float64, copy=True).reshape(())


def unread(calculate_loss: Callable) -> Callable:
    """``calculate_loss`` of a batch, whose result the trainer does not wait for."""

    def loss_of(batch: Any) -> Any:
        losses = calculate_loss(batch)
        if isinstance(losses, tuple):
            return tuple(each.as_subclass(Unread) for each in losses)
        return losses.as_subclass(Unread)

    return loss_of
