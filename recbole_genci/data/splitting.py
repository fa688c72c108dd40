"""Exact order in time, and the parts for training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch

from recbole_genci.data.column_names import (
    ROW_NUMBER,
    TIME_RANK,
)
from recbole_genci.data.filtering import FilteredDataset
from recbole_genci.data.history import time_ranks
from recbole_genci.data.loaded_columns import check_scaled
from recbole_genci.data.order import cut_groups, stable_order
from recbole_genci.data.table import Column, Table, rows_of
from recbole_genci.utils.atomic_files.reading import MOST_ROWS


class OrderedDataset(FilteredDataset):
    """A dataset that orders its rows by exact times, and cuts them without a loop over rows.

    Attributes:
        num_time_ranks: T, the number of distinct times; 1 for rows without a time.
        rank_times: ``[T]`` float64, the exact time of each rank; None for rows without a time.
    """

    rank_times: np.ndarray | None

    def _normalize(self) -> None:
        check_scaled(self)
        if len(self.inter_feat) > MOST_ROWS:  # of several files, benchmark_filename
            raise ValueError(
                f"dataset {self.dataset_name}: its files have {len(self.inter_feat):,} rows "
                f"together, and one run takes {MOST_ROWS:,} (row numbers have 32 bits). Give a "
                "part of them."
            )
        # Time is still exact here; normalising and float32 come next.
        if self.time_field is None:
            self._time_rank = np.zeros(len(self.inter_feat), dtype=np.int32)
            self.num_time_ranks, self.rank_times = 1, None
        else:
            times = self.inter_feat[self.time_field].to_numpy()
            self._time_rank = time_ranks(times)
            self.num_time_ranks = int(self._time_rank.max()) + 1
            self.rank_times = np.empty(self.num_time_ranks)
            self.rank_times[self._time_rank] = times
        super()._normalize()

    def _change_feat_format(self) -> None:
        super()._change_feat_format()
        self.inter_feat = _Rows(self.inter_feat.interaction)
        self.inter_feat[TIME_RANK] = torch.from_numpy(self._time_rank)
        self.inter_feat[ROW_NUMBER] = torch.arange(len(self._time_rank), dtype=torch.int32)
        del self._time_rank
        self._cells = {}

    def sort(self, by: str | Sequence[str], ascending: bool | Sequence[bool] = True) -> None:
        if by == self.time_field and ascending is True:
            ranks = self.inter_feat[TIME_RANK].numpy()
            self.inter_feat._reindex(torch.from_numpy(stable_order(ranks)))
        else:
            super().sort(TIME_RANK if by == self.time_field else by, ascending)

    def shuffle(self) -> None:
        # RecBole draws from the global generator (interaction.py:303), so that any other draw would
        # change the split.
        generator = torch.Generator().manual_seed(self.config["data_seed"])
        self.inter_feat._reindex(torch.randperm(len(self.inter_feat), generator=generator))

    def time_based_split(self, ratios: Sequence[float], group_by: str | None) -> list[Self]:
        # A percentile picks the same rows by rank as by time, and ranks are exact.
        field, self.time_field = self.time_field, TIME_RANK
        try:
            parts = super().time_based_split(ratios, group_by)
        finally:
            self.time_field = field
        for part in parts:
            part.time_field = field
        return parts

    def _grouped_index(self, group_by_list: np.ndarray) -> list[np.ndarray]:
        """Row numbers of each group, in the order of first appearance.

        The same as RecBole's loop (dataset.py:1591), but vectorised.
        """
        numbers, _ = pd.factorize(group_by_list)
        return np.split(stable_order(numbers), np.cumsum(np.bincount(numbers))[:-1])

    # RecBole collects the rows of each part in Python lists (dataset.py:1642, 1680). A time-based
    # split (TS) still does.

    def split_by_ratio(self, ratios: Sequence[float], group_by: str | None = None) -> list[Self]:
        shares = [ratio / sum(ratios) for ratio in ratios]

        def starts(size: int) -> list[int]:
            return self._calcu_split_ids(tot=size, ratios=shares)

        if group_by is None:
            bounds = [0, *starts(len(self)), len(self)]
            return self._cut(None, [int(size) for size in np.diff(bounds)])
        return self._cut(*cut_groups(self.inter_feat[group_by].numpy(), starts))

    def leave_one_out(self, group_by: str | None, leave_one_mode: str) -> list[Self]:
        # `Config` accepts this mode alone. A group's last row is for the test, the one before for
        # validation, but the first always for training.
        assert group_by is not None and leave_one_mode == "valid_and_test"

        def starts(size: int) -> tuple[int, int]:
            return max(size - 2, 1), max(size - 1, 1)

        return self._cut(*cut_groups(self.inter_feat[group_by].numpy(), starts))

    def _cut(self, order: np.ndarray | None, sizes: Sequence[int]) -> list[Self]:
        """Bring the rows into ``order``, and make parts of so many rows, which share memory."""
        if order is not None:
            self.inter_feat._reindex(torch.from_numpy(order))
        self._drop_unused_col()
        columns = self.inter_feat.settled()
        ends = np.cumsum(sizes)
        return [
            self.copy(Table({name: rows_of(c, slice(start, end)) for name, c in columns.items()}))
            for start, end in zip(ends - sizes, ends)
        ]


class _Rows(Table):
    """Rows that change their order only when they are read, all columns by one index.

    RecBole moves every column at each step, and turns a split's list of rows into a tensor again
    for every column (interaction.py:137), which takes most of the time of building a dataset.
    """

    def __init__(self, columns: dict[str, Column]) -> None:
        self._order: torch.Tensor | None = None
        super().__init__(columns)

    def _reindex(self, index: Any) -> None:
        index = torch.as_tensor(index)
        self._order = index if self._order is None else self._order.index_select(0, index)

    def settled(self) -> dict[str, Column]:
        """All columns in their order, each moved once."""
        order, self._order = self._order, None
        if order is not None:
            for name in list(self.interaction):
                self.interaction[name] = self.interaction[name].index_select(0, order)
        return self.interaction

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            column = self.interaction[index]
            return column if self._order is None else column.index_select(0, self._order)
        self.settled()
        return super().__getitem__(index)

    def __setitem__(self, key: str, value: torch.Tensor) -> None:
        self.settled()
        super().__setitem__(key, value)
