"""YAML files that people write: read as RecBole reads them, and refused in words."""

from __future__ import annotations

import re
from pathlib import Path

import yaml


class Loader(yaml.SafeLoader):
    """YAML in which 1e-5 is a number, as in RecBole's loader (configurator.py:106)."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?\d[\d_]*(?:\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def read_yaml(file: Path, key: str) -> dict:
    """The mapping that ``file`` holds.

    Args:
        file: exists.
        key: what the file is for; the error begins with it.

    Raises:
        ValueError: it is not YAML in UTF-8, holds no mapping, or gives a key twice.
    """
    try:
        text = file.read_text(encoding="utf-8")
        content, repeated = yaml.load(text, Loader=Loader), _repeated_key(yaml.compose(text))
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


def _repeated_key(node: yaml.Node | None) -> yaml.Node | None:
    """The first key node that one mapping of a YAML document, at any depth, holds twice; YAML takes
    the last in silence.
    """
    if isinstance(node, yaml.MappingNode):
        seen = []  # a key that is itself a list or mapping has a value that cannot be hashed
        for key, value in node.value:
            if key.value in seen:
                return key
            seen.append(key.value)
            if found := _repeated_key(value):
                return found
    if isinstance(node, yaml.SequenceNode):
        return next(filter(None, map(_repeated_key, node.value)), None)
    return None
