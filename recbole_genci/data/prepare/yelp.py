"""The Yelp Open Dataset (business.yelp.com/data/resources/open-dataset): JSON lines.

Left out is what sums up all reviews, even those of the test rows: stars and numbers of reviews of
businesses and users, votes and compliments.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

from recbole_genci.data.prepare.cleaning import (
    MalformedLine,
    as_entries,
    as_id,
    as_interaction,
    as_number,
    as_seconds,
    as_text,
    number_text,
)
from recbole_genci.data.prepare.output import INTERACTION_FIELDS
from recbole_genci.data.prepare.records import parse_object
from recbole_genci.data.prepare.source import SourceFile

#: Stands between two categories, as in the published file; the seq_separator of
#: properties/dataset/yelp-reviews.yaml.
CATEGORY_SEPARATOR = ", "
_REVIEW = ("user_id", "business_id", "stars", "date")


class Yelp:
    """Reviews, with businesses and users if given. Each file is read once.

    Args:
        reviews: ``yelp_academic_dataset_review.json``.
        businesses: ``yelp_academic_dataset_business.json``, or None.
        users: ``yelp_academic_dataset_user.json``, or None.
        max_malformed: share of lines in each file that may be malformed.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is empty, or its first line has another form.
    """

    properties = "yelp-reviews"
    inter_fields = INTERACTION_FIELDS
    click_from: float | None = None
    item_fields = {
        "item_id": "token",
        "name": "token",
        "categories": "token_seq",
        "city": "token",
        "state": "token",
        "postal_code": "token",
        "latitude": "float",
        "longitude": "float",
    }

    def __init__(
        self, reviews: Path, businesses: Path | None, users: Path | None, max_malformed: float
    ):
        self._reviews = _opened(reviews, max_malformed, _REVIEW)
        self._businesses = (
            _opened(businesses, max_malformed, ("business_id", "name", "categories"))
            if businesses is not None
            else None
        )
        self._users = (
            _opened(users, max_malformed, ("user_id", "yelping_since"))
            if users is not None
            else None
        )
        self.sources = [
            file for file in (self._reviews, self._businesses, self._users) if file is not None
        ]
        self.user_fields = (
            {"user_id": "token", "yelping_since": "token"} if self._users is not None else None
        )

    def interactions(self) -> Iterator[tuple[str, str, float, int]]:
        """(user, business, stars, seconds) in file order."""
        return self._reviews.rows(_review)

    def items(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """The descriptions of the wanted businesses."""
        if self._businesses is not None:
            rows = self._businesses.rows(_business)
            yield from (row for row in rows if row["item_id"] in wanted)

    def users(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """The year in which each of the wanted users came to Yelp."""
        assert self._users is not None  # as user_fields says
        return (row for row in self._users.rows(_user) if row["user_id"] in wanted)


def _opened(path: Path, max_malformed: float, names: tuple[str, ...]) -> SourceFile:
    """A file whose first line holds these names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the first line lacks a name: it is another file.
    """
    file = SourceFile(path, max_malformed)
    missing = [name for name in names if f'"{name}"' not in file.first_line]
    if missing:
        raise ValueError(
            f"{path} starts with {file.first_line[:60]!r}, which has no {', '.join(missing)}. Give "
            "reviews by --interactions, businesses by --meta and users by --users, each as "
            "published: one JSON object a line."
        )
    return file


def _review(line: str) -> tuple[str, str, float, int]:
    record = parse_object(line)
    for name in _REVIEW:
        if name not in record:
            raise MalformedLine(f"no field '{name}'")
    user, business, stars, date = (record[name] for name in _REVIEW)
    return as_interaction(user, business, stars, as_seconds(date))


def _business(line: str) -> dict[str, str]:
    record = parse_object(line)
    categories = record.get("categories")  # one text since 2018, a list before
    if isinstance(categories, str):
        categories = categories.split(CATEGORY_SEPARATOR)
    return {
        "item_id": as_id(record.get("business_id"), "business_id"),
        "categories": as_entries(categories, "categories", CATEGORY_SEPARATOR),
        **{
            name: as_text(record.get(name), name)
            for name in ("name", "city", "state", "postal_code")
        },
        **{
            name: number_text(as_number(record[name], name))
            for name in ("latitude", "longitude")
            if record.get(name) is not None
        },
    }


def _user(line: str) -> dict[str, str]:
    record = parse_object(line)
    since = record.get("yelping_since")
    as_seconds(since)
    return {"user_id": as_id(record.get("user_id"), "user_id"), "yelping_since": str(since)[:4]}
