"""Tables that a click on a heading sorts, and the matrix of all pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recbole_genci.webpage.page import text

_LONG = 40  # characters of a text; a longer one is broken into lines


@dataclass(frozen=True)
class Cell:
    """An entry of a table.

    Attributes:
        shown: its text.
        value: the number by which it is sorted; None if it is sorted by its text, or is empty.
        is_empty: whether it stays at the end.
    """

    shown: str
    value: float | None = None
    is_empty: bool = False


def sortable_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    highlighted: Sequence[str] = (),
    sorted_by: str | None = None,
) -> str:
    """The HTML of a table.

    Args:
        heads: the headings.
        rows: the entries.
        highlighted: rows whose first entry is one of these stand out.
        sorted_by: heading of the column of numbers by which rows are sorted at first, the largest
            on top; without it, or without such a column, they stay as they are.
    """
    column = _place(heads, sorted_by) if sorted_by else None
    if column is not None:
        rows = sorted(rows, key=lambda row: _descending(row[column]))
    numbers = [
        any(row[i].value is not None for row in rows)
        and all(row[i].value is not None or row[i].is_empty for row in rows)
        for i in range(len(heads))
    ]
    head = "".join(
        f'<th scope="col" data-sort="{"number" if number else "text"}"'
        f"{' aria-sort=descending' if place == column else ''}>{text(name)}</th>"
        for place, (name, number) in enumerate(zip(heads, numbers))
    )
    body = "".join(_row(row, numbers, row[0].shown in highlighted) for row in rows)
    table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table>{table}</table></div>'


def _place(heads: Sequence[str], name: str) -> int | None:
    """The column of this name, whatever its heading says about uncertainty."""
    named = (i for i, head in enumerate(heads) if head == name or head.startswith(f"{name} ("))
    return next(named, None)


def _descending(cell: Cell) -> tuple[bool, float]:
    is_missing = cell.value is None or not math.isfinite(cell.value)
    return is_missing, 0.0 if is_missing else -(cell.value or 0.0)


def _row(row: Sequence[Cell], numbers: Sequence[bool], highlighted: bool) -> str:
    cells = "".join(
        f'<td data-value="{text(_key(cell, number))}"{"" if number else _kind(cell)}>'
        f"{text(cell.shown)}</td>"
        for cell, number in zip(row, numbers)
    )
    return f"<tr{' class=highlighted' if highlighted else ''}>{cells}</tr>"


def _kind(cell: Cell) -> str:
    return f' class="text{" long" if len(cell.shown) > _LONG else ""}"'


def _key(cell: Cell, number: bool) -> str:
    if cell.is_empty or (number and not math.isfinite(cell.value or 0.0)):
        return ""
    return repr(float(cell.value or 0.0)) if number else cell.shown


def matrix(names: Sequence[str], entries: Sequence[Sequence[tuple[str, str, str]]]) -> str:
    """The HTML of a table with a row and a column for each name.

    Args:
        names: the names.
        entries: for each pair the text, a text shown on hovering, and ``better``, ``worse`` or
            nothing.
    """
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th>'
        + "".join(
            f'<td class="{mark}" title="{text(hover)}">{text(shown)}</td>'
            for shown, hover, mark in row
        )
        + "</tr>"
        for name, row in zip(names, entries)
    )
    return (
        '<div class="wide"><table class="matrix"><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
