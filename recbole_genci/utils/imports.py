"""Imports of large libraries without the garbage collector."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected(own_process: bool = False) -> Iterator[None]:
    """Search for no garbage while the block imports libraries.

    torch and its like make a million objects that stay. To search them again and again takes a
    third of a short command.

    Args:
        own_process: the process is a command's own, so that what there is after the block may stay
            for good: it is never searched again. Nothing stays if torch was imported before, as in
            a program whose objects, models of earlier runs among them, must be freed.
    """
    freezes = own_process and "torch" not in sys.modules
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if freezes:
            gc.freeze()
        if enabled:
            gc.enable()
