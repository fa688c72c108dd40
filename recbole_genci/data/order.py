"""Orders and groups of rows, by sorting whole numbers: the same rows as RecBole's loops give."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd


def stable_order(*keys: np.ndarray) -> np.ndarray:
    """The order ``[R]`` int64 that sorts rows by ``keys``; rows with equal keys keep their order.

    Args:
        keys: ``[R]`` each, whole numbers from 0 on; the first one counts most.
    """
    order = None
    for key in reversed(keys):
        own = _stable_order(key if order is None else key[order])
        order = own if order is None else order[own]
    assert order is not None
    return order


def _stable_order(key: np.ndarray) -> np.ndarray:
    # Sorting numbers that hold key and row is several times faster than a stable argsort.
    bits = len(key).bit_length()
    if len(key) == 0 or int(key.max()).bit_length() + bits > 63:
        return np.argsort(key, kind="stable")
    packed = (key.astype(np.int64) << bits) | np.arange(len(key))
    packed.sort()
    packed &= (1 << bits) - 1
    return packed


def cut_groups(
    groups: np.ndarray, starts: Callable[[int], Sequence[int]]
) -> tuple[np.ndarray, list[int]]:
    """Cut each group of rows into parts, as RecBole's loops over groups do.

    The rows of a part stand group by group, in the order in which groups first appear, and within
    a group in their order (dataset.py:1591, 1623, 1666).

    Args:
        groups: ``[R]`` the group of each row.
        starts: for a group of n rows, where its second, third, ... part starts; from 0 to n, not
            falling.

    Returns:
        order: ``[R]`` row numbers, those of the first part first.
        sizes: the number of rows of each part.
    """
    numbers, _ = pd.factorize(groups)  # by first appearance
    counts = np.bincount(numbers)
    order = stable_order(numbers)
    del numbers
    sizes, of_size = np.unique(counts, return_inverse=True)
    table = np.array([list(starts(int(size))) for size in sizes], dtype=np.int64)
    position = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    part = np.zeros(len(order), dtype=np.int8)
    for column in table.T:
        part += position >= np.repeat(column[of_size], counts)
    rows = [order[part == number] for number in range(table.shape[1] + 1)]
    return np.concatenate(rows), [len(each) for each in rows]
