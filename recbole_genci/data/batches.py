"""A batch: some rows of a part, whose columns are looked up on the device that reads them.

What rows are made of does not change while a model trains, so a device keeps it: the rows' own
columns, the features of users and items, the clicks of all histories. A batch brings a few numbers
a row in one copy: which rows it has, and where the histories are that they read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from recbole_genci.data.column_names import (
    HISTORY_END,
    HISTORY_FIRST,
    HISTORY_START,
    OWN_COLUMNS,
)
from recbole_genci.data.history import History, clicks_read
from recbole_genci.data.table import Column, Table
from recbole_genci.model.batch_columns import (
    HISTORY_INDEX,
    HISTORY_LENGTH,
    HISTORY_NUMBER,
    HISTORY_SEGMENT,
    HISTORY_SEMANTIC_IDS,
    SEGMENT_LENGTH,
    SEGMENTS,
    SEMANTIC_IDS,
)
from recbole_genci.utils.ragged import Ragged
from recbole_genci.utils.static import static_shapes

# Columns that do not have an entry for each row.
_APART = (HISTORY_SEGMENT, HISTORY_LENGTH, SEGMENTS, SEGMENT_LENGTH)
# A GPU keeps what its rows are made of up to this size; what is larger is copied batch by batch.
_MOST_RESIDENT = 4 * 2**30
# Where batches have few shapes, they have a multiple of so many distinct histories.
_HISTORIES = 128
_ROWS, _START, _END, _SEGMENT_START, _LIST = "rows", "start", "end", "segment start", "list"


class Part(Protocol):
    """What a batch asks of a ``CTRDataset``.

    Attributes:
        attached: which history columns batches get: ``history``, ``negatives``, ``codes`` beside
            the rows, or ``distinct``.
        least_width: least number of columns of a padded history.
        segment_clicks: clicks of a segment (``data.history.clicks_read``); 1: each distinct history
            is read by itself.
        few_shapes: whether distinct histories are padded, so that batches have few shapes.
    """

    inter_feat: Any
    user_feat: Any
    item_feat: Any
    uid_field: str | None
    iid_field: str | None
    config: Any
    history: History
    semantic_ids: Tensor | None
    attached: frozenset[str]
    least_width: int
    segment_clicks: int
    few_shapes: bool


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


class RowBatch(Batch):
    """Rows of a part by their numbers ``[B]``; columns are looked up once somebody reads them."""

    def __init__(self, part: Part, rows: Tensor, with_features: bool = True) -> None:
        self._part, self._with_features, self.length = part, with_features, len(rows)
        self._numbers, self._widths = _numbers(part, rows)
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
        rows = self._numbers[_ROWS]
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
        numbers = self._numbers if device.type == "cpu" else _moved(self._numbers, device)
        tables = Tables.of(self._part)
        tables = tables if device.type == "cpu" else tables.to(device)
        # Then sequences are as wide as the longest of all rows, not of these.
        with static_shapes() if self._part.few_shapes else nullcontext():
            return self._columns_of(tables, numbers)

    def _columns_of(self, tables: Tables, numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        columns = _rows_of(tables.rows, numbers[_ROWS])
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
        return columns | _history_columns(self._part, tables, numbers, self._widths, columns[items])


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
        reads = part.attached
        history = part.history if reads else None
        return cls(rows, users, items, history, part.semantic_ids if "codes" in reads else None)

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


def clicked_items(batch: Table, list_name: str) -> Tensor:
    """Item ids ``[B, H]`` of each row's history, 0 behind it, of a batch that has histories.

    Args:
        list_name: name of the column of padded histories, which some models get.
    """
    if list_name in batch:
        return batch[list_name]
    segment, length = batch[HISTORY_SEGMENT], batch[HISTORY_LENGTH]
    items = batch[SEGMENTS][segment]
    inside = torch.arange(items.shape[1], device=items.device) < length.unsqueeze(1)
    return (items * inside)[batch[HISTORY_INDEX]]


def _rows_of(table: Mapping[str, Column], rows: Tensor) -> dict[str, Tensor]:
    return {
        name: column[rows] if isinstance(column, Ragged) else column.index_select(0, rows)
        for name, column in table.items()
    }


def _moved(numbers: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The numbers on a device, in one copy that the host does not wait for."""
    packed = torch.cat([each.to(torch.int32) for each in numbers.values()])
    if device.type == "cuda":
        packed = packed.pin_memory()
    sizes = [len(each) for each in numbers.values()]
    moved = packed.to(device, non_blocking=True).long()
    return dict(zip(numbers, moved.split(sizes), strict=True))


# ---------------------------------------------------------------- histories


