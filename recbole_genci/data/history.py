"""Who clicked what before: every row's history as two pointers into one flat, time-ordered array.

Memory grows with the number of interactions, never with rows x history length; a batch's histories
are gathered by index.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class History:
    """The items that may enter histories, by user and then by time.

    Attributes:
        items: ``[P]`` item ids.
        negatives: ``[P]`` for each entry a uniformly drawn other item, for DIEN's auxiliary loss.
        keys: ``[P]`` sorted ``user * (T + 1) + time_rank`` of each entry.
        num_ranks: T, the number of distinct time ranks.
    """

    items: torch.Tensor
    negatives: torch.Tensor
    keys: np.ndarray
    num_ranks: int

    def pointers(
        self, users: np.ndarray, ranks: np.ndarray, max_length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """First and one-past-last entry of each row's history.

        A history holds the user's entries with a time **strictly earlier** than the row's, the last
        ``max_length`` of them: rows of one instant never see each other, nor themselves.

        Args:
            users, ranks: ``[R]`` user id and exact time rank of the rows.

        Returns:
            start, end: ``[R]`` each; ``start == end`` is an empty history.
        """
        first_of_user = np.searchsorted(self.keys, users * (self.num_ranks + 1), side="left")
        end = np.searchsorted(self.keys, users * (self.num_ranks + 1) + ranks, side="left")
        return np.maximum(first_of_user, end - max_length), end

    def gather(
        self, start: torch.Tensor, end: torch.Tensor, width: int, negatives: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Fetch histories by pointer.

        Args:
            start, end: ``[B]`` pointers.
            width: number of columns; at least the longest history.
            negatives: also fetch the negatives.

        Returns:
            items ``[B, width]``, most recent last, right-padded with 0; length ``[B]``; negatives
            ``[B, width]`` or None.
        """
        position = start.unsqueeze(1) + torch.arange(width)
        inside = position < end.unsqueeze(1)
        position = position.clamp_(max=max(len(self.items) - 1, 0))
        if len(self.items) == 0:
            empty = torch.zeros(len(start), width, dtype=torch.int64)
            return empty, end - start, empty if negatives else None
        drawn = self.negatives[position] * inside if negatives else None
        return self.items[position] * inside, end - start, drawn


def build_history(
    users: np.ndarray,
    items: np.ndarray,
    ranks: np.ndarray,
    num_items: int,
    num_ranks: int,
    seed: int,
) -> History:
    """Order entries by user, then time (entries of one instant in file order), and draw their
    negatives.

    Args:
        users, items, ranks: ``[P]`` of the rows that may enter histories, in file order.
        num_items: item ids run from 1 to ``num_items - 1``.
        num_ranks: ranks run from 0 to ``num_ranks - 1``.
        seed: of the negatives; they depend on it and on the entry's place alone, not on any global
            random state.
    """
    keys = users.astype(np.int64) * (num_ranks + 1) + ranks
    order = np.argsort(keys, kind="stable")
    items = items[order].astype(np.int64)
    # Uniform over the other real items: step 1 .. num_items - 2 places round the circle 1 ..
    # num_items - 1.
    real = num_items - 1
    step = np.random.default_rng(seed).integers(1, max(real, 2), size=len(items))
    negatives = (items - 1 + step) % max(real, 1) + 1
    return History(torch.from_numpy(items), torch.from_numpy(negatives), keys[order], num_ranks)


def time_ranks(times: np.ndarray) -> np.ndarray:
    """Dense ranks ``[R]`` int64 of exact times; equal times share a rank.

    RecBole keeps time in float32, where seconds since 1970 come in steps of 64 to 128 s: rows
        change their order.
    """
    return np.unique(times, return_inverse=True)[1].reshape(-1).astype(np.int64)
