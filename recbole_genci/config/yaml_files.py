"""Read YAML files that people write, as RecBole reads them, and say clearly what is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from recbole_genci.utils.mappings import FastLoader, yaml_fault


class Loader(yaml.SafeLoader):
    """YAML in which 1e-5 is a number, as in RecBole's loader (configurator.py:106)."""


class _FastLoader(FastLoader):
    """As `Loader`, but with other words for a fault."""


for _loader in (Loader, _FastLoader):
    _loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?\d[\d_]*(?:\.[\d_]*)?[eE][-+]?\d+$"),
        list("-+0123456789"),
    )


_MOST_VALUES = 1_000_000
_TAGS_OF_NAMES = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


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
    except UnicodeDecodeError as error:
        raise ValueError(f"{key}: '{file}' is not YAML in UTF-8: {error}.") from error
    try:
        content = _loaded(text)
    except yaml.YAMLError as error:
        fault = yaml_fault(error, text)
        raise ValueError(f"{key}: '{file}' is not YAML in UTF-8: {fault}.") from error
    except RecursionError as error:
        raise ValueError(
            f"{key}: '{file}' nests its values too deeply to be read. Make them flatter."
        ) from error
    except _Refused as error:
        raise ValueError(f"{key}: '{file}' {error}") from error
    except (ValueError, OverflowError) as error:  # a date or number that there is not
        raise ValueError(f"{key}: '{file}' holds a value that is none: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{key}: '{file}' holds no 'key: value' lines.")
    return content


class _Refused(Exception):
    """Why a file is refused, as the end of a sentence that names it."""


def _loaded(text: str) -> Any:
    try:
        return _loaded_by(_FastLoader, text)
    except yaml.YAMLError:
        return _loaded_by(Loader, text)


def _loaded_by(kind: Any, text: str) -> Any:
    loader = kind(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check_size(root)
        if isinstance(root, yaml.MappingNode):
            _check_keys(root)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _check_size(root: yaml.Node) -> None:
    """Refuse anchors that hold themselves, or that multiply to more values than memory holds."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in open_nodes:
            line = node.start_mark.line + 1
            raise _Refused(f"has an anchor in line {line} that holds itself. Write its value out.")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            parts = node.value if isinstance(node, yaml.CollectionNode) else ()
            inner = (each for part in parts for each in (part if type(part) is tuple else [part]))
            sizes[id(node)] = 1 + sum(map(size, inner))
            open_nodes.remove(id(node))
        return sizes[id(node)]

    if size(root) > _MOST_VALUES:
        raise _Refused(
            f"holds more than {_MOST_VALUES:,} values, counting what its anchors repeat. "
            "Write only the values that you need."
        )


def _check_keys(root: yaml.MappingNode) -> None:
    if repeated := _repeated_key(root, set()):
        raise _Refused(
            f"gives {repeated.value} a second time in line {repeated.start_mark.line + 1}; the "
            "first value would be lost. Keep one."
        )
    for node, _ in root.value:
        if node.tag not in _TAGS_OF_NAMES:
            what = node.tag.rpartition(":")[2]
            shown = node.value if isinstance(node, yaml.ScalarNode) else f"a {what}"
            raise _Refused(
                f"has the key {shown} in line {node.start_mark.line + 1}, which YAML reads as "
                f"{what}, not as a text. Keys are names, such as epochs."
            )


def _repeated_key(node: yaml.Node, seen: set[int]) -> yaml.Node | None:
    """The first key node that one mapping, at any depth, holds twice; None if there is none.

    PyYAML silently takes the last one.

    Args:
        seen: the nodes that have been looked at; an anchor may name one again and again.
    """
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return None
    seen.add(id(node))
    parts = node.value
    if isinstance(node, yaml.MappingNode):
        names = set()
        for key, _ in node.value:
            # A key that is itself a list or mapping cannot be hashed; YAML's loader refuses it.
            if isinstance(key, yaml.ScalarNode):
                if key.value in names:
                    return key
                names.add(key.value)
        parts = [value for _, value in node.value]
    return next(filter(None, (_repeated_key(part, seen) for part in parts)), None)
