"""Read files of JSON and YAML, and say what is wrong with one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

#: PyYAML's parser in C, ten times as fast, where this PyYAML has it.
FastLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_mapping(file: Path, needed: Sequence[str], remedy: str, key: str = "") -> dict:
    """Return the content of a ``.json`` or ``.yaml`` file that holds one mapping.

    Args:
        needed: keys that the mapping must have; name at least one.
        remedy: a sentence that tells a person what to do, for the error.
        key: the setting that named the file, for the error.

    Raises:
        ValueError: the file cannot be read or parsed, is no mapping or lacks a key.
    """
    where = f"{key}: {file}" if key else str(file)
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text) if file.suffix == ".json" else parse_yaml(text)
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error.strerror}). {remedy}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is damaged ({yaml_fault(error, text)}). {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where} is damaged ({' '.join(str(error).split())}). {remedy}"
        ) from error
    lacks = [name for name in needed if not isinstance(content, dict) or name not in content]
    if lacks:
        raise ValueError(f"{where} is damaged: it has no '{lacks[0]}'. {remedy}")
    return content


def parse_yaml(text: str) -> Any:
    """What ``yaml.safe_load`` returns, sooner."""
    try:
        return yaml.load(text, Loader=FastLoader)
    except yaml.YAMLError:
        return yaml.safe_load(text)  # whose words for a fault are plainer


def yaml_fault(error: yaml.YAMLError, text: str) -> str:
    """What is wrong with a YAML text, with line and column, but without a copy of the line."""
    if isinstance(error, yaml.MarkedYAMLError):
        found = [(error.context, error.context_mark), (error.problem, error.problem_mark)]
        return ", ".join(
            words if mark is None else f"{words} (line {mark.line + 1}, column {mark.column + 1})"
            for words, mark in found
            if words
        )
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        code = ord(text[error.position])
        return f"{error.reason}, found #x{code:04x} (line {line}, column {column})"
    return " ".join(str(error).split())
