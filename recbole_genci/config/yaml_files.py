"""Read YAML files that people write, as RecBole reads them, and say clearly what is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml


class Loader(yaml.SafeLoader):
    """YAML in which 1e-5 is a number, as in RecBole's loader (configurator.py:106)."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?\d[\d_]*(?:\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def read_yaml(file: Path, key: str) -> dict:
    """Return the mapping that ``file`` holds.

    Args:
        file: an existing file.
        key: the key that names the file; the error begins with it.

    Raises:
        ValueError: the file is not YAML in UTF-8, holds no mapping, or gives a key twice.
    """
    try:
        text = file.read_text(encoding="utf-8")
        content, repeated = _loaded(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{key}: '{file}' is not YAML in UTF-8: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{key}: '{file}' holds no 'key: value' lines.")
    if repeated:
        raise ValueError(
            f"{key}: '{file}' gives {repeated.value} a second time in line "
            f"{repeated.start_mark.line + 1}; the first value would be lost. Keep one."
        )
    return content


def _loaded(text: str) -> tuple[Any, yaml.Node | None]:
    """What the text holds, and the first key that one of its mappings holds twice."""
    loader = Loader(text)
    try:
        root = loader.get_single_node()
        return loader.construct_document(root) if root else None, _repeated_key(root)
    finally:
        loader.dispose()


def _repeated_key(node: yaml.Node | None) -> yaml.Node | None:
    """The first key node that one mapping, at any depth, holds twice; None if there is none.

    PyYAML silently takes the last one.
    """
    if isinstance(node, yaml.MappingNode):
        seen = []  # a list, because a key that is itself a list or mapping cannot be hashed
        for key, value in node.value:
            if key.value in seen:
                return key
            seen.append(key.value)
            if repeated := _repeated_key(value):
                return repeated
    if isinstance(node, yaml.SequenceNode):
        return next(filter(None, map(_repeated_key, node.value)), None)
    return None
