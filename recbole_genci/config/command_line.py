"""A command's words in RecBole's habits, brought into the one form ``--key=value``."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

#: RecBole's run_recbole.py calls these so; ``group_offset`` is its word for the key ``offset``.
_SHORT = {"-m": "--model", "-d": "--dataset"}
_OTHER_NAMES = {"--group_offset": "--offset"}
_SEVERAL = ("--config_files",)  # whose values may be words of their own
_HELP = ("--help", "-h")
_NEGATIVE = re.compile(r"-(\d|\.\d|(inf|nan)$)", re.IGNORECASE)


def key_value_words(argv: Sequence[str]) -> list[str]:
    """Write ``-m LR``, ``-d NAME`` and ``--key value`` as ``--key=value``; ``--help`` and ``-h``
    stay as they are.

    A value that is a word of its own may be a negative number, but may not begin with a dash
    otherwise: ``--key=value`` takes any value.

    Args:
        argv: the words as they were typed.

    Returns:
        list: words that ``parse_argv`` reads, one for each key, besides ``--help`` and ``-h``.

    Raises:
        ValueError: a key without a value, a value without a key, or one dash where two belong.
    """
    words, left = [], list(argv)
    while left:
        word = left.pop(0)
        if word in _HELP:
            words.append(word)
            continue
        key, equals, value = word.partition("=")
        key = _SHORT.get(key, key)
        if not key.startswith("--") or key == "--":
            raise ValueError(_not_a_key(word, words))
        values = [value] if equals else []
        while left and _is_value(left[0]) and (not values or key in _SEVERAL):
            values.append(left.pop(0))
        if not values:
            raise ValueError(_without_value(word, left))
        words.append(f"{_OTHER_NAMES.get(key, key)}={' '.join(values)}")
    return words


def _is_value(word: str) -> bool:
    return not word.startswith("-") or _NEGATIVE.match(word) is not None


def _without_value(word: str, left: Sequence[str]) -> str:
    after = f"the next word is '{left[0]}'" if left else "it is the last word"
    said = f"command line: {word} has no value; {after}. Write {word}=VALUE"
    # A switch of other programs, or a value that begins with a dash.
    return (
        f"{said}, for example {word}={left[0] if left and not left[0].startswith('--') else True}."
    )


def _not_a_key(word: str, before: Sequence[str]) -> str:
    if re.match(r"-[^\W\d]\w", word):
        return (
            f"command line: '{word}' begins with one dash. Write -{word}; only -m NAME and -d NAME "
            "are short."
        )
    said = (
        f"command line: '{word}' is not of the form --key=value or --key value, for example "
        "--learning_rate=0.001."
    )
    if before and word and before[-1].startswith("--") and "=" in before[-1]:
        key, _, value = before[-1].partition("=")
        whole = f"{key}='{value} {word}'"
        said += f" If it belongs to {key}, put the whole value in quotation marks: {whole}."
    return said


def as_started(script: str) -> list[str]:
    """The words that start this process's command once more, before its keys.

    Args:
        script: its file in a checkout, such as ``run_hyper.py``. The installed command has the same
        name without ``.py``.
    """
    started = Path(sys.argv[0])
    if started.name != script and started.stem == Path(script).stem:
        return [started.name]
    return ["python", sys.argv[0] if started.name == script else script]
