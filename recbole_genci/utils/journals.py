"""Read journals: files with one JSON value per line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path


def read_json_lines(
    file: Path,
    key: str,
    remedy: str,
    wrong_with: Callable[[object], str | None] = lambda value: None,
) -> list[dict]:
    """Return the values of a journal, a file with one JSON value per line; [] if there is no file.

    Args:
        wrong_with: says what is wrong with the value of a line; None if it is right.

    Raises:
        ValueError: a line is damaged; names ``key``, the file and the line, and the ``remedy``.
    """
    values = []
    for number, line in enumerate(
        file.read_bytes().splitlines() if file.is_file() else [], start=1
    ):
        where = f"{key}: {file}, line {number} is damaged"
        try:
            values.append(json.loads(line.decode("utf-8")))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} ({error}). {remedy}") from error
        if wrong := wrong_with(values[-1]):
            raise ValueError(f"{where}: {wrong}. {remedy}")
    return values
