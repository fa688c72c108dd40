"""The cells of sequence columns while rows are read and filtered: all entries in one array.

RecBole keeps a numpy array for each cell, and loops over them in Python at every step. Here a
table's column holds the numbers of its cells, which follow the rows through filters and joins.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


class Cells:
    """The cells of one field, of all files that have it.

    Attributes:
        entries: ``[T]`` str objects, and later ids or numbers.
        start, length: ``[C]`` first entry and number of entries of each cell.
    """

    def __init__(self) -> None:
        self.entries = np.empty(0, dtype=object)
        self.start = self.length = np.empty(0, dtype=np.int64)

    def add(self, entries: np.ndarray, lengths: np.ndarray, limit: int | None = None) -> np.ndarray:
        """Take in the cells of a column; return their numbers ``[R]``.

        Args:
            entries: those of all cells, one cell after another.
            lengths: ``[R]`` number of entries of each cell.
            limit: the most entries of a cell that count; None for all.
        """
        first = len(self.start)
        start = np.cumsum(lengths) - lengths + len(self.entries)
        self.entries = np.concatenate([self.entries, entries]) if first else entries
        self.start = np.concatenate([self.start, start])
        kept = lengths if limit is None else np.minimum(lengths, limit)
        self.length = np.concatenate([self.length, kept])
        return np.arange(first, len(self.start))

    def of(self, numbers: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """Entries ``[T]`` and lengths ``[R]`` of the cells in a column; a missing one is empty."""
        number = numbers.fillna(-1).to_numpy(dtype=np.int64)
        length, start = np.append(self.length, 0)[number], np.append(self.start, 0)[number]
        place = np.repeat(start - (np.cumsum(length) - length), length)
        return self.entries[place + np.arange(len(place))], length
