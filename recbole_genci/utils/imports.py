"""Imports of large libraries without the garbage collector."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Search for no garbage while the block imports libraries, nor ever among what they made.

    torch and its like make a million objects that stay. To search them again and again takes a
    third of a short command. In a program that had torch before, what they made is searched later.
    """
    is_own = "torch" not in sys.modules or gc.get_freeze_count() > 0
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_own:
            gc.freeze()
        if enabled:
            gc.enable()
