"""Numbers with their nouns and verbs."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 row``, ``1,200 rows``.

    Args:
        number: how many.
        noun: the word for one.
        plural: the word for others; ``noun`` with an s by default.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def listed(words: Sequence[str], most: int) -> str:
    """``a``, ``a and b``, ``a, b and 7 others``.

    Args:
        words: one or more.
        most: how many are named if there are more; one more is named too.
    """
    if len(words) > most + 1:
        words = [*words[:most], f"{len(words) - most} others"]
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def are(number: int) -> str:
    """``is`` for one, else ``are``."""
    return "is" if number == 1 else "are"