def _numbers(part: Part, rows: Tensor) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Numbers ``[B]`` of the rows, where their histories are, and how wide columns of these are."""
    numbers = {_ROWS: rows}
    if not part.attached:
        return numbers, {}
    start, end = (
        part.inter_feat[name].index_select(0, rows).long() for name in (HISTORY_START, HISTORY_END)
    )
    if part.segment_clicks > 1:
        first = part.inter_feat[HISTORY_FIRST].index_select(0, rows).long()
        cap = part.config["MAX_ITEM_LIST_LENGTH"]
        start = end - clicks_read(end - first, cap, part.segment_clicks)
    widths = {}
    if "history" in part.attached:
        numbers |= {_START: start, _END: end}
        longest = int((end - start).max()) if len(rows) else 0
        widths[_LIST] = max(part.least_width, longest) if len(rows) else 0
    if "distinct" in part.attached:
        found = _distinct(start.numpy(), end.numpy(), part.segment_clicks > 1)
        widths[SEGMENTS] = int(found[SEGMENT_LENGTH].max()) if len(rows) else 0
        if part.few_shapes and len(rows):
            found, widths[SEGMENTS] = _padded(found), part.least_width
        numbers |= found
    return numbers, widths


def _distinct(start: np.ndarray, end: np.ndarray, shared: bool) -> dict[str, Tensor]:
    """The distinct histories of rows ``[B]``, and the segments of clicks that hold them.

    Histories and segments are sorted by length, because an encoder batches those of one length.

    Args:
        shared: whether histories with the same first click are prefixes of one segment; else each
            history is a segment.
    """
    length = end - start
    # The end of a history identifies it; all empty histories are the same.
    key = np.where(length > 0, (length << 32) + end, -1)
    _, row, index = np.unique(key, return_index=True, return_inverse=True)
    start, length = start[row], length[row]
    segment, begin, longest = np.arange(len(row)), start, length
    if shared:
        begin, segment = np.unique(np.where(length > 0, start, -1), return_inverse=True)
        longest = np.zeros(len(begin), dtype=np.int64)
        longest[segment] = length  # sorted, so that the last one, the longest, stays
        order = np.argsort(longest, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        segment, begin, longest = place[segment], begin[order], longest[order]
    found = {
        HISTORY_INDEX: index,
        HISTORY_SEGMENT: segment,
        HISTORY_LENGTH: length,
        _SEGMENT_START: np.maximum(begin, 0),
        SEGMENT_LENGTH: longest,
    }
    return {name: torch.from_numpy(each.reshape(-1)) for name, each in found.items()}


def _padded(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ``_distinct`` has found, filled up with empty histories that no row has."""
    padded = {
        name: F.pad(each, (0, -len(each) % _HISTORIES))
        for name, each in found.items()
        if name != HISTORY_INDEX
    }
    return {HISTORY_INDEX: found[HISTORY_INDEX], **padded}


def _history_columns(
    part: Part,
    tables: Tables,
    numbers: Mapping[str, Tensor],
    widths: Mapping[str, int],
    items: Tensor,
) -> dict[str, Tensor]:
    """The history columns of a batch, whose names and shapes ``ModelContract`` gives.

    Args:
        items: ``[B]`` the rows' items.
    """
    history = tables.history
    columns: dict[str, Tensor] = {}
    if history is None:
        return columns
    if _START in numbers:
        start, end = numbers[_START], numbers[_END]
        name = f"{part.iid_field}{part.config['LIST_SUFFIX']}"
        length_name = part.config["ITEM_LIST_LENGTH_FIELD"]
        columns[name], length, negatives = history.gather(
            start, end, widths[_LIST], "negatives" in part.attached
        )
        columns[length_name] = length
        if negatives is not None:
            columns[part.config["NEG_PREFIX"] + name] = negatives
            # DIEN packs sequences, which must not have length 0 (dien.py:212). With length 1 the
            # position that it reads is padding.
            columns[length_name] = length.clamp(min=1)
        if tables.codes is not None:
            columns[SEMANTIC_IDS] = tables.codes[items]
            columns[HISTORY_SEMANTIC_IDS] = tables.codes[columns[name]]
            number = length * (len(history.items) + 1) + end
            columns[HISTORY_NUMBER] = torch.where(length > 0, number, -1)
    if HISTORY_INDEX in numbers:
        start, length = numbers[_SEGMENT_START], numbers[SEGMENT_LENGTH]
        columns[SEGMENTS] = history.gather(start, start + length, widths[SEGMENTS])[0]
        columns |= {
            name: numbers[name]
            for name in (HISTORY_INDEX, HISTORY_SEGMENT, HISTORY_LENGTH, SEGMENT_LENGTH)
        }
    return columns
