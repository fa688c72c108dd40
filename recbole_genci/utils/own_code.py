"""A person's own models and metrics, by reference: ``module:Name`` or ``path/to/file.py:Name``.

The command line takes references, and a run's folder keeps them so that the code can be found
again. Importing a reference runs its code. A run's folder may come from a stranger, so its
references are imported only with permission: code that reads such a folder first calls
``permitted_model``.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import sys
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

from recbole_genci.utils.answers import is_out_of_memory
from recbole_genci.utils.layout import CONFIG_FILE
from recbole_genci.utils.validation import nearest

#: Objects by reference that this process was given from Python or has imported.
_KNOWN: dict[str, object] = {}
#: Folders that were added to this process's module search path.
_search_folders: list[str] = []
#: Packages whose code is not a person's own.
_LIBRARIES = (
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
_NO_SOURCE = uuid.uuid4().hex  # stands for source that nobody can read: no other process has it


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
    thing = vars(thing).get("__wrapped__", thing)
    assert not isinstance(thing, str)
    place = _FILE_MODULES.get(thing.__module__, thing.__module__)
    reference = f"{place}:{thing.__qualname__.rpartition('.')[2]}"
    _KNOWN[reference] = thing
    return reference


def is_importable(reference: str) -> bool:
    """Whether another process can import ``reference`` and gets the same object."""
    place, _, name = reference.rpartition(":")
    if place == "__main__":
        return False
    known = _KNOWN.get(reference)
    module = sys.modules.get(_module_name(Path(place)) if place.endswith(".py") else place)
    return known is None or getattr(module, name, None) is known


def is_known(reference: str) -> bool:
    """Whether this process has the object already, so that no code runs to get it."""
    return reference_of(reference) in _KNOWN


def load_object(reference: str, key: str) -> Any:
    """Import the object that ``reference`` names; this runs the code of its module.

    Args:
        key: the setting that holds the reference, for the error.

    Raises:
        ValueError: there is no such module, file or name, or the code fails; names the file and
            line of an error in a person's own code.
    """
    reference = reference_of(reference)
    if reference in _KNOWN:
        return _KNOWN[reference]
    place, _, name = reference.rpartition(":")
    if not place or not name.isidentifier():
        raise ValueError(
            f"{key}: '{reference}' is not of the form module:Name or path/to/file.py:Name."
        )
    if place == "__main__":
        raise ValueError(
            f"{key}: {name} was defined in a program or a notebook, from which it cannot be "
            "imported. Give the class itself, from Python, or write it into a file."
        )
    module = (
        _import_file(Path(place), key)
        if place.endswith(".py")
        else _import_module(place, reference, key)
    )
    if name not in vars(module):
        own = [
            each
            for each, value in vars(module).items()
            if getattr(value, "__module__", None) == module.__name__
        ]
        raise ValueError(
            f"{key}: {_shown(module)} has no '{name}'.{nearest(name, own)} It defines "
            f"{', '.join(own) or 'no class and no function'}."
        )
    _KNOWN[reference] = vars(module)[name]
    return _KNOWN[reference]


def search_folders() -> list[str]:
    """Folders in which other processes must look for modules too."""
    return list(_search_folders)


def add_search_folders(folders: Iterable[str]) -> None:
    """Look for modules in these folders too, before all others."""
    for folder in folders:
        if folder not in sys.path:
            sys.path.insert(0, folder)
        if folder not in _search_folders:
            _search_folders.append(folder)


# ---------------------------------------------------------------- importing

_FILE_MODULES: dict[str, str] = {}  # modules that were read from a file by its path


def _import_module(name: str, reference: str, key: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(
            f"{key}: '{name}' of '{reference}' is not the name of a module; a file's name ends in "
            ".py."
        )
    # As `python -m` does; an installed command would look only beside itself.
    add_search_folders([os.getcwd()])
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            here = [file.stem for file in Path().glob("*.py")]
            raise ValueError(
                f"{key}: there is no module '{error.name}', which '{reference}' names; it was "
                f"looked for in {os.getcwd()} and in PYTHONPATH.{nearest(error.name, here)} Or "
                f"give the path of its file: path/to/{error.name}.py:{name_of(reference)}."
            ) from error
        raise ValueError(f"{key}: {described(error)}") from error
    except (Exception, SystemExit) as error:  # a person's own module may raise anything
        raise ValueError(f"{key}: {described(error)}") from error


def _module_name(file: Path) -> str:
    return f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"


def _import_file(file: Path, key: str) -> ModuleType:
    if not file.is_file():
        there = [each.name for each in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise ValueError(f"{key}: there is no file {file}.{nearest(file.name, there)}")
    name = _module_name(file)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # of a file whose name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name], _FILE_MODULES[name] = module, str(file)
    # As `python file.py` does: files beside it can be imported.
    add_search_folders([str(file.parent)])
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a person's own file may raise anything
        del sys.modules[name], _FILE_MODULES[name]
        raise ValueError(f"{key}: {described(error)}") from error
    return module


def described(error: BaseException) -> str:
    """An error of a person's own code in one line: file and line in that code, type, message."""
    words = " ".join(str(error).split()) or "no words"
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}."
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if is_own(frame.filename)
    ]
    where = f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""
    return f"{where}{type(error).__name__}: {words.rstrip('.')}."


