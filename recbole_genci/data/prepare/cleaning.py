"""Clean texts and check ids and numbers, before they become cells of an atomic file."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

from recbole_genci.utils.value_checks import PAD_TOKEN

# A tag starts with a letter, so that "< 5 W and > 3 W" stays. Scripts and styles are removed with
# their content.
_MARKUP = re.compile(
    r"<(script|style)\b.*?</\1\s*>|<!--.*?-->|</?[a-zA-Z][^<>]*>", re.IGNORECASE | re.DOTALL
)
# Control characters, halves of surrogate pairs (UTF-8 has none) and byte-order marks.
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")

_DATE = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d)?")

#: Timestamps are read as float64, in which whole numbers up to this one are exact.
MAX_TIMESTAMP = 2**53


class MalformedLine(ValueError):
    """A line is not a valid row of its file; the message says why."""


def clean_text(text: str) -> str:
    """Make text fit into one cell: resolve HTML entities, remove tags, use NFC, collapse spaces.

    The result is a fixed point: cleaning it again, here or by
    ``tokenizer.encoding.text.clean_text``, changes nothing. Text whose entities were escaped twice
    (``&amp;amp;``, frequent in Amazon's metadata) takes several rounds.
    """
    while True:
        once = _MARKUP.sub(" ", html.unescape(text))
        once = " ".join(_UNWRITABLE.sub(" ", unicodedata.normalize("NFC", once)).split())
        if once == text:
            return text
        text = once


def as_text(value: object, name: str) -> str:
    """The cleaned text of a JSON value: a string, a number, a list of them (joined by spaces), or
    null or NaN (empty).

    Raises:
        MalformedLine: the value is something else.
    """
    parts = []
    for part in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(part, (str, int, float)):
            parts.append("" if part != part else clean_text(str(part)))
        elif part is not None:
            raise MalformedLine(f"{name} holds a {type(part).__name__}, not text")
    return " ".join(filter(None, parts))


def as_entries(value: object, name: str, separator: str) -> str:
    """The cleaned texts of a list, or of one value, with ``separator`` between; inside an entry the
    separator becomes ``/``.

    Raises:
        MalformedLine: an entry is no text.
    """
    mark = separator.strip() or separator
    entries = value if isinstance(value, (list, tuple)) else [value]
    cleaned = (as_text(entry, name).replace(mark, "/") for entry in entries)
    return separator.join(filter(None, cleaned))


def as_id(value: object, name: str) -> str:
    """A user's or item's id.

    Raises:
        MalformedLine: the id is missing or empty, has white space, control or undecodable
            characters, or is RecBole's word for no value.
    """
    text = (
        str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    )
    if not text:
        raise MalformedLine(
            f"no {name}" if value is None or value == "" else f"{name} {value!r} is not an id"
        )
    if len(text.split()) != 1 or _UNWRITABLE.search(text) or "\ufffd" in text:
        raise MalformedLine(f"{name} {text!r} holds white space or characters that cannot be read")
    if text == PAD_TOKEN:
        raise MalformedLine(f"{name} {text!r} is RecBole's own word for no value")
    return text


def as_number(value: Any, name: str) -> float:
    """A finite number, from a number or a text.

    Raises:
        MalformedLine: the value is missing or something else.
    """
    if value is None or value == "":
        raise MalformedLine(f"no {name}")
    try:
        # float() accepts booleans and "1_0", which are not numbers in a published file.
        number = math.nan if isinstance(value, bool) or "_" in str(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise MalformedLine(f"{name} {value!r} is not a number")
    return number


def number_text(number: float) -> str:
    """The shortest text for exactly this number; a whole number has no decimal point."""
    return repr(float(number)).removesuffix(".0")


def as_timestamp(value: object) -> int:
    """A whole number of seconds or milliseconds.

    Raises:
        MalformedLine: the value is missing or something else.
    """
    number = as_number(value, "timestamp")
    if not number.is_integer() or not 0 <= number <= MAX_TIMESTAMP:
        raise MalformedLine(f"timestamp {value!r} is not a whole number from 0 to 2**53")
    return int(number)


def as_seconds(value: object) -> int:
    """Seconds since 1970 of ``2017-12-17`` (its first one) or ``2017-12-17 21:08:59``, as if UTC.

    Raises:
        MalformedLine: the value is missing or something else.
    """
    if value is None or value == "":
        raise MalformedLine("no date")
    try:
        if not _DATE.fullmatch(str(value)):
            raise ValueError
        date = datetime.fromisoformat(str(value)).replace(tzinfo=UTC)
    except ValueError:
        raise MalformedLine(
            f"date {value!r} is not of the form 2017-12-17 or 2017-12-17 21:08:59"
        ) from None
    return as_timestamp(date.timestamp())


def as_interaction(
    user: object, item: object, rating: object, timestamp: object
) -> tuple[str, str, float, int]:
    """One row: two ids, a rating from 0 to 5, a whole number of seconds or milliseconds.

    Raises:
        MalformedLine: a value is something else.
    """
    row = (
        as_id(user, "user id"),
        as_id(item, "item id"),
        as_number(rating, "rating"),
        as_timestamp(timestamp),
    )
    if not 0 <= row[2] <= 5:
        raise MalformedLine(f"rating {rating!r} is not between 0 and 5")
    return row
