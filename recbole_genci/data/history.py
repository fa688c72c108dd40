"""Histories: each row stores two pointers into one flat array of clicks in time order.

Memory grows with the number of interactions, not with rows x history length. The histories of a
batch are gathered by index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from recbole_genci.data.order import stable_order


@dataclass(frozen=True)
class History:
    """The items that may enter histories, by user and then by time.

    Attributes:
        items: ``[P]`` int32 item ids.
        negatives: ``[P]`` int32, another item for each entry, drawn uniformly, for DIEN's auxiliary
            loss.
        keys: ``[P]`` the sorted ``user * (T + 1) + time_rank`` of the entries.
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

        A history holds the user's last ``max_length`` entries with a time **strictly earlier** than
        the row's. A row therefore never sees itself, nor other rows of the same time.

        Args:
            users, ranks: ``[R]`` user id and exact time rank of the rows.
            max_length: the largest length of a history.

        Returns:
            start, end: ``[R]`` each; ``start == end`` is an empty history.
        """
        end = np.searchsorted(
            self.keys, users.astype(np.int64) * (self.num_ranks + 1) + ranks, side="left"
        )
        return np.maximum(self.first_clicks(users), end - max_length), end

    def first_clicks(self, users: np.ndarray) -> np.ndarray:
        """The first entry ``[R]`` of all that each of ``users`` ``[R]`` has, or would have."""
        num_users = int(users.max(initial=0)) + 1
        # Each user is looked up once: of a part's many rows, or of a request's few users.
        wanted = np.arange(num_users) if num_users < len(users) else users.astype(np.int64)
        first = np.searchsorted(self.keys, wanted * (self.num_ranks + 1), side="left")
        return first[users] if num_users < len(users) else first

    def num_tied(self) -> int:
        """How many entries share their time with another entry of their user."""
        same = self.keys[1:] == self.keys[:-1]
        groups = np.count_nonzero(same[1:] > same[:-1]) + np.count_nonzero(same[:1])
        return int(np.count_nonzero(same) + groups)

    def gather(
        self, start: torch.Tensor, end: torch.Tensor, width: int, negatives: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Gather the histories of a batch by their pointers.

        Args:
            start, end: ``[B]`` pointers.
            width: number of columns, at least the length of the longest history.
            negatives: whether to gather the negatives too.

        Returns:
            items ``[B, width]``, most recent last, padded with 0 on the right; length ``[B]``;
            negatives ``[B, width]`` or None.
        """
        start, end = start.long(), end.long()
        position = start.unsqueeze(1) + torch.arange(width, device=start.device)
        inside = position < end.unsqueeze(1)
        position = position.clamp_(max=max(len(self.items) - 1, 0))
        if len(self.items) == 0:
            empty = torch.zeros(len(start), width, dtype=torch.int64, device=start.device)
            return empty, end - start, empty if negatives else None
        drawn = self.negatives[position].long() * inside if negatives else None
        return self.items[position].long() * inside, end - start, drawn


@dataclass(frozen=True)
class HistoryPointers:
    """Where the histories of rows ``[R]``, or of users, are in one array of clicks.

    Attributes:
        history: the array.
        first: ``[R]`` the first of all clicks of each row's user.
        start, end: ``[R]`` the first and one-past-last click of each row's history.
    """

    history: History
    first: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @classmethod
    def before(
        cls, history: History, users: np.ndarray, ranks: np.ndarray, max_length: int
    ) -> HistoryPointers:
        """The pointers of rows ``[R]``, by their users and time ranks; see ``History.pointers``."""
        start, end = history.pointers(users, ranks, max_length)
        return cls(history=history, first=history.first_clicks(users), start=start, end=end)

    def of(self, place: np.ndarray | slice) -> HistoryPointers:
        """The pointers of the rows at ``place``."""
        return replace(self, first=self.first[place], start=self.start[place], end=self.end[place])


