"""The state of a sequence's last real position."""

from __future__ import annotations

import torch
from torch import Tensor


def last_state(states: Tensor, length: Tensor) -> Tensor:
    """The states ``[B, E]`` of the last real positions of ``[B, H, E]``, whose number is at least
    1.
    """
    return states[torch.arange(states.shape[0], device=states.device), length - 1]
