"""Steam reviews and games, version 2 (cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data).

Each line is a Python literal, such as ``{u'username': u'Chaos Syren', u'hours': 0.1, ...}``.
Reviews of this version do not say whether the game is recommended; the hours played tell a click.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Container, Iterator
from pathlib import Path

from recbole_genci.data.prepare.cleaning import (
    MalformedLine,
    as_entries,
    as_id,
    as_number,
    as_seconds,
    as_text,
    number_text,
)
from recbole_genci.data.prepare.records import parse_object
from recbole_genci.data.prepare.source import SourceFile

#: Stands between two genres, tags or specs, which hold spaces and commas; the seq_separator of
#: properties/dataset/steam-reviews.yaml.
ENTRY_SEPARATOR = "|"

# A name may hold anything; an id no white space.
_ESCAPED = re.compile(r"[%\s\x00-\x1f\x7f-\x9f\ufeff]")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")


class Steam:
    """Reviews, with the games if given. Each file is read once.

    Args:
        reviews: ``steam_reviews.json.gz``.
        games: ``steam_games.json.gz``; None leaves items with only their ids.
        max_malformed: share of lines in each file that may be malformed.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is empty, or its first line has another form.
    """

    properties = "steam-reviews"
    click_from: float | None = 2.0
    inter_fields = {
        "user_id": "token",
        "item_id": "token",
        "hours": "float",
        "timestamp": "float",
        "early_access": "token",
    }
    # Without sentiment and metascore, which sum up reviews, even those of the test rows.
    item_fields = {
        "item_id": "token",
        "title": "token",
        "developer": "token",
        "publisher": "token",
        "genres": "token_seq",
        "tags": "token_seq",
        "specs": "token_seq",
        "release_year": "token",
        "price": "float",
    }
    user_fields: dict[str, str] | None = None

    def __init__(self, reviews: Path, games: Path | None, max_malformed: float):
        self._reviews = SourceFile(reviews, max_malformed)
        self._games = SourceFile(games, max_malformed) if games is not None else None
        self.sources = [source for source in (self._reviews, self._games) if source]
        _check(self._reviews, "--interactions", ("username", "product_id", "date"))
        if self._games is not None:
            _check(self._games, "--meta", ("app_name",))

    def interactions(self) -> Iterator[tuple[str, str, float, int, str]]:
        """(user, game, hours played, seconds of the day's start, early access) in file order."""
        return self._reviews.rows(_review)

    def users(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """None: nothing is known of users."""
        return iter(())

    def items(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """The descriptions of the wanted games."""
        if self._games is not None:
            rows = self._games.rows(_game)
            yield from (row for row in rows if row["item_id"] in wanted)


def _check(source: SourceFile, argument: str, names: tuple[str, ...]) -> None:
    line = source.first_line
    if not line.lstrip().startswith("{") or not all(name in line for name in names):
        raise ValueError(
            f"{source.path} starts with {line[:60]!r}; {argument} needs a Python literal or JSON "
            f"object a line, with {', '.join(names)}, as published."
        )


def _parsed(line: str) -> dict:
    return {
        name: _paired(value) if isinstance(value, str) else value
        for name, value in parse_object(line, allows_literals=True).items()
    }


def _paired(text: str) -> str:
    """Python 2 wrote an emoji as two halves of a pair."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _review(line: str) -> tuple[str, str, float, int, str]:
    record = _parsed(line)
    name = record.get("username")
    if not isinstance(name, str) or not name:
        raise MalformedLine("no username")
    # Steam shows no hours where it has none on record.
    hours = as_number(record.get("hours") or 0, "hours")
    if hours < 0:
        raise MalformedLine(f"hours {hours} is below 0")
    return (
        as_id(_ESCAPED.sub(lambda match: urllib.parse.quote(match[0]), name), "username"),
        as_id(record.get("product_id"), "product_id"),
        hours,
        as_seconds(record.get("date")),
        str(int(bool(record.get("early_access")))),
    )


def _game(line: str) -> dict[str, str]:
    record = _parsed(line)
    price = record.get("price")  # or a text such as "Free To Play"
    is_number = isinstance(price, (int, float)) and not isinstance(price, bool)
    year = _YEAR.search(str(record.get("release_date") or ""))
    return {
        "item_id": as_id(record.get("id"), "id"),
        "title": as_text(record.get("title") or record.get("app_name"), "title"),
        "developer": as_text(record.get("developer"), "developer"),
        "publisher": as_text(record.get("publisher"), "publisher"),
        **{
            name: as_entries(record.get(name), name, ENTRY_SEPARATOR)
            for name in ("genres", "tags", "specs")
        },
        "release_year": year[0] if year else "",
        "price": number_text(as_number(price, "price")) if is_number else "",
    }
