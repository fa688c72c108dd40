"""Lines and cells of an atomic file.

``\\n``, ``\\r\\n`` and ``\\r`` end a line, and blank lines do not count.
"""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FIELD_TYPES = ("token", "float", "token_seq", "float_seq")
#: Models read numbers as float32, in which a larger one is infinite.
LARGEST_NUMBER = float(np.finfo(np.float32).max)


def encoding_of(config: Mapping[str, Any]) -> str:
    """The encoding of a dataset's files: the key ``encoding``, or UTF-8."""
    return (config["encoding"] if "encoding" in config else None) or "utf-8"


def codec(encoding: str) -> str:
    """The codec to read with: in UTF-8 it skips the byte order mark that some editors write."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def lines_of(file: Path, encoding: str) -> Iterator[str]:
    """The lines of a file without their ends, blank ones too."""
    with file.open(encoding=codec(encoding)) as lines:
        for line in lines:
            yield line.removesuffix("\n")


def rows_of(file: Path, field_separator: str, encoding: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line after the header that is not blank, as pandas counts them."""
    blank = " \t".replace(field_separator, "")
    for number, line in enumerate(lines_of(file, encoding), start=1):
        if number > 1 and line.strip(blank):
            yield number, line


def line_of_row(file: Path, row: int, field_separator: str, encoding: str) -> int:
    """The line, from 1 on, that row ``row``, from 0 on, of a file has; it reads the file again."""
    rows = rows_of(file, field_separator, encoding)
    return next(itertools.islice(rows, row, None))[0]


def numbers_of(cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Cells as float64, and which hold something that is no finite number (as float32)."""
    values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
    is_empty = (cells.isna() | (cells == "")).to_numpy()
    return values, ~(np.abs(values) <= LARGEST_NUMBER) & ~is_empty
