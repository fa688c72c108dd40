"""Read the header and the rows of an atomic file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_genci.utils.atomic_files.faults import (
    fault_of_header,
    first_ragged_line,
    mend_of_number,
    nul_fault,
    refuse_encoding,
    refuse_nul,
    shortened,
)
from recbole_genci.utils.atomic_files.lines import (
    FIELD_TYPES,
    LARGEST_NUMBER,
    codec,
    line_of_row,
    lines_of,
    numbers_of,
    rows_of,
)

MOST_ROWS = 2**31 - 1  # row numbers, ids and places of clicks have 32 bits
CHUNK_ROWS = 2**22  # rows whose cells are in memory as texts at a time


def read_header(file: Path, field_separator: str = "\t", encoding: str = "utf-8") -> dict[str, str]:
    """Return ``{field: type}`` of an atomic file, in column order.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a header cell is not ``field:type``, a field stands there twice, or the file has
            another encoding.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist. Put the dataset's atomic files into {file.parent}."
        )
    try:
        lines = lines_of(file, encoding)
        first, second = next(lines, None), next(lines, "")
    except (UnicodeError, LookupError) as error:
        refuse_encoding(file, encoding, error)
    if first is None:
        raise ValueError(
            f"{file} is empty. Its first line must name its columns as field:type; rows follow."
        )
    if "\0" in first:
        raise ValueError(f"{file}: {nul_fault(1, encoding)}")
    header: dict[str, str] = {}
    for cell in first.split(field_separator):
        field, _, kind = cell.rpartition(":")
        if not field or ":" in field or kind not in FIELD_TYPES:
            fault = fault_of_header(first, second, cell, field_separator)
            raise ValueError(f"{file}: {fault}.")
        if not cell.isprintable():
            raise ValueError(
                f"{file}: header cell {cell!r} holds a character that is not shown. Remove it; "
                "columns are found by their names."
            )
        if field in header:
            raise ValueError(f"{file}: the header names field '{field}' twice. Rename one.")
        header[field] = kind
    return header


def read_atomic_file(
    file: Path,
    fields: Sequence[str],
    header: Mapping[str, str],
    field_separator: str = "\t",
    encoding: str = "utf-8",
    numbers: bool = True,
    categories: bool = False,
) -> pd.DataFrame:
    """Read ``fields`` of an atomic file: str for token, float64 for float, one str per row for
    sequences.

    Only an empty cell is a missing value, so that items called ``NA`` or ``None`` keep their rows;
    RecBole's reader drops them. A quotation mark is an ordinary character; RecBole's reader fails
    on it.

    Args:
        file: the file.
        fields: columns to return, in this order.
        header: all columns of the file, from `read_header`.
        field_separator: separator of the columns.
        encoding: the file's encoding.
        numbers: whether to read float columns as numbers; else their cells are str too.
        categories: whether to give columns of tokens as categoricals of str, which take a fraction
            of the memory; their categories stand in the order of first appearance.

    Raises:
        ValueError: a line has another number of cells, a float cell holds no finite number, or the
            file has another encoding; names file, line and cell.
    """
    names = [f"{field}:{kind}" for field, kind in header.items()]
    floats = [f"{field}:float" for field in fields if numbers and header[field] == "float"]
    tokens = [f"{field}:token" for field in fields if categories and header[field] == "token"]
    try:
        refuse_nul(file, encoding)
        frame = _read_cells(file, names, floats, field_separator, encoding, tokens)
    except (UnicodeError, LookupError) as error:
        refuse_encoding(file, encoding, error)
    except _TooManyRows:
        raise ValueError(
            f"{file} has more than {MOST_ROWS:,} rows, the most that one run takes (row numbers "
            "have 32 bits). Give a part of them."
        ) from None
    except ValueError as error:  # pandas.errors.ParserError is one
        fault = first_ragged_line(file, len(names), field_separator, encoding)
        fault = fault or _first_word_for_a_number(file, names, floats, field_separator, encoding)
        raise ValueError(f"{file} could not be read: {fault or error}.") from error
    if any((np.abs(frame[column].to_numpy()) > LARGEST_NUMBER).any() for column in floats):
        fault = _first_word_for_a_number(file, names, floats, field_separator, encoding)
        raise ValueError(f"{file} could not be read: {fault}.")
    if frame.empty:
        raise ValueError(f"{file} has a header but no rows.")
    frame = frame[[f"{field}:{header[field]}" for field in fields]]
    frame.columns = list(fields)
    return frame


