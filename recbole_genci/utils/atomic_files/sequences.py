"""Cells that hold sequences of tokens or numbers."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_genci.utils.atomic_files.faults import OTHER_SEQ_SEPARATORS, mend_of_number
from recbole_genci.utils.atomic_files.lines import line_of_row, numbers_of


def split_sequences(cells: pd.Series, seq_separator: str) -> tuple[np.ndarray, np.ndarray]:
    """Divide the cells of a sequence column; nothing, or nothing between two separators, is no
    entry.

    Returns:
        entries: ``[T]`` str (object), those of the first cell first.
        lengths: ``[R]`` number of entries of each cell.
    """
    parts = [cell.split(seq_separator) for cell in cells.fillna("")]
    counts = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
    entries = np.empty(int(counts.sum()), dtype=object)
    entries[:] = list(itertools.chain.from_iterable(parts))
    kept = entries != ""
    row = np.repeat(np.arange(len(parts)), counts)[kept]
    return entries[kept], np.bincount(row, minlength=len(parts))


def read_sequences(
    file: Path,
    field: str,
    kind: str,
    cells: pd.Series,
    seq_separator: str,
    field_separator: str = "\t",
    encoding: str = "utf-8",
) -> tuple[np.ndarray, np.ndarray]:
    """Entries ``[T]`` and lengths ``[R]`` of a sequence column; float64 entries for float_seq.

    Args:
        file, field_separator, encoding: where the cells stand, for the message.
        field, kind: name and type of the column.
        cells: the column, from `read_atomic_file`.
        seq_separator: stands between the entries of a cell.

    Raises:
        ValueError: an entry of a float_seq column is no finite number; names line and entry.
    """
    entries, lengths = split_sequences(cells, seq_separator)
    if kind != "float_seq":
        return entries, lengths
    values, is_bad = numbers_of(pd.Series(entries, dtype=object))
    if is_bad.any():
        row = int(np.searchsorted(np.cumsum(lengths), int(is_bad.argmax()), side="right"))
        line = line_of_row(file, row, field_separator, encoding)
        word = entries[int(is_bad.argmax())]
        raise ValueError(
            f"{file} could not be read: line {line} has {word!r} for {field}:{kind}, one of "
            f"{is_bad.sum()} entries that are no finite number. "
            f"{mend_of_number(word, seq_separator)}."
        )
    return values, lengths


def other_seq_separator(cells: pd.Series, seq_separator: str) -> tuple[str, int, str] | None:
    """A separator that a sequence column seems to have instead of ``seq_separator``.

    Returns:
        (separator, number of cells that have it, one of them); None if a cell has
        ``seq_separator``, or none has another.
    """
    texts = cells.dropna()
    if texts.str.contains(seq_separator, regex=False).any():
        return None
    found = {}
    for other in OTHER_SEQ_SEPARATORS:
        has = texts.str.contains(other, regex=False).to_numpy(dtype=bool)
        if has.any():
            found[other] = (int(has.sum()), texts.iloc[int(has.argmax())])
    if not found:
        return None
    other = max(found, key=lambda each: found[each][0])
    return other, *found[other]
