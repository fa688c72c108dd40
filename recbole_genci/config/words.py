"""What the words of a command line, and other texts, mean as values. Nothing is executed."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_genci.utils.value_checks import shortened

_NOTHING = ("none", "~", "null")
_NAMES = {"dataset", "output", "append_to", "params_file", "resume", "resume_search"}


def parse_value(text: object) -> Any:
    """Read a string as a Python literal, true/false or none; any other string stays a string.

    RecBole ``eval``s such strings (configurator.py:131), which runs code and turns ``os.name`` into
    ``posix``.
    """
    if not isinstance(text, str):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.lower() in _NOTHING:
        return None
    try:
        with warnings.catch_warnings():  # of backslashes, which Python's own texts may not have
            warnings.simplefilter("ignore")
            return lists_for_tuples(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


def lists_for_tuples(value: Any) -> Any:
    """Turn the tuples in a value into lists, because RecBole's models add lists to sizes."""
    if isinstance(value, dict):
        return {key: lists_for_tuples(each) for key, each in value.items()}
    return [lists_for_tuples(each) for each in value] if isinstance(value, (list, tuple)) else value


def parse_argv(argv: Iterable[str]) -> dict:
    """Turn ``--key=value`` words into a dict.

    Raises:
        ValueError: a word is not ``--key=value``, or one key has two values.
    """
    parsed: dict[str, str] = {}
    for word in argv:
        key, equals, value = word[2:].partition("=")
        if not word.startswith("--") or not equals or not key:
            raise ValueError(
                f"command line: '{word}' is not of the form --key=value, for example "
                "--learning_rate=0.001."
            )
        if parsed.get(key, value) != value:
            hint = ""
            if parsed[key].count("[") != parsed[key].count("]"):  # {a:[b,c]}, to a shell, is two
                hint = (
                    " If the shell has divided one value at its commas, put it in quotation marks, "
                    f"with its words quoted too, such as --{key}=\"{{'name': ['a', 'b']}}\"."
                )
            raise ValueError(
                f"command line: --{key} is given twice, as '{parsed[key]}' and as '{value}'.{hint}"
            )
        parsed[key] = value
    return {key: value_of(key, value) for key, value in parsed.items()}


def check_dict(config_dict: object) -> None:
    """Refuse what is no dict of keys.

    Raises:
        ValueError: it is no mapping, or a key of it is no text.
    """
    if not isinstance(config_dict, Mapping):
        raise ValueError(
            f"config_dict: {shortened(config_dict)} is not a mapping of keys, as {{'epochs': 5}} "
            "is."
        )
    for key in config_dict:
        if not isinstance(key, str):
            raise ValueError(f"config_dict: {shortened(key)} is not the name of a key.")


def value_of(key: str, value: Any) -> Any:
    """``parse_value``, except that a name or path stays a text: 2024_01_02 is not 20240102."""
    value = _without_numpy(value)
    is_name = key in _NAMES or key.endswith(("_path", "_dir"))
    return value if is_name and str(value).lower() not in _NOTHING else parse_value(value)


def _without_numpy(value: Any) -> Any:
    """numpy's numbers as Python's, within lists and mappings too: a run's files can hold these."""
    if isinstance(value, Mapping):
        return {key: _without_numpy(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_numpy(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def listed_files(config_files: str | Path | Sequence[str | Path] | None) -> list:
    """Configuration files as a list, from a list, one path, or one text with spaces between."""
    if isinstance(config_files, Path):
        return [config_files]
    return config_files.split() if isinstance(config_files, str) else list(config_files or ())


def config_files_words(config_files: str | Path | Sequence[str | Path] | None) -> list[str]:
    """The word of a command line that names these configuration files, in a list."""
    files = listed_files(config_files)
    return [f"--config_files={' '.join(map(str, files))}"] if files else []
