"""A batch: some rows of a part, whose columns are looked up on the device that reads them.

What rows are made of does not change while a model trains, so a device keeps it: the rows' own
columns, the features of users and items, the clicks of all histories. A batch brings a few numbers
a row in one copy: which rows it has, and where the histories are that they read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, overload

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from recbole_genci.data.batch_histories import (
    BatchHistories,
    HistoryPart,
    histories_of,
    history_columns,
)
from recbole_genci.data.column_names import OWN_COLUMNS
from recbole_genci.data.history import History
from recbole_genci.data.table import Column, Table
from recbole_genci.model.batch_columns import (
    HISTORY_LENGTH,
    HISTORY_SEGMENT,
    SEGMENT_LENGTH,
    SEGMENTS,
)
from recbole_genci.utils.ragged import Ragged
from recbole_genci.utils.static import static_shapes

# Columns that do not have an entry for each row.
_APART = (HISTORY_SEGMENT, HISTORY_LENGTH, SEGMENTS, SEGMENT_LENGTH)
# A GPU keeps what its rows are made of up to this size; what is larger is copied batch by batch.
_MOST_RESIDENT = 4 * 2**30


class Part(HistoryPart, Protocol):
    """What a batch asks of a ``CTRDataset``."""

    user_feat: Any
    item_feat: Any
    uid_field: str | None
    history: History
    semantic_ids: Tensor | None


class Batch(Table):
    """Rows of which all columns are there. A selection of the rows keeps the histories of all."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.interaction: dict[str, Any] = dict(columns)  # tensors: sequences are padded
        self.length = max((len(v) for k, v in columns.items() if k not in _APART), default=-1)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            return self.interaction[index]
        apart = {name: self.interaction[name] for name in _APART if name in self.interaction}
        rows = {name: each for name, each in self.interaction.items() if name not in apart}
        return Batch(Table(rows)[index].interaction | apart)

    def to(self, device: Any, selected_field: str | Iterable[str] | None = None) -> Batch:
        """The batch with its columns, or ``selected_field`` of them, on a device."""
        return Batch(super().to(device, selected_field).interaction)


class _Numbers(NamedTuple):
    """Which rows ``[B]`` a batch has, and where the histories are that they read."""

    rows: Tensor
    histories: BatchHistories

    @property
    def tensors(self) -> list[Tensor]:
        """All numbers, in tensors of one dimension."""
        return [self.rows, *self.histories.tensors]

    def to(self, device: torch.device) -> _Numbers:
        """The numbers on a device, in one copy that the host does not wait for."""
        tensors = self.tensors
        packed = torch.cat([each.to(torch.int32) for each in tensors])
        if device.type == "cuda":
            packed = packed.pin_memory()
        moved = packed.to(device, non_blocking=True).long()
        rows, *others = moved.split([len(each) for each in tensors])
        return _Numbers(rows, self.histories.with_tensors(others))


