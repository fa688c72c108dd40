"""Where a tensor lies, for layers that take another way on a GPU."""

from __future__ import annotations

from torch import Tensor


def on_cpu(x: Tensor) -> bool:
    """Whether arithmetic costs the time; on a GPU launches do. Tests and operation counts pretend
    by it to have a GPU.
    """
    return x.device.type == "cpu"
