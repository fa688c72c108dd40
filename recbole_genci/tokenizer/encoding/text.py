"""Item texts: one cleaned line of text per item, from a RecBole atomic ``.item`` file."""

from __future__ import annotations

import html
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.utils.atomic_files import line_of_row, read_atomic_file

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


class ItemTable(NamedTuple):
    """The rows of an .item file.

    Attributes:
        file: the file.
        header: its columns, ``{field: type}``.
        id_field: the column of raw item ids.
        rows: each item's values, in the order of ``header``.
        seq_separator: stands between the entries of a sequence.
    """

    file: Path
    header: Mapping[str, str]
    id_field: str
    rows: dict[str, list[str]]
    seq_separator: str = " "

    @property
    def fields(self) -> list[str]:
        """Names of the columns."""
        return list(self.header)

    def _text(self, values: Sequence[str], column: int) -> str:
        """One value as text; the entries of a sequence are divided by commas, or by the spaces that
        divide them in the file.
        """
        value = values[column]
        if self.seq_separator.strip() and self.header[self.fields[column]].endswith("_seq"):
            value = ", ".join(filter(None, map(str.strip, value.split(self.seq_separator))))
        return clean_text(value)

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
                text = ". ".join(filter(None, (self._text(values, c) for c in text_columns)))
                if not text:
                    others = ((self.fields[c], self._text(values, c)) for c in other_columns)
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


def read_items(item_file: ItemFile) -> ItemTable:
    """Read an .item file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the id column is missing, a line has the wrong number of values, an item is
            listed twice, or the file has another encoding.
    """
    file, separator, encoding = item_file.path, item_file.separator, item_file.encoding
    if not file.is_file():
        raise FileNotFoundError(
            f"The item file {file} does not exist. Semantic IDs are built from item texts: "
            "put the dataset's atomic .item file there, or point `data_path` at the folder that "
            "has it. Without texts: `text_encoder: vectors.npy` takes vectors of the items, "
            "`semantic_id_path` ready semantic IDs."
        )
    header = item_file.header()
    names = list(header)
    if item_file.id_field not in header:
        raise ValueError(
            f"{file} has no column `{item_file.id_field}`; its columns are {names}. Set the config "
            "key `ITEM_ID_FIELD` to the item id column."
        )
    cells = read_atomic_file(file, names, header, separator, encoding, numbers=False)
    id_column = names.index(item_file.id_field)
    by_token: dict[str, list[str]] = {}
    for row, values in enumerate(cells.fillna("").to_numpy().tolist()):
        if by_token.setdefault(values[id_column], values) is not values:
            line = line_of_row(file, row, separator, encoding)
            raise ValueError(
                f"{file} lists item {values[id_column]!r} twice, the second time in line "
                f"{line}; one item needs one text. Remove one line."
            )
    return ItemTable(file, header, item_file.id_field, by_token, item_file.seq_separator)


def read_item_texts(
    item_file: ItemFile, text_fields: list[str], item_tokens: Sequence[str]
) -> list[str]:
    """One cleaned text per item, such as ``"Toy Story. Animation Comedy. 1995"``.

    Args:
        item_file: the file. The entries of a sequence have commas between them in a text, unless
            they are words divided by spaces.
        text_fields: columns to join, in this order; empty values are left out.
        item_tokens: raw ids of the items, whose order is that of the texts. An item without any of
            the text fields gets a substitute: its other fields (``"field: value"``), or ``"item
            <token>"`` if it has none. Substitutes are counted and logged, unless no text field is
            asked for.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, a line has the wrong number of values, an item is listed
            twice, or the file has another encoding.
    """
    table = read_items(item_file)
    missing = [field for field in text_fields if field not in table.fields]
    if missing:
        raise ValueError(
            f"{table.file} has no column {missing} named in the config key `item_text_fields`; its "
            f"columns are {table.fields}. Name columns of this file in `item_text_fields`."
        )
    texts, from_others, from_token = table.texts(text_fields, item_tokens)
    if text_fields and (from_others or from_token):
        _logger.warning(
            f"{from_others + from_token} of {len(texts)} items have no text in {list(text_fields)} "
            f"of {table.file.name}: {from_others} are described by their other fields, "
            f"{from_token} by their id alone."
        )
    return texts
