"""Whether what runs now must have the same operations and shapes for any values.

Code that looks at values (the longest history, which rows are empty) saves work, but cannot become
a program that runs without Python: its shapes would be those of one batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_static: ContextVar[bool] = ContextVar("static", default=False)


def is_static() -> bool:
    """Whether no value may decide about operations or shapes; so it is within `torch.compile`."""
    return torch.compiler.is_compiling() or _static.get()


@contextmanager
def static_shapes() -> Iterator[None]:
    """Inside the block no value decides about operations or shapes."""
    token = _static.set(True)
    try:
        yield
    finally:
        _static.reset(token)
