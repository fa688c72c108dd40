"""Exceptions from mixed precision (``precision: bf16``), where 8 significant bits are too few."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor


def in_float32(device: torch.device) -> contextlib.AbstractContextManager:
    """Inside the block, products are as exact as their inputs, in mixed precision too."""
    name = device.type
    # Not entered without need: an exported program would hold the block.
    if torch.amp.is_autocast_available(name) and torch.is_autocast_enabled(name):
        return torch.autocast(name, enabled=False)
    return contextlib.nullcontext()


def widened(x: Tensor) -> Tensor:
    """``x`` in float32 if it is bfloat16; others as they are."""
    return x.float() if x.dtype == torch.bfloat16 else x
