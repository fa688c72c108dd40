"""Whether a tensor is on the CPU, for layers that compute differently on a GPU."""

from __future__ import annotations

from torch import Tensor

from recbole_genci.utils.static import is_static


def on_cpu(x: Tensor) -> bool:
    """Whether ``x`` is on the CPU, where arithmetic takes the time; on a GPU kernel launches do.

    A program that is exported computes as on a GPU, which does not look at values either.
    Tests and operation counts replace this function to simulate a GPU.
    """
    return x.device.type == "cpu" and not is_static()
