"""Import what a reference names."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole_genci.utils.own_code import references
from recbole_genci.utils.own_code.errors import described
from recbole_genci.utils.own_code.references import module_name, name_of, reference_of
from recbole_genci.utils.value_checks import nearest

#: Folders that were added to this process's module search path.
_search_folders: list[str] = []


def load_object(reference: str, key: str) -> Any:
    """Import the object that ``reference`` names; this runs the code of its module.

    Args:
        key: the setting that holds the reference, for the error.

    Raises:
        ValueError: there is no such module, file or name, or the code fails; names the file and
            line of an error in a person's own code.
    """
    reference = reference_of(reference)
    if reference in references.KNOWN:
        return references.KNOWN[reference]
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
    references.KNOWN[reference] = vars(module)[name]
    return references.KNOWN[reference]


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


def _import_file(file: Path, key: str) -> ModuleType:
    if not file.is_file():
        there = [each.name for each in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise ValueError(f"{key}: there is no file {file}.{nearest(file.name, there)}")
    name = module_name(file)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # of a file whose name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name], references.FILE_MODULES[name] = module, str(file)
    # As `python file.py` does: files beside it can be imported.
    add_search_folders([str(file.parent)])
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a person's own file may raise anything
        del sys.modules[name], references.FILE_MODULES[name]
        raise ValueError(f"{key}: {described(error)}") from error
    return module


def _shown(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or module.__name__)
