"""Amazon review datasets of 2023, 2018 and 2014, which get the same fields.

2023 (amazon-reviews-2023.github.io): ratings as CSV (``5core/rating_only/``) or reviews as JSON
lines; metadata as JSON lines. 2018 (nijianmo.github.io/amazon): ratings as CSV without a header,
item first; reviews and metadata as JSON lines. 2014 (jmcauley.ucsd.edu/data/amazon): reviews as
JSON lines; metadata as JSON lines or, as first released, Python literals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from recbole_genci.data.prepare.cleaning import (
    MalformedLine,
    as_entries,
    as_id,
    as_interaction,
    as_text,
    clean_text,
    number_text,
)
from recbole_genci.data.prepare.output import INTERACTION_FIELDS
from recbole_genci.data.prepare.records import parse_object
from recbole_genci.data.prepare.source import SourceFile

#: Stands between two categories of an item, as on Amazon's pages; the seq_separator of
#: properties/dataset/amazon-*.yaml.
CATEGORY_SEPARATOR = " > "

# Without average_rating and rating_number, which sum up all reviews, even those of the test rows.
ITEM_FIELDS = {
    "item_id": "token",
    "title": "token",
    "main_category": "token",
    "categories": "token_seq",
    "store": "token",
    "price": "float",
    "features": "token",
    "description": "token",
}

_ALTERNATIVE = re.compile(r'<img\b[^>]*\balt="([^"]*)"[^>]*>', re.IGNORECASE)
_SCRIPT = "getTime()"
_ASIN_LENGTH = 10
_PRICE = re.compile(r"\$?\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)")


def _price(value: object) -> str:
    """A price in dollars; ranges such as ``from 9.99`` and dashes stay empty."""
    if isinstance(value, str):
        match = _PRICE.fullmatch(value.strip())
        value = float(match[1].replace(",", "")) if match else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return ""
    return number_text(value)


def _categories(value: object) -> str:
    return as_entries(value, "categories", CATEGORY_SEPARATOR)


def _item_2023(record: dict) -> dict[str, str]:
    return {
        "main_category": as_text(record.get("main_category"), "main_category"),
        "categories": _categories(record.get("categories")),
        "store": as_text(record.get("store"), "store"),
        "features": as_text(record.get("features"), "features"),
    }


def _item_2018(record: dict) -> dict[str, str]:
    title = as_text(record.get("title"), "title")
    categories = _categories(record.get("category"))
    # Some main categories are the picture of a name, and some titles a script of the page.
    main = _ALTERNATIVE.sub(r"\1", str(record.get("main_cat") or ""))
    return {
        "title": "" if _SCRIPT in title else title,
        "main_category": clean_text(main) or categories.partition(CATEGORY_SEPARATOR)[0],
        "categories": categories,
        "store": as_text(record.get("brand"), "brand"),
        "features": as_text(record.get("feature"), "feature"),
    }


def _item_2014(record: dict) -> dict[str, str]:
    # One or several paths of categories, most of which begin alike.
    paths = record.get("categories") or []
    if not isinstance(paths, (list, tuple)):
        raise MalformedLine(f"categories is a {type(paths).__name__}, not a list")
    parts = [
        part for path in paths for part in (path if isinstance(path, (list, tuple)) else [path])
    ]
    distinct = list(dict.fromkeys(as_text(part, "categories") for part in parts))
    return {
        "main_category": distinct[0] if distinct else "",
        "categories": _categories(distinct),
        "store": as_text(record.get("brand"), "brand"),
    }


@dataclass(frozen=True)
class _Vintage:
    """The column names of one release, and how its metadata describe an item.

    Attributes:
        user, item, rating, time: names of columns.
        describe: makes cells of an item's metadata.
        allows_literals: whether metadata may be Python literals.
        allows_csv: whether ratings may be CSV with a header.
        headerless: the columns of ratings as CSV without a header.
    """

    user: str
    item: str
    rating: str
    time: str
    describe: Callable[[dict], dict[str, str]]
    allows_literals: bool
    allows_csv: bool
    headerless: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, str, str, str]:
        return self.user, self.item, self.rating, self.time


VINTAGES = {
    "amazon-2023": _Vintage(
        "user_id", "parent_asin", "rating", "timestamp", _item_2023, False, True
    ),
    "amazon-2018": _Vintage(
        "reviewerID",
        "asin",
        "overall",
        "unixReviewTime",
        _item_2018,
        False,
        False,
        ("asin", "reviewerID", "overall", "unixReviewTime"),
    ),
    "amazon-2014": _Vintage(
        "reviewerID", "asin", "overall", "unixReviewTime", _item_2014, True, False
    ),
}


class Amazon:
    """One category of Amazon reviews, with its metadata if given. Each file is read once.

    Args:
        vintage: ``amazon-2023``, ``amazon-2018`` or ``amazon-2014``.
        reviews: the file of ratings or reviews.
        metadata: the file of the items' metadata; None leaves items with only their ids.
        max_malformed: share of lines in each file that may be malformed.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is empty, or its first line has no known form.
    """

    properties = "amazon-instruments"
    inter_fields = INTERACTION_FIELDS
    click_from: float | None = None
    item_fields = ITEM_FIELDS
    user_fields: dict[str, str] | None = None

    def __init__(self, vintage: str, reviews: Path, metadata: Path | None, max_malformed: float):
        self._vintage = VINTAGES[vintage]
        self._reviews = SourceFile(reviews, max_malformed)
        self._metadata = SourceFile(metadata, max_malformed) if metadata is not None else None
        self.sources = [source for source in (self._reviews, self._metadata) if source]
        self._columns = self._csv_columns(vintage)
        if self._metadata and not self._metadata.first_line.lstrip().startswith("{"):
            raise ValueError(
                f"{metadata} starts with {self._metadata.first_line[:60]!r}: metadata need one "
                "JSON object a line. Is this the published meta file?"
            )

    def _csv_columns(self, vintage: str) -> list[str] | None:
        """The columns of a CSV file; None for JSON lines."""
        line, names = self._reviews.first_line, self._vintage.columns
        if line.lstrip().startswith("{"):
            return None
        columns = [name.strip() for name in line.split(",")]
        if self._vintage.allows_csv and set(names) <= set(columns):
            return columns
        headerless = self._vintage.headerless
        if headerless and len(columns) == len(headerless):
            return list(headerless)
        expected = f"one JSON object a line with {', '.join(names)}"
        if headerless:
            expected = (
                f"CSV without a header whose columns are {', '.join(headerless)}, or {expected}"
            )
        if self._vintage.allows_csv:
            expected = f"a CSV header with {', '.join(names)}, or {expected}"
        raise ValueError(
            f"{self._reviews.path} starts with {line[:60]!r}; --format={vintage} needs {expected}."
        )

    def interactions(self) -> Iterator[tuple[str, str, float, int]]:
        """(user, item, rating, time) in file order; time is milliseconds in 2023, and seconds of
        the day's start in 2018 and 2014.
        """
        columns = self._columns
        if columns is None:
            return self._reviews.rows(self._parse_json)
        places = [columns.index(name) for name in self._vintage.columns]

        def parse_csv(line: str) -> tuple[str, str, float, int]:
            cells = line.split(",")  # ids and numbers: nothing is quoted
            if len(cells) != len(columns):
                raise MalformedLine(f"{len(cells)} values, not {len(columns)}")
            row = as_interaction(*(cells[place] for place in places))
            # Without a header nothing else tells files whose first column is the user.
            if self._vintage.headerless and len(row[1]) != _ASIN_LENGTH:
                raise MalformedLine(
                    f"item id {row[1]!r} has not the {_ASIN_LENGTH} characters of an ASIN; the "
                    f"columns must be {', '.join(columns)}"
                )
            return row

        return self._reviews.rows(parse_csv, has_header=not self._vintage.headerless)

    def users(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """None: nothing is known of users."""
        return iter(())

    def _parse_json(self, line: str) -> tuple[str, str, float, int]:
        record = parse_object(line)
        for name in self._vintage.columns:
            if name not in record:
                raise MalformedLine(f"no field '{name}'")
        return as_interaction(*(record[name] for name in self._vintage.columns))

    def items(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """The descriptions of the wanted items, in the order of the metadata."""
        if self._metadata is None:
            return
        for row in self._metadata.rows(lambda line: self._item(line, wanted)):
            if row is not None:
                yield row

    def _item(self, line: str, wanted: Container[str]) -> dict[str, str] | None:
        record = parse_object(line, self._vintage.allows_literals)
        item = as_id(record.get(self._vintage.item), self._vintage.item)
        if item not in wanted:
            return None
        return {
            "item_id": item,
            "title": as_text(record.get("title"), "title"),
            "price": _price(record.get("price")),
            "description": as_text(record.get("description"), "description"),
        } | self._vintage.describe(record)
