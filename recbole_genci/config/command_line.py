"""Bring the words of a command line, RecBole's forms included, into the form ``--key=value``."""

from __future__ import annotations

import difflib
import itertools
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from recbole_genci.utils.value_checks import quoted

#: Names of RecBole's run_recbole.py; it calls the key ``offset`` ``group_offset``.
_SHORT = {"-m": "--model", "-d": "--dataset"}
_OTHER_NAMES = {"--group_offset": "--offset"}
_SEVERAL = ("--config_files",)  # keys whose value may be several words
HELP = ("--help", "-h")
_NEGATIVE = re.compile(r"-(\d|\.\d|(inf|nan)$)", re.IGNORECASE)


def key_value_words(argv: Sequence[str]) -> list[str]:
    """Write ``-m LR``, ``-d NAME`` and ``--key value`` as ``--key=value``; ``--help`` and ``-h``
    stay as they are.

    In ``--key value`` the value may begin with a dash only if it is a negative number;
    ``--key=value`` takes any value.

    Args:
        argv: the words as they were typed.

    Returns:
        list: one word ``--key=value`` for each key, and ``--help`` or ``-h`` if given.

    Raises:
        ValueError: a key has no value, a value has no key, or a long key begins with one dash.
    """
    words, left = [], list(argv)
    while left:
        word = left.pop(0)
        if word in HELP:
            words.append(word)
            continue
        key, equals, value = word.partition("=")
        key = _SHORT.get(key, key)
        if not key.startswith("--") or key == "--":
            raise ValueError(_not_a_key(word, words, left))
        values = [value] if equals else []
        while left and _is_value(left[0]) and (not values or key in _SEVERAL):
            values.append(left.pop(0))
        if not values:
            raise ValueError(_without_value(word, left))
        words.append(f"{_OTHER_NAMES.get(key, key)}={' '.join(values)}")
    return words


def missing_word(key: str, example: str, words: Iterable[str]) -> ValueError:
    """The error that ``--key`` is missing among the keys ``words``, which may have it misspelt."""
    typed = difflib.get_close_matches(key, words, n=1, cutoff=0.8)  # data_path is no dataset
    given = f" You gave --{typed[0]}; did you mean --{key}?" if typed else ""
    return ValueError(f"command line: --{key} is missing, for example {example}.{given}")


def _is_value(word: str) -> bool:
    return not word.startswith("-") or _NEGATIVE.match(word) is not None


def _without_value(word: str, left: Sequence[str]) -> str:
    after = f"the next word is '{left[0]}'" if left else "it is the last word"
    # The next word may be the value and begin with a dash; else the key may be meant as a switch.
    example = left[0] if left and not left[0].startswith("--") else True
    return (
        f"command line: {word} has no value; {after}. Write {word}=VALUE, for example "
        f"{word}={example}."
    )


def _not_a_key(word: str, before: Sequence[str], after: Sequence[str] = ()) -> str:
    if re.match(r"-[^\W\d]\w", word):
        return (
            f"command line: '{word}' begins with one dash. Write -{word}; only -m NAME and -d NAME "
            "are short."
        )
    message = (
        f"command line: '{word}' is not of the form --key=value or --key value, for example "
        "--learning_rate=0.001."
    )
    if before and word and before[-1].startswith("--") and "=" in before[-1]:
        key, _, value = before[-1].partition("=")
        rest = itertools.takewhile(_is_value, after)
        value = " ".join([value, word, *rest])
        # The shell has taken the quotation marks of the words away.
        value = quoted(value) or value
        whole = f'{key}="{value}"' if "'" in value else f"{key}='{value}'"
        message += f" If it belongs to {key}, put the whole value in quotation marks: {whole}."
    return message


def as_started(script: str) -> list[str]:
    """Return the words, without keys, that start this process's command again.

    Args:
        script: the command's file in a checkout, such as ``run_hyper.py``. The installed command
            has the same name without ``.py``.
    """
    started = Path(sys.argv[0])
    if started.name != script and started.stem == Path(script).stem:
        return [started.name]
    return ["python", sys.argv[0] if started.name == script else script]
