"""Buckets of equal width, in which RecBole's ``discretization`` puts numbers (method ED)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Buckets(NamedTuple):
    """The buckets of a column, numbered from 1.

    Attributes:
        low, high: the least value of the column, and RecBole's end of the last bucket.
        bins: number of buckets.
        mean: the mean of the column, which stands for a missing value.
    """

    low: float
    high: float
    bins: int
    mean: float

    @classmethod
    def of_column(cls, values: np.ndarray, bins: int) -> Buckets:
        """The buckets that RecBole makes of the values of a column."""
        return cls(float(values.min()), float(values.max() + 1e-9), bins, float(values.mean()))

    def numbers(self, values: np.ndarray, last: int) -> np.ndarray:
        """The bucket of each value; that of the nearest one outside the range of the column.

        Args:
            values: ``[R]``.
            last: the bucket of the column's largest value, as RecBole numbers it: ``bins``; one
                more if float64 has no number between that value and ``high``; if all values are
                equal, 1 or ``bins``.
        """
        if self.low == self.high:
            return np.full(len(values), float(last))
        # RecBole dataset.py:765
        found = np.floor((values - self.low) * self.bins / (self.high - self.low) + 1)
        return np.clip(found, 1, last)

    def is_outside(self, values: np.ndarray) -> np.ndarray:
        """Which values are beyond those of the column."""
        return (values < self.low) | (values > self.high)
