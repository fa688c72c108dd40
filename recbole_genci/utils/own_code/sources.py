"""Whose code it is, and where it lies."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

#: Packages whose code is not a person's own.
LIBRARIES = (
    "recbole",
    "recbole_genci",
    "torch",
    "numpy",
    "builtins",
    "abc",
    "typing",
    "functools",
    "sklearn",
)
_OURS, _PYTHON = str(Path(__file__).parents[2]), os.path.dirname(os.__file__)


def source_file(thing: Callable) -> Path | None:
    """The file that defines a class or function; None if a notebook defines it."""
    file = getattr(sys.modules.get(thing.__module__), "__file__", None)
    return Path(file).resolve() if file else None


def is_of_a_library(thing: Callable) -> bool:
    """Whether a class or function belongs to RecBole, this package or another library."""
    return thing.__module__.partition(".")[0] in LIBRARIES


def is_own(file: str) -> bool:
    """Whether a file is neither a library's nor Python's own."""
    return (
        not file.startswith(("<", _OURS))
        and "site-packages" not in file
        and "dist-packages" not in file
        and not file.startswith(_PYTHON)
    )


def own_sources(thing: Callable) -> list[Path]:
    """The files that define a person's own function, or class with its own base classes."""
    parts = thing.__mro__ if isinstance(thing, type) else [thing]
    files = {source_file(each) for each in parts if not is_of_a_library(each)}
    return sorted(file for file in files if file and file.is_file())


def mentions(thing: Callable, word: str) -> bool:
    """Whether the files of a person's own class have a word in them."""
    return any(word.encode() in file.read_bytes() for file in own_sources(thing))


def places_of(thing: type, methods: Iterable[str]) -> str:
    """Where a person's own class defines its methods: ``forward in my_models.py, line 9``.

    The class's own file if it inherits all of them.
    """
    found = []
    for name in methods:
        code = getattr(inspect.unwrap(getattr(thing, name, None) or len), "__code__", None)
        if code is not None and is_own(code.co_filename):
            found.append(f"{name} in {code.co_filename}, line {code.co_firstlineno}")
    return " and ".join(found) or str(source_file(thing) or thing.__module__)
