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

from recbole_genci.utils.own_code.captured import captured
from recbole_genci.utils.own_code.references import module_of
from recbole_genci.utils.own_code.sources import (
    LIBRARIES,
    is_of_a_library,
    is_own,
    own_sources,
    source_file,
)

_NO_SOURCE = uuid.uuid4().hex  # stands for source that nobody can read: no other process has it


@functools.cache
def source_digest(thing: Callable, reference: str | None = None) -> str | None:
    """SHA-256 of the files that define a person's own function, or class with its own base classes,
    and of a person's own modules that these files import, and those in turn.

    None for a class or function of a library. What a file imports otherwise than by a statement
    (``importlib``) does not count, nor do the modules of a notebook. A class without readable
    source has another digest in each process. Of classes that a function has made, the values that
    it gave them count.

    Args:
        thing: the class, the function, or another object that can be called.
        reference: where ``thing`` was found. That file counts if it has no file of its own, as an
            object made by ``functools.partial``, or a library's function under another name.
    """
    has_name = hasattr(thing, "__qualname__")
    if reference is not None and (not has_name or is_of_a_library(thing)):
        return _digest_of_module(module_of(reference))
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
    places = [(each.__module__, file) for each in parts if (file := source_file(each))]
    texts += sorted(file.read_bytes() for file in _imported(places) if file not in defined)
    texts += [words.encode() for words in captured(thing)] if has_name else []
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def _digest_of_module(name: str) -> str | None:
    """The digest of a module and of a person's own modules that it imports; None of a library's."""
    file = _module_file(name)
    if file is None or not is_own(str(file)):
        return None
    texts = [file, *(_imported([(name, file)]) - {file})]
    return hashlib.sha256(b"\0".join(sorted(each.read_bytes() for each in texts))).hexdigest()


def _imported(places: Iterable[tuple[str, Path]]) -> set[Path]:
    """The files of a person's own modules that those of ``places`` import, and those in turn.

    They are found as the files say, whether a module is loaded already or only will be, so that
    each process finds the same.
    """
    found: set[Path] = set()
    left = list(places)
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
