"""Take a line of a published file apart: JSON, Python literals, CSV."""

from __future__ import annotations

import ast
import csv
import json

from recbole_genci.data.prepare.cleaning import MalformedLine


def parse_object(line: str, allows_literals: bool = False) -> dict:
    """Parse one JSON object, or with ``allows_literals`` one Python dict; no code in it ever runs.

    Raises:
        MalformedLine: the line is something else.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        if not allows_literals:
            raise MalformedLine(f"not a JSON object ({error})") from error
        try:
            value = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as problem:
            raise MalformedLine(
                f"neither a JSON object ({error}) nor a Python literal ({problem})"
            ) from problem
    if not isinstance(value, dict):
        raise MalformedLine(f"a {type(value).__name__}, not an object of fields")
    return value


def csv_cells(line: str, number: int) -> list[str]:
    """The cells of one line of CSV, whose quoted cells may hold commas but no line end.

    Raises:
        MalformedLine: the line is no CSV, or has another number of cells.
    """
    try:
        cells = next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise MalformedLine(f"not a line of CSV ({error})") from error
    if len(cells) != number:
        raise MalformedLine(f"{len(cells)} values, separated by ',', not {number}")
    return cells
