"""Tables whose columns may be sequences of different lengths, where RecBole pads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_genci.utils.ragged import Ragged

Column = Tensor | Ragged


class Table(Interaction):
    """Features of users or items, or rows, with columns that are tensors or `Ragged`.

    A selection of rows is a table too. Only a batch is padded.
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        # RecBole's takes tensors only (interaction.py:97).
        self.interaction = dict(columns)
        self.length = max(map(len, columns.values()), default=-1)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            return self.interaction[index]
        if isinstance(index, (list, np.ndarray)):
            index = torch.from_numpy(np.asarray(index, dtype=np.int64))
        return Table({name: rows_of(each, index) for name, each in self.interaction.items()})

    def to(self, device: Any, selected_field: str | Iterable[str] | None = None) -> Table:
        """The table with its columns, or ``selected_field`` of them, on a device."""
        chosen = [selected_field] if isinstance(selected_field, str) else selected_field
        return Table(
            {
                name: column.to(device) if chosen is None or name in chosen else column
                for name, column in self.interaction.items()
            }
        )

    def cpu(self) -> Table:
        """The table in the host's memory."""
        return self.to("cpu")


def rows_of(column: Column, index: Any) -> Column:
    """Some rows of a column, not padded."""
    return column.rows(index) if isinstance(column, Ragged) else column[index]


def joined(columns: Iterable[Column]) -> Column:
    """The rows of several columns of one kind, one after another."""
    columns = list(columns)
    ragged = [column for column in columns if isinstance(column, Ragged)]
    if ragged:
        return Ragged.cat(ragged)
    return torch.cat([column for column in columns if isinstance(column, Tensor)])


def adjacent(tensors: Sequence[Column]) -> Tensor | None:
    """Tensors as one, without a copy, if each begins in memory where the one before ends."""
    first, rows = tensors[0], 0
    if isinstance(first, Ragged):
        return None
    place = first.data_ptr()
    memory = first.untyped_storage().data_ptr()
    for each in tensors:
        assert isinstance(each, Tensor)  # columns of one kind
        same = each.dtype == first.dtype and each.untyped_storage().data_ptr() == memory
        if not (same and each.is_contiguous() and each.data_ptr() == place):
            return None
        rows, place = rows + len(each), place + each.numel() * each.element_size()
    return first.as_strided((rows, *first.shape[1:]), first.stride())