class _TooManyRows(ValueError):
    """A file has more than ``MOST_ROWS`` rows."""


def _read_cells(
    file: Path,
    names: list[str],
    floats: Sequence[str],
    field_separator: str,
    encoding: str,
    tokens: Sequence[str] = (),
) -> pd.DataFrame:
    """All columns of a file, by their whole header cell; ``tokens`` as categoricals.

    Raises:
        ValueError: what pandas says, or nothing of use to a person; `first_ragged_line` and
            `_first_word_for_a_number` then find the fault.
    """
    dtype = {name: np.float64 if name in floats else object for name in names}
    if len(field_separator.encode()) > 1:  # pandas takes it for a regular expression
        cells = [
            line.split(field_separator) for _, line in rows_of(file, field_separator, encoding)
        ]
        if any(len(row) != len(names) for row in cells):
            raise ValueError("its lines have other numbers of cells than its header")
        frame = pd.DataFrame(cells, columns=names, dtype=object)
        frame = frame.mask(frame == "")
        for name in floats:
            frame[name], is_bad = numbers_of(frame[name])
            if is_bad.any():
                raise ValueError("a cell is no number")
        return _joined([frame], tokens)
    # Without low_memory equal texts of a chunk are one object, which is quick to recognise.
    chunks = pd.read_csv(
        file,
        sep=field_separator,
        dtype=dtype,
        encoding=codec(encoding),
        engine="c",
        quoting=csv.QUOTE_NONE,
        keep_default_na=False,
        na_values=[""],
        chunksize=CHUNK_ROWS,
        low_memory=False,
    )
    with chunks:
        frame = _joined(chunks, tokens)
    # The reader silently fills a line that lacks cells; an empty last cell is allowed.
    if frame.iloc[:, -1].isna().any() and first_ragged_line(
        file, len(names), field_separator, encoding
    ):
        raise ValueError("its lines have fewer cells than its header")
    return frame


def _joined(chunks: Iterable[pd.DataFrame], tokens: Sequence[str]) -> pd.DataFrame:
    """The rows of all chunks, columns ``tokens`` as categoricals.

    The text of every such cell never is in memory at one time.
    """
    columns: dict[str, list[np.ndarray]] = {}
    known: dict[str, dict[str, int]] = {name: {} for name in tokens}
    rows = 0
    for chunk in chunks:
        rows += len(chunk)
        if rows > MOST_ROWS:
            raise _TooManyRows
        if not isinstance(chunk.index, pd.RangeIndex):
            raise ValueError("its lines have more cells than its header")
        for name in chunk:
            column = chunk[name].to_numpy()
            if name in known:
                codes, found = pd.factorize(column)
                numbers = [known[name].setdefault(token, len(known[name])) for token in found]
                column = np.array([*numbers, -1], dtype=np.int32)[codes]  # -1: a missing token
            columns.setdefault(name, []).append(column)
    frame = {}
    for name in list(columns):
        column = np.concatenate(columns.pop(name))
        if name in known:
            kind = pd.CategoricalDtype(pd.Index(list(known[name]), dtype=object))
            frame[name] = pd.Categorical.from_codes(column, dtype=kind)
        else:
            frame[name] = pd.Series(column)
    return pd.DataFrame(frame, copy=False)


def _first_word_for_a_number(
    file: Path,
    names: list[str],
    floats: Sequence[str],
    field_separator: str,
    encoding: str,
) -> str | None:
    """Say where a float column holds no finite number; the reader's own error does not."""
    frame = _read_cells(file, names, (), field_separator, encoding)
    for column in floats:
        _, is_bad = numbers_of(frame[column])
        if is_bad.any():
            row = int(is_bad.argmax())
            line = line_of_row(file, row, field_separator, encoding)
            word = frame[column].iloc[row]
            others = f", one of {is_bad.sum()} lines without a number" if is_bad.sum() > 1 else ""
            return (
                f"line {line} has {shortened(word)!r} for {column}{others}. {mend_of_number(word)}"
            )
    return None
