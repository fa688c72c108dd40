"""Item texts: one cleaned line of text per item, from a RecBole atomic ``.item`` file."""

from __future__ import annotations

import codecs
import html
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_logger = logging.getLogger(__name__)


def clean_text(text: str) -> str:
    """Resolve HTML entities, collapse white space and strip."""
    return " ".join(html.unescape(text).split())


def shorten(text: str, most: int = 120) -> str:
    """The text, cut at a space if it is longer than ``most`` characters."""
    if len(text) <= most:
        return text
    cut = text[: most - 3]
    return f"{cut.rpartition(' ')[0] or cut}..."


def _field_names(header: str, field_separator: str) -> list[str]:
    return [field.rsplit(":", 1)[0] for field in header.split(field_separator)]


def read_field_names(
    item_file: Path, field_separator: str = "\t", encoding: str = "utf-8"
) -> list[str]:
    """The columns of an .item file, from its first line; [] if the encoding is unknown.

    Reading the whole file will raise the error about the encoding.
    """
    try:
        codecs.lookup(encoding)
    except LookupError:
        return []
    with Path(item_file).open(encoding=encoding, errors="replace", newline="\n") as lines:
        return _field_names(lines.readline().rstrip("\r\n").removeprefix("\ufeff"), field_separator)


def _read_rows(
    item_file: Path, field_separator: str, encoding: str
) -> tuple[list[str], list[list[str]]]:
    """Field names and data rows of an atomic file, in which nothing is quoted.

    Pandas is not used, because it reads texts such as "NA" or "null" as missing values.
    """
    if not item_file.is_file():
        raise FileNotFoundError(
            f"The item file {item_file} does not exist. Semantic IDs are built from item texts: "
            "put the dataset's atomic .item file there, or point `data_path` at the folder that "
            "has it."
        )
    try:
        content = item_file.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{item_file} is not valid {encoding} (byte {error.start}). Set the config key "
            "`encoding` to the file's encoding, or convert the file."
        ) from error
    # Only \n ends a line: str.splitlines would also cut at characters such as U+2028 inside a text.
    lines = [line.rstrip("\r") for line in content.removeprefix("\ufeff").split("\n")]
    names = _field_names(lines[0], field_separator)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        values = line.split(field_separator)
        if len(values) != len(names):
            raise ValueError(
                f"{item_file}, line {number}: {len(values)} values for the {len(names)} fields "
                f"{names}. Fix the line, or set the config key `field_separator` (now "
                f"{field_separator!r}) to the one the file uses."
            )
        rows.append(values)
    return names, rows


class ItemTable(NamedTuple):
    """The rows of an .item file.

    Attributes:
        file: the file.
        fields: names of its columns.
        id_field: the column of raw item ids.
        rows: each item's values, in the order of ``fields``.
    """

    file: Path
    fields: list[str]
    id_field: str
    rows: dict[str, list[str]]

    def texts(self, text_fields: Sequence[str], item_tokens: Sequence[str]) -> ItemTexts:
        """One text per item, in the order of ``item_tokens``; see `read_item_texts`."""
        text_columns = [self.fields.index(field) for field in text_fields]
        other_columns = [
            c
            for c, field in enumerate(self.fields)
            if field != self.id_field and c not in text_columns
        ]
        texts, from_others, from_token = [], 0, 0
        for token in item_tokens:
            values = self.rows.get(token)
            text = ""
            if values is not None:
                text = ". ".join(filter(None, (clean_text(values[c]) for c in text_columns)))
                if not text:
                    others = ((self.fields[c], clean_text(values[c])) for c in other_columns)
                    text = ". ".join(f"{name}: {value}" for name, value in others if value)
                    from_others += bool(text)
            if not text:
                text = f"item {token}"
                from_token += 1
            texts.append(text)
        return ItemTexts(texts, from_others, from_token)


class ItemTexts(NamedTuple):
    """Texts of items.

    Attributes:
        texts: one per item.
        from_others: how many are made of other fields than the configured ones.
        from_token: how many consist only of the item's id.
    """

    texts: list[str]
    from_others: int
    from_token: int


def read_items(
    item_file: Path, item_id_field: str, field_separator: str = "\t", encoding: str = "utf-8"
) -> ItemTable:
    """Read an .item file; arguments as for `read_item_texts`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the id column is missing, a line has the wrong number of values, an item is
            listed twice, or the file has another encoding.
    """
    item_file = Path(item_file)
    names, rows = _read_rows(item_file, field_separator, encoding)
    if item_id_field not in names:
        raise ValueError(
            f"{item_file} has no column `{item_id_field}`; its columns are {names}. Set the config "
            "key `ITEM_ID_FIELD` to the item id column."
        )
    id_column = names.index(item_id_field)
    by_token: dict[str, list[str]] = {}
    for values in rows:
        if by_token.setdefault(values[id_column], values) is not values:
            raise ValueError(
                f"{item_file} lists item {values[id_column]!r} twice; one item needs one text. "
                "Remove one line."
            )
    return ItemTable(item_file, names, item_id_field, by_token)


def read_item_texts(
    item_file: Path,
    item_id_field: str,
    text_fields: list[str],
    item_tokens: Sequence[str],
    field_separator: str = "\t",
    encoding: str = "utf-8",
) -> list[str]:
    """One cleaned text per item, such as ``"Toy Story. Animation Comedy. 1995"``.

    Args:
        item_file: atomic file whose header is ``item_id:token<sep>movie_title:token_seq<sep>...``.
        item_id_field: name of the item id column.
        text_fields: columns to join, in this order; empty values are left out.
        item_tokens: raw ids of the items, whose order is that of the texts. An item without any of
            the text fields gets a substitute: its other fields (``"field: value"``), or ``"item
            <token>"`` if it has none. Substitutes are counted and logged.
        field_separator: separator of the columns.
        encoding: the file's encoding.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, a line has the wrong number of values, an item is listed
            twice, or the file has another encoding.
    """
    table = read_items(item_file, item_id_field, field_separator, encoding)
    missing = [field for field in text_fields if field not in table.fields]
    if missing:
        raise ValueError(
            f"{item_file} has no column {missing} named in the config key `item_text_fields`; its "
            f"columns are {table.fields}. Name columns of this file in `item_text_fields`."
        )
    texts, from_others, from_token = table.texts(text_fields, item_tokens)
    if from_others or from_token:
        _logger.warning(
            f"{from_others + from_token} of {len(texts)} items have no text in {list(text_fields)} "
            f"of {table.file.name}: {from_others} are described by their other fields, "
            f"{from_token} by their id alone."
        )
    return texts