def is_own(file: str) -> bool:
    """Whether a file is neither a library's nor Python's own."""
    ours = str(Path(__file__).parents[1])
    return (
        not file.startswith(("<", ours))
        and "site-packages" not in file
        and "dist-packages" not in file
        and not file.startswith(os.path.dirname(os.__file__))
    )


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


@contextlib.contextmanager
def errors_in_words(key: str, what: str) -> Iterator[None]:
    """Turn any error of a person's own code inside the block into a ValueError of one sentence.

    A ValueError passes unchanged, and so does a lack of memory.
    """
    try:
        yield
    except ValueError:
        raise
    except (Exception, SystemExit) as error:  # a person's own code may raise anything
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{key}: {what}: {described(error)}") from error


class OwnCodeFailed(ValueError):
    """A person's own model failed while it was trained; the sentence names its file and line."""


@contextlib.contextmanager
def errors_of_own(thing: Callable, key: str) -> Iterator[None]:
    """Turn errors that passed through the source of a person's own class into ``OwnCodeFailed``.

    For long blocks, in which other code may fail too; its errors pass unchanged, and so does a lack
    of memory.
    """
    files = {str(file) for file in _own_sources(thing)}
    try:
        yield
    except (Exception, SystemExit) as error:  # a person's own code may raise anything
        passed = {os.path.realpath(frame.filename) for frame in _frames(error)}
        if is_out_of_memory(error) or not files & passed:
            raise
        raise OwnCodeFailed(f"{key}: {name_of(reference_of(thing))}: {described(error)}") from error


def _frames(error: BaseException) -> traceback.StackSummary:
    return traceback.extract_tb(error.__traceback__)


def _own_sources(thing: Callable) -> list[Path]:
    """The files that define a person's own function, or class with its own base classes."""
    parts = thing.__mro__ if isinstance(thing, type) else [thing]
    files = {source_file(each) for each in parts if not is_of_a_library(each)}
    return sorted(file for file in files if file and file.is_file())


def mentions(thing: Callable, word: str) -> bool:
    """Whether the files of a person's own class have a word in them."""
    return any(word.encode() in file.read_bytes() for file in _own_sources(thing))


def _shown(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or module.__name__)


# ---------------------------------------------------------------- where code lies, and which it is


def source_file(thing: Callable) -> Path | None:
    """The file that defines a class or function; None if a notebook defines it."""
    file = getattr(sys.modules.get(thing.__module__), "__file__", None)
    return Path(file).resolve() if file else None


def is_of_a_library(thing: Callable) -> bool:
    """Whether a class or function belongs to RecBole, this package or another library."""
    return thing.__module__.partition(".")[0] in _LIBRARIES


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
    defined = _own_sources(thing)
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
        if (steps := name.split("."))[0] not in {*_LIBRARIES, *sys.stdlib_module_names}
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


# ---------------------------------------------------------------- permission


def own_references(saved: Mapping) -> dict[str, str]:
    """References in a run's saved configuration, each with the key that holds it."""
    metrics = saved.get("metrics")
    by_key = {
        "model": [saved.get("model")],
        "metrics": metrics if isinstance(metrics, (list, tuple)) else [metrics],
        "valid_metric": [saved.get("valid_metric")],
    }
    return {
        reference: key
        for key, values in by_key.items()
        for reference in values
        if is_reference(reference)
    }


def permitted_model(
    saved: Mapping,
    folder: Path,
    model: str | type | None = None,
    trust_code: bool = False,
    way: str = "load",
) -> str:
    """The reference or name of a run's model, if the code that its folder names may be imported.

    Args:
        saved: the content of the folder's ``config.yaml``. It may come from a stranger, so nothing
            in it is imported here.
        folder: the run's folder.
        model: the class or its reference, if a person has given it.
        trust_code: whether all code that the folder names may be imported.
        way: how the folder is read, ``load`` or an option of the command line, for the error.

    Raises:
        ValueError: the folder names code that this process has not yet imported and that nobody
            has allowed, or its model is not ``model``.
    """
    if not isinstance(saved["model"], str):
        raise ValueError(f"{folder / CONFIG_FILE} is damaged: its model is {saved['model']!r}.")
    if not isinstance(trust_code, bool):
        raise ValueError(f"trust_code: {trust_code!r} is neither True nor False.")
    chosen = saved["model"] if model is None else reference_of(model)
    if name_of(chosen) != name_of(saved["model"]):
        raise ValueError(
            f"model: the run in {folder} is one of {name_of(saved['model'])}, not of "
            f"{name_of(chosen)}."
        )
    if trust_code:
        return chosen
    for reference, key in own_references(saved).items():
        if (key == "model" and model is not None) or is_known(reference):
            continue
        if way == "load":
            ways = ["give load or Ranker the class by model=..."] if key == "model" else []
            ways.append("allow the import by trust_code=True")
        else:
            ways = [f"name it, {way}=<folder> --model=<module:Class>"] if key == "model" else []
            ways.append(f"allow the import by {way}=<folder> --trust_code=True")
        raise ValueError(
            f"{key}: {folder} names code of its own, '{reference}', and importing it would run "
            f"that code. If you know the code, {', or '.join(ways)}."
        )
    return chosen
