"""References of a person's own models and metrics: ``module:Name`` or ``path/to/file.py:Name``."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeGuard

#: Objects by reference that this process was given from Python or has imported.
KNOWN: dict[str, object] = {}
#: Modules that were read from a file by its path, and that path.
FILE_MODULES: dict[str, str] = {}


def is_reference(text: object) -> TypeGuard[str]:
    """Whether ``text`` is ``module:Name`` or ``file.py:Name``, not the name of a known model or
    metric.
    """
    return isinstance(text, str) and ":" in text


def name_of(reference: str) -> str:
    """The name in a reference: ``MyNet`` for ``my_models:MyNet``."""
    return reference.rpartition(":")[2].strip()


def reference_of(thing: str | Callable) -> str:
    """The reference of a class or function; a text is returned, with file paths made absolute.

    A class that no other process could import (defined in a program, a notebook or a function) has
    a reference too, by which this process remembers it.
    """
    if isinstance(thing, str):
        place, colon, name = thing.strip().rpartition(":")
        return (
            f"{Path(place).expanduser().resolve()}:{name}"
            if colon and place.endswith(".py")
            else thing.strip()
        )
    if isinstance(thing, type):  # a decorated function has a __wrapped__ too, which is another one
        thing = vars(thing).get("__wrapped__", thing)
    assert not isinstance(thing, str)
    place = FILE_MODULES.get(thing.__module__, thing.__module__)
    reference = f"{place}:{thing.__qualname__.rpartition('.')[2]}"
    KNOWN[reference] = thing
    return reference


def is_importable(reference: str) -> bool:
    """Whether another process can import ``reference`` and gets the same object."""
    place, _, name = reference.rpartition(":")
    if place == "__main__":
        return False
    known = KNOWN.get(reference)
    module = sys.modules.get(module_of(reference))
    return known is None or getattr(module, name, None) is known


def is_known(reference: str) -> bool:
    """Whether this process has the object already, so that no code runs to get it."""
    return reference_of(reference) in KNOWN


def module_name(file: Path) -> str:
    """The name by which this process imports a file by its path."""
    return f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"


def module_of(reference: str) -> str:
    """The name by which this process imports the module of a reference."""
    place = reference_of(reference).rpartition(":")[0]
    return module_name(Path(place)) if place.endswith(".py") else place