def clicks_read(clicks: torch.Tensor, cap: int, segment: int = 1) -> torch.Tensor:
    """How many of a row's earlier clicks are read: the last ``cap`` of them, or a few less.

    A user's clicks are counted off in segments of ``segment`` clicks. All rows whose last click is
    in one segment read from the same click on, so that their histories are prefixes of one
    sequence. It has at most ``cap`` clicks: a row with many earlier clicks reads ``cap - segment +
    1`` to ``cap`` of them, the more the later it comes in its segment.

    Args:
        clicks: ``[R]`` number of earlier clicks.
        cap: ``MAX_ITEM_LIST_LENGTH``, at least ``segment``.
        segment: 1 reads as many as ``cap`` allows.
    """
    return torch.minimum(clicks, cap - (-clicks) % segment)


def build_history(
    users: np.ndarray,
    items: np.ndarray,
    ranks: np.ndarray,
    num_items: int,
    num_ranks: int,
    seed: int,
) -> History:
    """Sort entries by user and time, and draw their negatives.

    Entries of equal time keep the order of the file.

    Args:
        users, items, ranks: ``[P]`` of the rows that may enter histories, in file order.
        num_items: item ids run from 1 to ``num_items - 1``.
        num_ranks: ranks run from 0 to ``num_ranks - 1``.
        seed: seed of the negatives, which depend only on it and on the entry's place, not on any
            global random state.
    """
    order = stable_order(users, ranks)
    keys = users[order].astype(np.int64) * (num_ranks + 1) + ranks[order]
    items = items[order].astype(np.int64)
    # Uniform over the other items: move 1 to num_items - 2 steps around the circle of ids 1 to
    # num_items - 1.
    real = num_items - 1
    step = np.random.default_rng(seed).integers(1, max(real, 2), size=len(items))
    negatives = (items - 1 + step) % max(real, 1) + 1
    narrow = [torch.from_numpy(column.astype(np.int32)) for column in (items, negatives)]
    return History(narrow[0], narrow[1], keys, num_ranks)


def rounding_of(times: np.ndarray) -> str | None:
    """What times ``[T]``, distinct and sorted, seem to be rounded to; None if to nothing.

    Times in minutes, hours or days since 1970, in any unit, have more digits than this finds.
    """
    if not len(times) or times[-1] < 1e8:
        return None
    seventh = 10.0 ** (math.floor(math.log10(times[-1])) - 6)  # the place of the seventh digit

    def found(times: np.ndarray) -> str | None:
        if not (times % seventh).any():
            return "7 digits"
        is_single = (times == times.astype(np.float32)).all()
        # Days, in any time zone, are numbers of float32 too, and a few times may be by chance.
        return "32 bits" if is_single and len(times) >= 10 and (times % 900).any() else None

    # Some times are enough to see that there is no rounding.
    return found(times[:: len(times) // 1000 + 1]) and found(times)


def earlier_times(known: np.ndarray, times: np.ndarray) -> np.ndarray:
    """How many of the times ``known``, distinct and sorted, are earlier than each of ``times``.

    Files of other kinds may round a fraction of a second to another last bit, so that a time counts
    as the known one that is as near as its ``rounding_error``.

    Args:
        times: ``[R]`` float64.
    """
    place = np.searchsorted(known, times, side="left")
    is_known = known.take(place, mode="clip") == times if len(known) else False
    is_exact = (times == np.floor(times)) | is_known
    rounded = times[~is_exact]
    place[~is_exact] = np.searchsorted(known, rounded - rounding_error(rounded))
    return place


def rounding_error(times: np.ndarray) -> np.ndarray:
    """By how much times ``[R]`` may differ that were written alike: 0 for whole numbers."""
    return np.where(times == np.floor(times), 0, 4 * np.spacing(np.abs(times)))


def time_ranks(times: np.ndarray) -> np.ndarray:
    """Dense ranks ``[R]`` int32 of exact times; equal times share a rank.

    RecBole keeps time in float32, in which today's seconds since 1970 have steps of 64 to 128 s, so
    that rows would change their order.
    """
    low = times.min(initial=0)
    if len(times) and (times == np.floor(times)).all() and times.max() - low < 2**38:
        whole = (times - low).astype(np.int64)
        order = stable_order(whole)
        sorted_times = whole[order]
        ranks = np.empty(len(times), dtype=np.int32)
        ranks[order] = np.cumsum(np.append(0, sorted_times[1:] != sorted_times[:-1]))
        return ranks
    return np.unique(times, return_inverse=True)[1].reshape(-1).astype(np.int32)
