"""Where the value of a configuration key comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

DEFAULT, TUNED, FILE, DICT, COMMAND_LINE = "default", "tuned", "file", "dict", "command line"
RECIPE, DATASET = "recipe", "dataset"
_PROPERTIES = "properties"


class KeySource(NamedTuple):
    """Where the value of a key comes from.

    Attributes:
        kind: ``default`` (properties of RecBole or of this plugin), ``tuned`` (properties found by
            tuning for this model and dataset, with the recipe of that name), ``recipe`` (one of
            properties/recipe/), ``dataset`` (the dataset's file in properties/dataset/), ``file``
            (one of ``config_files``), ``dict`` (``config_dict``) or ``command line``.
        file: the YAML file of ``tuned``, ``recipe``, ``dataset`` and ``file``; None for the others.
    """

    kind: str
    file: Path | None = None

    def __str__(self) -> str:
        if self.kind in (TUNED, DATASET):
            assert self.file is not None
            return "/".join(self.file.parts[-3:])
        if self.kind == RECIPE:
            assert self.file is not None
            return f"recipe {self.file.stem}"
        return {FILE: str(self.file), DICT: "config_dict"}.get(self.kind, self.kind)


def key_source(
    key: str,
    argv: Mapping,
    values: Mapping,
    files: Iterable[tuple[str | Path, Mapping]],
    properties: Iterable[tuple[str | Path, Mapping]],
) -> KeySource:
    """The strongest source that holds ``key``.

    Args:
        key: any configuration key; if nothing sets it, its source is ``default``.
        argv: keys of the command line.
        values: keys of the dict.
        files: each configuration file with its keys, later ones win.
        properties: each properties file with its keys, later ones win.
    """
    if key in argv:
        return KeySource(COMMAND_LINE)
    if key in values:
        return KeySource(DICT)
    if holding := [Path(file) for file, keys in files if key in keys]:
        return KeySource(FILE, holding[-1])
    holding = [Path(file) for file, keys in properties if key in keys]
    if holding and holding[-1].parent.parent.name == TUNED:
        return KeySource(TUNED, holding[-1])
    if holding and holding[-1].parent.name == RECIPE:
        return KeySource(RECIPE, holding[-1])
    if holding and holding[-1].parts[-3:-1] == (_PROPERTIES, DATASET):
        return KeySource(DATASET, holding[-1])
    return KeySource(DEFAULT)