class RowBatch(Batch):
    """Rows of a part by their numbers ``[B]``; columns are looked up once somebody reads them."""

    def __init__(self, part: Part, rows: Tensor, with_features: bool = True) -> None:
        self._part, self._with_features, self.length = part, with_features, len(rows)
        self._numbers = _Numbers(rows, histories_of(part, rows))
        self._columns: dict[str, Tensor] | None = None
        # Columns that were read before all were looked up; whoever has one may have changed it.
        self._read: dict[str, Tensor] = {}

    @property
    def interaction(self) -> dict[str, Tensor]:  # type: ignore[override]
        """All columns, in the host's memory."""
        if self._columns is None:
            self._columns = self._looked_up(torch.device("cpu")) | self._read
        return self._columns

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self.interaction:
            raise AttributeError(f"This batch has no column '{name}'.")
        return self.interaction[name]

    def __getitem__(self, index: Any) -> Any:
        own = self._part.inter_feat.interaction
        if self._columns is not None:
            return super().__getitem__(index)
        rows = self._numbers.rows
        if not isinstance(index, str):
            rows = rows[index if isinstance(index, slice) else torch.as_tensor(index)]
            return RowBatch(self._part, rows, self._with_features)
        if index not in own or index in OWN_COLUMNS:
            return self.interaction[index]
        if index not in self._read:
            self._read |= _rows_of({index: own[index]}, rows)
        return self._read[index]

    def __reduce__(self) -> tuple:  # a loader's worker sends columns, not the whole part
        return Batch, (self.interaction,)

    def to(self, device: Any, selected_field: str | Iterable[str] | None = None) -> Batch:
        """As `Batch.to`; another device looks the columns up in its own memory."""
        device = torch.device(device)
        if device.type == "cpu" or selected_field is not None or self._columns is not None:
            return super().to(device, selected_field)
        if Tables.of(self._part).bytes > _MOST_RESIDENT:
            return super().to(device)
        read = {name: column.to(device) for name, column in self._read.items()}
        return Batch(self._looked_up(device) | read)

    def _looked_up(self, device: torch.device) -> dict[str, Tensor]:
        numbers = self._numbers if device.type == "cpu" else self._numbers.to(device)
        tables = Tables.of(self._part)
        tables = tables if device.type == "cpu" else tables.to(device)
        # Then sequences are as wide as the longest of all rows, not of these.
        with static_shapes() if self._part.few_shapes else nullcontext():
            return self._columns_of(tables, numbers)

    def _columns_of(self, tables: Tables, numbers: _Numbers) -> dict[str, Tensor]:
        columns = _rows_of(tables.rows, numbers.rows)
        if self._with_features:
            for table, field in (
                (tables.users, self._part.uid_field),
                (tables.items, self._part.iid_field),
            ):
                if table and field is not None:
                    columns |= _rows_of(table, columns[field])
        if tables.history is None:
            return columns
        items = self._part.iid_field
        assert items is not None  # no model reads histories of rows without items
        return columns | history_columns(
            self._part, numbers.histories, tables.history, tables.codes, columns[items]
        )


@dataclass(frozen=True)
class Tables:
    """What the rows of a part are made of, on one device.

    Attributes:
        rows, users, items: columns by name, of the part's rows, of all users, of all items.
        history: the clicks of all histories.
        codes: semantic IDs ``[num_items, N]``, if batches get them.
    """

    rows: dict[str, Column]
    users: dict[str, Column]
    items: dict[str, Column]
    history: History | None
    codes: Tensor | None

    @classmethod
    def of(cls, part: Part) -> Tables:
        """The tables of a part, in the host's memory, without copies."""
        rows = {k: v for k, v in part.inter_feat.interaction.items() if k not in OWN_COLUMNS}
        users, items = (
            {} if feat is None else feat.interaction for feat in (part.user_feat, part.item_feat)
        )
        history = part.history if part.attached else None
        codes = part.semantic_ids if part.attached.codes else None
        return cls(rows, users, items, history, codes)

    def to(self, device: torch.device) -> Tables:
        """The same on a device, which keeps it (`resident`)."""
        rows, users, items = (
            {name: resident(column, device) for name, column in table.items()}
            for table in (self.rows, self.users, self.items)
        )
        history = self.history
        if history is not None:
            history = replace(
                history,
                items=resident(history.items, device),
                negatives=resident(history.negatives, device),
            )
        codes = None if self.codes is None else resident(self.codes, device)
        return Tables(rows, users, items, history, codes)

    @property
    def bytes(self) -> int:
        """How much memory they take."""
        columns = [*self.rows.values(), *self.users.values(), *self.items.values()]
        if self.history is not None:
            columns += [self.history.items, self.history.negatives]
        if self.codes is not None:
            columns.append(self.codes)
        return sum(column.numel() * column.element_size() for column in columns)


# For each device: what a tensor of the host was when it was copied, and the copy.
_kept: dict[torch.device, WeakTensorKeyDictionary] = {}


@overload
def resident(column: Tensor, device: torch.device) -> Tensor: ...
@overload
def resident(column: Column, device: torch.device) -> Column: ...
def resident(column: Column, device: torch.device) -> Column:
    """A column on a device, copied once while the host has it and does not change it."""
    if isinstance(column, Ragged):
        values, start, end = (
            resident(each, device) for each in (column.values, column.start, column.end)
        )
        return Ragged(values, start, end, column.longest)
    if column.device == device or column.is_inference():  # of which changes are not counted
        return column.to(device)
    kept = _kept.setdefault(device, WeakTensorKeyDictionary())
    version, copy = kept.get(column, (None, None))
    if version != column._version:
        copy = column.to(device)
        kept[column] = column._version, copy
    return copy


def _rows_of(table: Mapping[str, Column], rows: Tensor) -> dict[str, Tensor]:
    return {
        name: column[rows] if isinstance(column, Ragged) else column.index_select(0, rows)
        for name, column in table.items()
    }
