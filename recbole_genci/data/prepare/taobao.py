"""Taobao's user behaviour (tianchi.aliyun.com/dataset/649): 100 million lines of nine days.

A line of UserBehavior.csv is user, item, category, behaviour, seconds; there is no header. Nothing
tells what a user saw and left alone, so that a row cannot be labelled as clicked or not. The label
says instead whether the user went beyond looking.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Container, Iterator
from pathlib import Path

from recbole_genci.data.prepare.cleaning import MalformedLine, as_id, as_timestamp
from recbole_genci.data.prepare.source import SourceFile

BEHAVIOURS = ("pv", "cart", "fav", "buy")
POSITIVE = ("cart", "fav", "buy")
_COLUMNS = ("user", "item", "category", "behaviour", "timestamp")


def as_positive(value: object) -> tuple[str, ...]:
    """The behaviours that make a row's label 1, from ``buy``, ``buy,cart`` or a list.

    Raises:
        ValueError: one is unknown, or they are none or all.
    """
    given = value.split(",") if isinstance(value, str) else value
    words = [str(word).strip() for word in given] if isinstance(given, (list, tuple)) else []
    if not words or not set(words) <= set(BEHAVIOURS) or set(words) == set(BEHAVIOURS):
        raise ValueError(
            f"positive: {value!r} is not one or more of {', '.join(BEHAVIOURS)}, with commas "
            "between, but not all of them: rows of both labels are needed."
        )
    return tuple(dict.fromkeys(words))


class Taobao:
    """UserBehavior.csv. It is read once; the categories of its items stay in memory.

    Args:
        behaviour: the file.
        positive: the behaviours whose rows have label 1.
        max_malformed: share of lines that may be malformed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, or its first line has another form.
    """

    properties = "taobao"
    click_from: float | None = 1.0
    inter_fields = {
        "user_id": "token",
        "item_id": "token",
        "label": "float",
        "timestamp": "float",
    }
    item_fields = {"item_id": "token", "category_id": "token"}
    user_fields: dict[str, str] | None = None

    def __init__(self, behaviour: Path, positive: Collection[str], max_malformed: float):
        self._file = SourceFile(behaviour, max_malformed)
        self.sources = [self._file]
        self._labels = {word: float(word in positive) for word in BEHAVIOURS}
        self._categories: dict[str, str] = {}
        self._others: set[tuple[str, str]] = set()
        line = self._file.first_line
        if len(line.split(",")) != len(_COLUMNS):
            raise ValueError(
                f"{behaviour} starts with {line[:60]!r}; --format=taobao needs UserBehavior.csv, "
                f"with {', '.join(_COLUMNS)} and no header."
            )

    def interactions(self) -> Iterator[tuple[str, str, float, int]]:
        """(user, item, label, seconds) in file order."""
        return self._file.rows(self._parse)

    def _parse(self, line: str) -> tuple[str, str, float, int]:
        cells = line.split(",")
        if len(cells) != len(_COLUMNS):
            raise MalformedLine(f"{len(cells)} values, not {len(_COLUMNS)}")
        user, item, category, behaviour, time = cells
        label = self._labels.get(behaviour)
        if label is None:
            raise MalformedLine(f"behaviour {behaviour!r} is none of {', '.join(BEHAVIOURS)}")
        row = as_id(user, "user id"), as_id(item, "item id"), label, as_timestamp(time)
        category = as_id(category, "category id")
        if self._categories.setdefault(row[1], category) != category:
            self._others.add((row[1], category))
        return row

    def users(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """None: nothing is known of users."""
        return iter(())

    def items(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """The first category that the file gives each item, then others, which are left out."""
        for item, category in itertools.chain(self._categories.items(), self._others):
            yield {"item_id": item, "category_id": category}
