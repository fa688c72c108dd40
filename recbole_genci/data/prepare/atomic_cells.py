"""Texts of a table's column as cells of an atomic file."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from recbole_genci.data.prepare.cleaning import number_text
from recbole_genci.data.prepare.schema import ITEM, NEEDED, USER, Column
from recbole_genci.utils.arrow_texts import ENTRY_END
from recbole_genci.utils.atomic_files.faults import TIMES_ARE_NUMBERS, mend_of_number, shortened
from recbole_genci.utils.atomic_files.lines import numbers_of
from recbole_genci.utils.value_checks import PAD_TOKEN

_BOOLEANS = {"true": "1", "false": "0"}
#: What pandas takes for the time of reading.
_NOW = ("now", "today")
_UNITS = {"milliseconds": 1e3, "microseconds": 1e6}


class CellFault(ValueError):
    """A cell is no value of its column; the message says why.

    Attributes:
        row: the number of the cell in its column, from 0.
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row


def atomic_cells(column: Column, texts: list[str]) -> list[str]:
    """The cells of ``column``; an empty text is a missing value.

    Raises:
        CellFault: a text is no value of the column's type, or a value is missing that no row may
            lack.
    """
    if column.change is not None:
        texts = column.change(column.spelled, texts)
    if column.kind.endswith("_seq"):
        cells = _sequences(column, texts)
    elif column.kind == "token":
        cells = _tokens(texts)
        if column.field in (USER, ITEM):
            _check_ids(column, texts, cells)
        if PAD_TOKEN in cells:
            raise CellFault(
                cells.index(PAD_TOKEN),
                f"has {PAD_TOKEN} for {column.spelled}, which is RecBole's own word for no value. "
                "Empty the cell if it means that; else give it another name.",
            )
    elif column.time in (None, "seconds", *_UNITS):
        cells = _numbers(column, texts)
    else:
        cells = _dates(column, texts)
    if column.field in NEEDED and "" in cells:
        raise CellFault(
            cells.index(""),
            f"has no {column.spelled}. Complete or remove such rows: none may lack it.",
        )
    return cells


def _tokens(texts: list[str]) -> list[str]:
    whole = "".join(texts)
    if whole.isprintable() and " " not in whole:  # as most columns are; much faster
        return texts
    return [text.strip() if text.isprintable() else plain(text) for text in texts]


def _check_ids(column: Column, texts: list[str], cells: list[str]) -> None:
    """Refuse ids with letters that no cell can hold: two of them could become one id."""
    if cells is texts:
        return
    for row, (text, cell) in enumerate(zip(texts, cells)):
        if text.strip() != cell:
            raise CellFault(
                row,
                f"has {shortened(text)!r} for {column.spelled}, an id with a tab, a line end or "
                "another letter that is not shown. Take such letters out of it, in all tables.",
            )


def plain(text: str) -> str:
    """The text in one line, without letters that are not shown."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def entry_cell(text: str) -> str:
    """An entry of a sequence, between whose entries stands a space: white space becomes ``_``."""
    return "_".join(plain(text).split())


def _numbers(column: Column, texts: list[str]) -> list[str]:
    cells = _tokens(texts)
    values, is_bad = numbers_of(pd.Series(cells, dtype=object))
    if is_bad.any():
        cells = [_BOOLEANS.get(cell.lower(), cell) for cell in cells]
        values, is_bad = numbers_of(pd.Series(cells, dtype=object))
    if is_bad.any():
        row = int(is_bad.argmax())
        raise _no_number(column, row, cells[row])
    if column.time not in _UNITS:
        return cells
    scaled = (values / _UNITS[column.time]).tolist()
    return [cell and number_text(value) for cell, value in zip(cells, scaled)]


def _no_number(column: Column, row: int, word: str) -> CellFault:
    mend = mend_of_number(word, column.separator)
    if mend.startswith(TIMES_ARE_NUMBERS):
        mend = "If it is a time, set time: iso in the schema, or a pattern such as '%d/%m/%Y'"
    return CellFault(row, f"has {shortened(word)!r} for {column.spelled}. {mend}.")


def _dates(column: Column, texts: list[str]) -> list[str]:
    cells = _tokens(texts)
    form = "ISO8601" if column.time == "iso" else column.time
    times = pd.to_datetime(
        pd.Series(cells, dtype=object), format=form, utc=True, errors="coerce"
    ).dt.as_unit("us")
    is_bad = times.isna().to_numpy() & (np.array(cells, dtype=object) != "")
    is_bad |= np.array([cell.lower() in _NOW for cell in cells], dtype=bool)
    if is_bad.any():
        row = int(is_bad.argmax())
        raise CellFault(
            row,
            f"has {shortened(cells[row])!r} for {column.spelled}, which is no time as "
            f"'{column.time}' says. Set time in the schema to what the table has.",
        )
    seconds = (times.astype("int64") / 1e6).tolist()
    return [cell and number_text(value) for cell, value in zip(cells, seconds)]


def _sequences(column: Column, texts: list[str]) -> list[str]:
    """The entries of each text with a space between; white space within one becomes ``_``."""
    rows = []
    for number, text in enumerate(texts):
        if text.endswith(ENTRY_END):
            entries = text.split(ENTRY_END)
        elif column.separator is not None:
            entries = text.split(column.separator)
        else:
            rows.append((text if text.isprintable() else plain(text)).split())
            continue
        found = [entry_cell(entry) for entry in entries]
        cells = [cell for cell in found if cell]
        # Models read the first, second, ... number of a list apart: none may move up.
        if column.kind == "float_seq" and cells != found[: len(cells)]:
            raise CellFault(
                number,
                f"has a list for {column.spelled} in which number {found.index('') + 1} is "
                "missing. Write a number there.",
            )
        rows.append(cells)
    if column.kind == "float_seq":
        entries = list(itertools.chain.from_iterable(rows))
        _, is_bad = numbers_of(pd.Series(entries, dtype=object))
        if is_bad.any():
            entry, ends = int(is_bad.argmax()), np.cumsum([len(row) for row in rows])
            row = int(np.searchsorted(ends, entry, side="right"))
            raise _no_number(column, row, entries[entry])
    return [" ".join(row) for row in rows]
