"""Deterministic arithmetic: the number of threads changes rounding, and so some codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits  # scikit-learn needs it, so it is always there


def _flushes_denormals() -> bool:
    return float(torch.tensor([2.0**-126]) * 0.5) == 0.0


@contextmanager
def fixed_threads(threads: int) -> Iterator[None]:
    """Run the block with this many CPU threads in PyTorch and BLAS, and with flush-to-zero.

    Flush-to-zero takes numbers below 1e-38 for 0. After the block the old settings are restored.
    Results inside the block do not depend on the threads of the machine or the caller. They may
    still differ in the last bits between processors, library versions, and CPU and GPU.
    """
    before, flushed = torch.get_num_threads(), _flushes_denormals()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(flushed)
