"""Tables: one list of rows gives both the Markdown and the CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recbole_genci.comparison.text_tables import latex_table, markdown_table
from recbole_genci.webpage.table import Cell


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty, a standard deviation or standard error as its column says."""

    value: float
    error: float | None = None

    @classmethod
    def mean(cls, values: Sequence[float] | np.ndarray) -> Estimate | None:
        """Mean and standard deviation (n - 1) of all seeds' values; None if one is undefined."""
        return cls._of(values, 1.0)

    @classmethod
    def mean_difference(cls, values: Sequence[float] | np.ndarray) -> Estimate | None:
        """Mean of paired differences and its standard error, sd / sqrt(n)."""
        return cls._of(values, np.sqrt(len(values)))

    @classmethod
    def _of(cls, values: Sequence[float] | np.ndarray, divisor: float) -> Estimate | None:
        array = np.asarray(values, dtype=float)
        if len(array) == 0 or not np.isfinite(array).all():
            return None
        error = float(array.std(ddof=1) / divisor) if len(array) > 1 else None
        return cls(float(array.mean()), error)


@dataclass(frozen=True)
class Interval:
    """A number with the ends of its 95 % interval, None if there is none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: the heading.
        form: format of numbers in Markdown; CSV has all digits.
        error: name of the numbers' uncertainty, ``sd`` or ``se``, which is a separate column in
            CSV; None if they have none.
        interval: whether the numbers are ``Interval``, whose ends are separate columns in CSV.
        page_name: the heading in ``report.html``; ``name`` by default.
    """

    name: str
    form: str = ".4f"
    error: str | None = None
    interval: bool = False
    page_name: str | None = None


MISSING = "–"


@dataclass(frozen=True)
class Table:
    """Rows with one entry per column: a text, whole number, float, ``Estimate``,
    ``Interval`` or None.

    Raises:
        ValueError: a row has another number of entries.
    """

    columns: tuple[Column, ...]
    rows: list[list]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"A table of {len(self.columns)} columns was given a row of {len(row)}: {row}."
                )

    def markdown(self) -> str:
        """The Markdown table; a missing value is a dash."""
        return markdown_table(self.heads(), self._shown())

    def latex(self) -> str:
        """The table as LaTeX's ``tabular``, for the package booktabs; a missing value is a dash."""
        return latex_table(self.heads(), self._shown())

    def cells(self) -> list[list[Cell]]:
        """The entries for a page, which sorts them by all their digits."""
        return [
            [Cell(text, _number(value), is_empty=value is None) for text, value in zip(shown, row)]
            for shown, row in zip(self._shown(), self.rows)
        ]

    def heads(self) -> list[str]:
        """The headings, with the name of the numbers' uncertainty."""
        return [self._head(number) for number in range(len(self.columns))]

    def page_heads(self) -> list[str]:
        """``heads``, with the columns' names for a page."""
        renamed = tuple(replace(each, name=each.page_name or each.name) for each in self.columns)
        return Table(renamed, self.rows).heads()

    def _shown(self) -> list[list[str]]:
        return [
            [_shown(value, column) for value, column in zip(row, self.columns)] for row in self.rows
        ]

    def _head(self, number: int) -> str:
        column, entries = self.columns[number], [row[number] for row in self.rows]
        if column.interval:
            return f"{column.name} (95 %)"
        shows_errors = any(
            isinstance(entry, Estimate) and entry.error is not None for entry in entries
        )
        return f"{column.name} (± {column.error})" if shows_errors else column.name

    def csv(self) -> str:
        """The CSV with all digits; a missing value is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([name for column in self.columns for name in _csv_names(column)])
        for row in self.rows:
            writer.writerow(
                [
                    entry
                    for value, column in zip(row, self.columns)
                    for entry in _csv_entries(value, column)
                ]
            )
        return text.getvalue()

    def without_empty_columns(self) -> Table:
        """The same table without columns that are empty in every row."""
        kept = [i for i in range(len(self.columns)) if any(row[i] is not None for row in self.rows)]
        return Table(
            tuple(self.columns[i] for i in kept), [[row[i] for i in kept] for row in self.rows]
        )


def _csv_names(column: Column) -> list[str]:
    if column.interval:
        return [column.name, f"{column.name} 95 % from", f"{column.name} 95 % to"]
    return [column.name, f"{column.name} {column.error}"] if column.error else [column.name]


def _csv_entries(value: Any, column: Column) -> list:
    if column.interval:
        numbers = [None] * 3 if value is None else [value.value, value.low, value.high]
        return ["" if number is None else number for number in numbers]
    if not column.error:
        return ["" if value is None else value]
    if value is None:
        return ["", ""]
    return [value.value, "" if value.error is None else value.error]


def _number(value: Any) -> float | None:
    if isinstance(value, (Estimate, Interval)):
        return value.value
    return float(value) if isinstance(value, (int, float)) else None


def _shown(value: Any, column: Column) -> str:
    if value is None:
        return MISSING
    if isinstance(value, Estimate):
        return f"{value.value:{column.form}}" + (
            f" ± {value.error:{column.form.lstrip('+')}}" if value.error is not None else ""
        )
    if isinstance(value, Interval):
        ends = value.low, value.high
        shown = [f"{x:{column.form}}" for x in (value.value, *ends) if x is not None]
        return shown[0] if None in ends else f"{shown[0]} ({shown[1]} to {shown[2]})"
    if isinstance(value, float):
        return f"{value:{column.form}}"
    return (
        f"{value:,}" if isinstance(value, int) else str(value).replace("|", "/").replace("\n", " ")
    )
