"""Whether a tensor is on the CPU, for layers that compute differently on a GPU."""

from __future__ import annotations

from torch import Tensor


def on_cpu(x: Tensor) -> bool:
    """Whether ``x`` is on the CPU, where arithmetic takes the time; on a GPU kernel launches do.

    Tests and operation counts replace this function to simulate a GPU.
    """
    return x.device.type == "cpu"
