"""Rows of CSV text, with cells of any length that a person may have."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any

#: Letters of a cell; more are rather a quote that is not closed, and would fill the memory.
LONGEST_CELL = 2**24


def csv_reader(lines: Iterable[str], **form: Any) -> Any:
    """``csv.reader`` whose cells may have ``LONGEST_CELL`` letters; Python's default is 131,072.

    Args:
        lines: the lines of the text.
        form: see ``csv.reader``.
    """
    if csv.field_size_limit() < LONGEST_CELL:  # Python has one limit for all readers
        csv.field_size_limit(LONGEST_CELL)
    return csv.reader(lines, **form)
