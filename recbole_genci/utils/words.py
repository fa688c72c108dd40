"""Numbers with their nouns and verbs."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 row``, ``1,200 rows``.

    Args:
        number: how many.
        noun: the word for one.
        plural: the word for others; ``noun`` with an s by default.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def are(number: int) -> str:
    """``is`` for one, else ``are``."""
    return "is" if number == 1 else "are"
