"""Avoid collisions: different items with the same codes get the nearest free last-level codes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def _numbered(rows: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the distinct rows in the order of their values: ``([I], number of distinct rows)``."""
    distinct, number = np.unique(rows, axis=0, return_inverse=True)
    return number.reshape(-1), len(distinct)


def _first_of_each(place: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """The position of the smallest cost of each distinct place; the first of equal costs."""
    order = np.lexsort((np.arange(len(place)), cost, place))
    return order[np.r_[True, place[order][1:] != place[order][:-1]]]


def _place_others(
    waiting: np.ndarray,
    distance: np.ndarray,
    prefix: np.ndarray,
    occupied: np.ndarray,
    settled: np.ndarray,
) -> None:
    """Give items their nearest free codes, in rounds; a code goes to the nearest who wants it.

    Args:
        waiting: ``[W]`` the items, rows of ``prefix`` and ``settled``.
        distance: ``[W, K]`` from each of them to every code.
        prefix: ``[I]`` numbers of the items' prefixes.
        occupied: ``[prefixes, K]`` whether a code is taken; it is written to.
        settled: ``[I]`` the items' codes; it is written to. One for which none is free keeps its
            own.
    """
    size = occupied.shape[1]
    while len(waiting):
        free = np.where(occupied[prefix[waiting]], np.inf, distance)
        choice = free.argmin(axis=1)
        cost = free[np.arange(len(waiting)), choice]
        placed = np.zeros(len(waiting), dtype=bool)
        possible = np.flatnonzero(np.isfinite(cost))
        if len(possible):
            place = prefix[waiting[possible]] * size + choice[possible]
            placed[possible[_first_of_each(place, cost[possible])]] = True
        settled[waiting[placed]] = choice[placed]
        occupied[prefix[waiting[placed]], choice[placed]] = True
        going_on = np.isfinite(cost) & ~placed
        waiting, distance = waiting[going_on], distance[going_on]


def _settle(wanted: np.ndarray, rows: Tensor, book: Tensor, taken: np.ndarray) -> np.ndarray:
    """The last-level codes ``[I]`` of different items, as `spread_codes` gives them.

    Args:
        wanted: ``[I, L]`` nearest codes.
        rows: ``[I, d]`` input of the last level.
        book: ``[K, d]`` codes of the last level.
        taken: ``[P, L]`` codes that are occupied.
    """
    size, prefixes = len(book), np.concatenate([taken[:, :-1], wanted[:, :-1]])
    # A number of its own for a single-level quantiser's empty prefix.
    prefix, num_prefixes = _numbered(
        np.column_stack([np.zeros(len(prefixes), dtype=np.int64), prefixes])
    )
    taken_prefix, prefix = prefix[: len(taken)], prefix[len(taken) :]
    occupied = np.zeros((num_prefixes, size), dtype=bool)
    occupied[taken_prefix, taken[:, -1]] = True
    settled = wanted[:, -1].copy()
    cost = (rows - book[torch.from_numpy(settled)]).square().sum(dim=1).numpy()
    waiting = np.flatnonzero(~occupied[prefix, settled])
    winners = (
        waiting[_first_of_each(prefix[waiting] * size + settled[waiting], cost[waiting])]
        if len(waiting)
        else waiting
    )
    occupied[prefix[winners], settled[winners]] = True
    others = np.setdiff1d(np.arange(len(settled)), winners)
    distance = torch.cdist(
        rows[torch.from_numpy(others)], book, compute_mode="donot_use_mm_for_euclid_dist"
    ).numpy()
    _place_others(others, distance, prefix, occupied, settled)
    return settled


def spread_codes(
    codes: np.ndarray, residual: Tensor, codebook: Tensor, published: np.ndarray | None = None
) -> np.ndarray:
    """Move items that share all codes to the nearest last-level code that is free under their
    prefix.

    The nearest of the items that want a code gets it; the others try their next nearest free code.
    Items with equal residuals (the same text) stay together, because only their ids differ. If a
    prefix has more items than the last level has codes, the remaining items keep their nearest
    code. The result does not depend on the order of rows.

    Args:
        codes: ``[I, L]`` nearest codes (Eq. 3).
        residual: ``[I, d]`` input of the last level.
        codebook: ``[K, d]`` codes of the last level.
        published: ``[P, L]`` codes that are occupied and never change.

    Returns:
        ``[I, L]`` int64; only the last column may differ.
    """
    rows = residual.detach().cpu().double()
    book = codebook.detach().cpu().double()
    # Equal items are one, and rows are put into the order of their values.
    values = np.column_stack([codes.astype(np.float64), rows.numpy()])
    _, first, group = np.unique(values, axis=0, return_index=True, return_inverse=True)
    taken = np.zeros((0, codes.shape[1]), dtype=np.int64) if published is None else published
    settled = _settle(codes[first], rows[torch.from_numpy(first)], book, taken)
    result = codes.copy()
    result[:, -1] = settled[group.reshape(-1)]
    return result
