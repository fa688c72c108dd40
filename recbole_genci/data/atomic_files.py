"""Read RecBole's atomic files: ``field:type`` headers, one separator, no quoting."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CHUNK_ROWS = 2**22  # rows whose cells are in memory as texts at a time

FIELD_TYPES = ("token", "float", "token_seq", "float_seq")


def _codec(encoding: str) -> str:
    """The codec to read with: in UTF-8 it skips the byte order mark that some editors write."""
    return "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding


def read_header(file: Path, field_separator: str = "\t", encoding: str = "utf-8") -> dict[str, str]:
    """Return ``{field: type}`` of an atomic file, in column order.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a header cell is not ``field:type``, or a field stands there twice.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist. Put the dataset's atomic files into {file.parent}."
        )
    try:
        with file.open(encoding=_codec(encoding), newline="") as lines:
            first = lines.readline()
    except (UnicodeDecodeError, LookupError) as error:
        raise ValueError(
            f"{file} is not {encoding}: {error}. Name its encoding by the key encoding."
        ) from error
    if not first:
        raise ValueError(
            f"{file} is empty. Its first line must name its columns as field:type; rows follow."
        )
    cells = first.rstrip("\r\n").split(field_separator)
    header = {}
    for cell in cells:
        field, _, kind = cell.rpartition(":")
        if not field or ":" in field or kind not in FIELD_TYPES:
            raise ValueError(
                f"{file}: header cell '{cell}' is not field:type with a type among "
                f"{', '.join(FIELD_TYPES)}. Is field_separator ({field_separator!r}) right?"
            )
        if field in header:
            raise ValueError(f"{file}: the header names field '{field}' twice.")
        header[field] = kind
    return header


def read_atomic_file(
    file: Path,
    fields: list[str],
    header: dict[str, str],
    field_separator: str = "\t",
    encoding: str = "utf-8",
    categories: bool = False,
) -> pd.DataFrame:
    """Read ``fields`` of an atomic file: str for token, float64 for float, one str per row for
    sequences.

    Only an empty cell is a missing value, so that items called ``NA`` or ``None`` keep their rows;
    RecBole's reader drops them. A quotation mark is an ordinary character; RecBole's reader fails
    on it.

    Args:
        categories: give columns of tokens as categoricals of str, which take a fraction of the
            memory. Their categories stand in the order of first appearance.

    Raises:
        ValueError: a line has another number of cells, or a float cell holds no number; names the
            file.
    """
    dtype = {
        f"{field}:{kind}": np.float64 if kind == "float" and field in fields else object
        for field, kind in header.items()
    }
    try:
        tokens = [f"{field}:token" for field in fields if header[field] == "token"]
        frame = _read_in_chunks(
            tokens if categories else [],
            file,
            sep=field_separator,
            dtype=dtype,
            encoding=_codec(encoding),
            engine="c",
            quoting=csv.QUOTE_NONE,
            keep_default_na=False,
            na_values=[""],
        )
        if frame.iloc[:, -1].isna().any() and (
            short := _short_line(file, len(header), field_separator, encoding)
        ):
            # The reader silently fills a line that lacks cells; an empty last cell is allowed.
            raise ValueError(short)
    except (ValueError, pd.errors.ParserError) as error:
        reason = _first_word_for_a_number(file, fields, header, field_separator, encoding) or error
        raise ValueError(
            f"{file} could not be read: {reason}. Every line needs {len(header)} cells, float "
            f"columns need numbers, and the file must be {encoding} (key: encoding)."
        ) from error
    if frame.empty:
        raise ValueError(f"{file} has a header but no rows.")
    frame = frame[[f"{field}:{header[field]}" for field in fields]]
    frame.columns = fields
    return frame


def _read_in_chunks(tokens: Collection[str], file: Path, **options: Any) -> pd.DataFrame:
    """``pandas.read_csv(file, **options)``, with the columns ``tokens`` as categoricals.

    The text of every cell never is in memory at one time.
    """
    columns: dict[str, list[np.ndarray]] = {}
    known: dict[str, dict[str, int]] = {name: {} for name in tokens}
    # Without low_memory equal texts of a chunk are one object, which is quick to recognise.
    for chunk in pd.read_csv(file, chunksize=CHUNK_ROWS, low_memory=False, **options):
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
        parts = columns.pop(name)
        if name in known:
            kind = pd.CategoricalDtype(pd.Index(list(known[name]), dtype=object))
            frame[name] = pd.Categorical.from_codes(np.concatenate(parts), dtype=kind)
        else:
            frame[name] = pd.Series(np.concatenate(parts))
    return pd.DataFrame(frame, copy=False)


def _short_line(file: Path, cells: int, field_separator: str, encoding: str) -> str | None:
    """Say which line is the first that lacks cells; None if none does."""
    with open(file, encoding=_codec(encoding)) as lines:
        for number, line in enumerate(lines, start=1):
            present = line.rstrip("\n").count(field_separator) + 1
            if present < cells and line.strip():
                return f"line {number} has {present} of {cells} cells"
    return None


def _first_word_for_a_number(
    file: Path,
    fields: Sequence[str],
    header: Mapping[str, str],
    field_separator: str,
    encoding: str,
) -> str | None:
    """Say where a float column holds no number; the reader's own error does not."""
    numbers = [
        f"{field}:{kind}" for field, kind in header.items() if kind == "float" and field in fields
    ]
    try:
        frame = pd.read_csv(
            file,
            sep=field_separator,
            dtype=object,
            encoding=_codec(encoding),
            quoting=csv.QUOTE_NONE,
            keep_default_na=False,
            usecols=numbers,
        )
    except ValueError:
        return None  # lines are malformed; the reader's error says so
    for column in numbers:
        bad = (
            pd.to_numeric(frame[column], errors="coerce").isna() & (frame[column] != "")
        ).to_numpy()
        if bad.any():
            line = int(bad.argmax())
            return (
                f"line {line + 2} has '{frame[column].iloc[line]}' for {column}, one of "
                f"{bad.sum()} lines without a number"
            )
    return None


def split_sequences(column: pd.Series, kind: str, seq_separator: str) -> list[np.ndarray]:
    """Split a sequence column's cells at ``seq_separator``; an empty cell is an empty array."""
    convert = float if kind == "float_seq" else str
    dtype = np.float64 if kind == "float_seq" else object
    return [
        np.array([convert(part) for part in cell.split(seq_separator) if part], dtype=dtype)
        for cell in column.fillna("")
    ]
