"""Sequences of different lengths: flat values and pointers, padded only for the rows of a batch.

A table whose one longest cell sets the width of all would take memory of rows x longest cell, and
so would every batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbole_genci.utils.static import is_static

#: Columns without a longer sequence are padded alike in every batch. That costs little, and a GPU
#: need not be waited for to learn the width.
NARROW = 16


class Ragged:
    """A column of sequences. It stands for the padded tensor ``[R, L]`` or ``[R, L, 2]``.

    ``column[rows]`` is padded with zeros behind each sequence: to the longest of these rows, or to
    the column's longest if that is at most ``NARROW``.

    Attributes:
        values: ``[T]`` entries of all sequences, or ``[T, 2]`` pairs of number and bucket.
        start, end: ``[R]`` first and one-past-last entry of each row.
        longest: number of entries of the longest row, of this column or of the one it is a part of.
    """

    def __init__(
        self, values: Tensor, start: Tensor, end: Tensor, longest: int | None = None
    ) -> None:
        self.values, self.start, self.end = values, start, end
        if longest is None:
            longest = int((end - start).max()) if len(start) else 0
        self.longest = longest

    @classmethod
    def of_lengths(cls, values: Tensor, lengths: Tensor, longest: int | None = None) -> Ragged:
        """Rows whose entries follow one another in ``values``; ``lengths`` ``[R]``."""
        end = lengths.long().cumsum(0)
        return cls(values, end - lengths, end, longest)

    @classmethod
    def of_rows(cls, rows: Sequence[np.ndarray], dtype: torch.dtype) -> Ragged:
        """Rows of numbers ``[n]``."""
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        values = torch.from_numpy(np.concatenate(rows)).to(dtype)
        return cls.of_lengths(values, torch.from_numpy(lengths))

    @classmethod
    def cat(cls, columns: Sequence[Ragged]) -> Ragged:
        """The rows of several columns, one after another."""
        compact = [column.compact() for column in columns]
        return cls.of_lengths(
            torch.cat([column.values for column in compact]),
            torch.cat([column.lengths for column in compact]),
            max(column.longest for column in columns),
        )

    @property
    def lengths(self) -> Tensor:
        """``[R]`` number of entries of each row."""
        return self.end - self.start

    @property
    def dtype(self) -> torch.dtype:
        """Type of the entries."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Where the entries are."""
        return self.values.device

    @property
    def shape(self) -> torch.Size:
        """Of the padded tensor that this column stands for."""
        return torch.Size([len(self), max(1, self.longest), *self.values.shape[1:]])

    def __len__(self) -> int:
        return len(self.start)

    def numel(self) -> int:
        """About how many numbers it takes."""
        return self.values.numel() + len(self)

    def element_size(self) -> int:
        """Bytes of a number."""
        return self.values.element_size()

    def __getitem__(self, index: Any) -> Tensor:
        """The sequences of some rows, padded: ``[*index, L]`` or ``[*index, L, 2]``."""
        return self.rows(index).padded()

    def rows(self, index: Any) -> Ragged:
        """Some rows, not padded. An index of several dimensions gives ``start`` of its shape."""
        return Ragged(self.values, self.start[index], self.end[index], self.longest)

    def index_select(self, dim: int, index: Tensor) -> Ragged:
        """As `rows`; ``dim`` is 0."""
        return self.rows(index)

    def padded(self) -> Tensor:
        """All rows, padded as the class says; to the column's longest if shapes must be static."""
        width = self.longest
        if width > NARROW and self.start.numel() and not is_static():
            width = int((self.end - self.start).max())
        place = self.start.unsqueeze(-1) + torch.arange(max(1, width), device=self.device)
        inside = place < self.end.unsqueeze(-1)
        if not len(self.values):
            return self.values.new_zeros(*place.shape, *self.values.shape[1:])
        values = self.values[place.clamp_(max=len(self.values) - 1)]
        mask = inside.view(*inside.shape, *[1] * (values.dim() - inside.dim()))
        return values.masked_fill_(~mask, 0)

    def tolist(self) -> list:
        """The rows of `padded` as lists."""
        return self.padded().tolist()

    def compact(self) -> Ragged:
        """The same rows, whose values stand in their order, and no others."""
        lengths = self.lengths
        first = (self.start - (lengths.cumsum(0) - lengths)).repeat_interleave(lengths)
        place = first + torch.arange(len(first), device=self.device)
        return Ragged.of_lengths(self.values[place], lengths, self.longest)

    def to(self, *args: Any, **options: Any) -> Ragged:
        """The column on a device."""
        values, start, end = (
            each.to(*args, **options) for each in (self.values, self.start, self.end)
        )
        return Ragged(values, start, end, self.longest)


class RaggedBuffer(nn.Module):
    """A `Ragged` column within a model: it moves with the model, and no file keeps it."""

    values: Tensor
    start: Tensor
    end: Tensor

    def __init__(self, column: Ragged) -> None:
        super().__init__()
        self.longest = column.longest
        for name in ("values", "start", "end"):
            self.register_buffer(name, getattr(column, name), persistent=False)

    def __getitem__(self, index: Any) -> Tensor:
        """As of the column."""
        return Ragged(self.values, self.start, self.end, self.longest)[index]
