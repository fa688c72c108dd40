"""Models, files and keys from Python as the command line that means the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_genci.config.metric_names import written
from recbole_genci.config.words import (
    config_files_words,
    listed_files,
    parse_argv,
    value_of,
)
from recbole_genci.utils.own_code import is_importable, is_reference
from recbole_genci.utils.scripts import command_line


def as_command(
    script: str,
    words: Sequence[str],
    models: Sequence[str],
    config_files: str | Path | Sequence[str | Path] | None,
    config_dict: Mapping[str, Any] | None,
    argv: Sequence[str],
) -> str:
    """The command line that makes a request.

    A comment at its end names what no command line can hold, such as a class of a notebook.

    Args:
        script: the script that is started.
        words: those that stand before the keys.
        models: the references of the models that ``words`` name.
        config_files, config_dict, argv: as for ``run``.
    """
    keys, unwritten = _key_words(config_dict or {}, argv)
    files = config_files_words(config_files)
    if any(len(str(file).split()) > 1 for file in listed_files(config_files)):
        files, unwritten = [], ["config_files", *unwritten]  # spaces divide files
    if not all(map(_can_be_imported, models)):
        unwritten.insert(0, "model")
    line = command_line(script, *words, *files, *keys)
    return f"{line}  # Python alone can give {', '.join(unwritten)}" if unwritten else line


def _key_words(config_dict: Mapping[str, Any], argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words that set what both set, ``argv`` above the dict, and the keys that none can set."""
    typed, typed_words = parse_argv(argv), list(argv)
    words: list[str] = []
    unwritten: list[str] = []
    for key, given in config_dict.items():
        value = value_of(key, given)
        if key == "eval_args" and isinstance(value, dict) and isinstance(typed.get(key), dict):
            value |= typed[key]  # a Config merges them
            typed_words = [word for word in argv if not word.startswith(f"--{key}=")]
        elif key in typed:
            continue
        if key == "metrics" and (callable(value) or isinstance(value, list)):
            value = written(value)
        names = value if isinstance(value, list) else [value]
        if value_of(key, str(value)) == value and all(map(_can_be_imported, names)):
            words.append(f"--{key}={value}")
        else:
            unwritten.append(key)
    return [*words, *typed_words], unwritten


def _can_be_imported(name: Any) -> bool:
    """Whether another process finds what a value names; one that names no code counts as found."""
    return not is_reference(name) or is_importable(name)
