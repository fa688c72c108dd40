"""Which version of a person's own code it is."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.machinery
import inspect
import sys
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from recbole_genci.utils.own_code.sources import (
    LIBRARIES,
    is_of_a_library,
    is_own,
    own_sources,
    source_file,
)

_NO_SOURCE = uuid.uuid4().hex  # stands for source that nobody can read: no other process has it


@functools.cache
def source_digest(thing: Callable) -> str | None:
    """SHA-256 of the files that define a person's own function, or class with its own base classes,
    and of a person's own modules that these files import, and those in turn.

    None for a class or function of a library. What a file imports otherwise than by a statement
    (``importlib``) does not count, nor do the modules of a notebook. A class without readable
    source has another digest in each process.
    """
    parts = [
        each
        for each in (thing.__mro__ if isinstance(thing, type) else [thing])
        if not is_of_a_library(each)
    ]
    if not parts:
        return None
    defined = own_sources(thing)
    texts = [file.read_bytes() for file in defined]
    for each in parts:
        if source_file(each) is None:
            try:
                texts.append(inspect.getsource(each).encode())
            except (OSError, TypeError):  # a class in a notebook
                texts.append(_NO_SOURCE.encode())
    # By content, not by path: the same files in another folder have the same digest.
    texts += sorted(file.read_bytes() for file in _imported(parts) if file not in defined)
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def _imported(parts: Iterable[Callable]) -> set[Path]:
    """The files of a person's own modules that those of ``parts`` import, and those in turn.

    They are found as the files say, whether a module is loaded already or only will be, so that
    each process finds the same.
    """
    found: set[Path] = set()
    left = [(each.__module__, file) for each in parts if (file := source_file(each))]
    seen = {file for _, file in left}
    while left:
        for module in _named_modules(*left.pop()):
            file = _module_file(module)
            if file is None or not is_own(str(file)):
                continue
            found.add(file)
            if file not in seen:
                seen.add(file)
                left.append((module, file))
    return found


def _named_modules(module: str, file: Path) -> set[str]:
    """The modules that a file's import statements may name, with the packages that they are in."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):  # edited since it was imported
        return set()
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - max(node.level - 1, 0)]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            names += [base, *(f"{base}.{each.name}" for each in node.names)]
    return {
        ".".join(steps[:length])
        for name in names
        if (steps := name.split("."))[0] not in {*LIBRARIES, *sys.stdlib_module_names}
        for length in range(1, len(steps) + 1)
    }


def _module_file(name: str) -> Path | None:
    """The Python file of a module, which is not imported for it; None if there is none."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if name not in sys.modules:
        places, spec = None, None
        for length in range(1, name.count(".") + 2):
            try:
                step = ".".join(name.split(".")[:length])
                spec = importlib.machinery.PathFinder.find_spec(step, places)
            except (ImportError, ValueError):  # no name of a module
                return None
            places = spec.submodule_search_locations if spec else None
            if length <= name.count(".") and not places:
                return None
        file = spec.origin if spec else None
    return Path(file).resolve() if file and file.endswith(".py") else None
