"""Checks of single values, and the sentences that refuse them."""

from __future__ import annotations

import difflib
from numbers import Integral, Real

#: RecBole's token of ID 0; no user, item or word of a dataset may have it.
PAD_TOKEN = "[PAD]"

#: For messages about a value that should be a list: ``[a, b]`` on a command line is a text.
LIST_HINT = " On a command line quote its words: \"['word', 'word']\"."


def nearest(name: str, known) -> str:
    """`` Did you mean 'x'?`` for the closest of ``known``, or an empty string."""
    known = {str(k).lower(): str(k) for k in known}
    match = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.6)
    return f" Did you mean '{known[match[0]]}'?" if match else ""


def is_whole(value, minimum: int = 1) -> bool:
    """Whether ``value`` is a whole number (Python's or numpy's, not a bool) >= ``minimum``."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= minimum


def is_number(value) -> bool:
    """Whether ``value`` is a number, Python's or numpy's, not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_whole(config, *keys: str) -> None:
    """Refuse values that are not whole numbers of at least 1."""
    for key in keys:
        if not is_whole(config[key]):
            raise ValueError(f"{key}: {config[key]!r} is not a whole number of at least 1.")


def check_weight(config, *keys: str) -> None:
    """Refuse values that are not numbers of at least 0."""
    for key in keys:
        if (
            isinstance(config[key], bool)
            or not isinstance(config[key], (int, float))
            or not 0 <= config[key]
        ):
            raise ValueError(f"{key}: {config[key]!r} is not a number of at least 0.")


def check_layers(config, *keys: str) -> None:
    """Refuse values that are not a list of one or more layer widths."""
    for key in keys:
        if (
            not isinstance(config[key], (list, tuple))
            or not config[key]
            or not all(is_whole(size) for size in config[key])
        ):
            raise ValueError(
                f"{key}: {config[key]!r} is not a list of one or more layer widths, for example "
                "[256, 256]."
            )


def check_dropout(config, *keys: str) -> None:
    """Refuse values that are not probabilities below 1."""
    for key in keys:
        if (
            isinstance(config[key], bool)
            or not isinstance(config[key], (int, float))
            or not 0 <= config[key] < 1
        ):
            raise ValueError(f"{key}: {config[key]!r} is not a number from 0 to below 1.")


def check_switch(config, *keys: str) -> None:
    """Refuse values that are not True or False."""
    for key in keys:
        if not isinstance(config[key], bool):
            raise ValueError(f"{key}: {config[key]!r} is neither True nor False.")


def check_choice(config, key: str, choices: tuple) -> None:
    """Refuse a value that is not one of ``choices``."""
    if config[key] not in choices:
        raise ValueError(f"{key}: {config[key]!r} is not one of {', '.join(map(str, choices))}.")


def check_divides(config, key: str, width_key: str) -> None:
    """Refuse a number of heads, blocks or the like that does not divide a width."""
    if config[width_key] % config[key]:
        raise ValueError(
            f"{key}: {config[key]} does not divide {width_key}, which is {config[width_key]}."
        )
