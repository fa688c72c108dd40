"""What tells classes or functions apart that one and the same source has made.

A function that makes classes, ``make(4)`` and ``make(64)``, gives all of them one name and one
file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any


def captured(thing: Callable) -> list[str]:
    """The values that a made class or function has from its maker, in words.

    They are variables of the maker that it reads, defaults of arguments, and the bases and
    attributes of a class. Empty for a class or function that its file defines by a statement of its
    own. An object that ``repr`` describes by its address has other words in each process.
    """
    if isinstance(thing, type):
        thing = vars(thing).get("__wrapped__", thing)  # see model.base.contract_of
    return sorted(_words_of(thing, ())) if _is_made(thing) else []


def _is_made(thing: Callable) -> bool:
    name, module = thing.__qualname__, sys.modules.get(thing.__module__)
    # ``type("Net", ...)`` gives its class a name that nothing in the file has.
    return "<locals>" in name or (module is not None and not hasattr(module, name.split(".")[0]))


def _words_of(value: Any, before: tuple) -> Iterator[str]:
    """The words of a value.

    Args:
        value: an attribute, a captured variable, or the class or function itself.
        before: the classes and functions that have led here; one may read itself.
    """
    if isinstance(value, property):
        for function in (value.fget, value.fset):
            yield from _words_of(function, before)
        return
    value = getattr(value, "__func__", value)  # of a method
    if any(value is each for each in before):
        return
    before = (*before, value)
    if hasattr(value, "__code__"):
        yield f"{value.__qualname__}{value.__defaults__}{value.__kwdefaults__}"
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            if name != "__class__":  # of super()
                yield from (f"{name}={words}" for words in _words_of(cell.cell_contents, before))
    elif isinstance(value, type):
        yield f"{value.__module__}.{value.__qualname__}"
        if _is_made(value):
            for base in value.__bases__:
                yield from _words_of(base, before)
            for name, attribute in vars(value).items():
                if not name.startswith(("__", "_abc_")) or hasattr(attribute, "__code__"):
                    yield from (f"{name}={words}" for words in _words_of(attribute, before))
    else:
        yield repr(value)
