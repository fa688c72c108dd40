"""The histories of a batch's rows: where they are in a part's clicks, and the columns of them.

Each row has its history in padded columns, or the batch has each distinct history once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_genci.data.column_names import HISTORY_END, HISTORY_FIRST, HISTORY_START
from recbole_genci.data.history import History, clicks_read
from recbole_genci.data.table import Table
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

# Where batches have few shapes, they have a multiple of so many distinct histories.
_HISTORIES = 128


@dataclass(frozen=True)
class Attached:
    """Which history columns batches get, as ``ModelContract`` gives them; none is false.

    Attributes:
        history: each row's padded history and its length.
        negatives: an item that was not clicked for each of a padded history.
        codes: semantic IDs of the rows' items and of their padded histories.
        distinct: each distinct history once.
    """

    history: bool = False
    negatives: bool = False
    codes: bool = False
    distinct: bool = False

    def __bool__(self) -> bool:
        return self.history or self.negatives or self.codes or self.distinct


class HistoryPart(Protocol):
    """What the histories of a batch ask of a ``CTRDataset``.

    Attributes:
        least_width: least number of columns of a padded history.
        segment_clicks: clicks of a segment (``data.history.clicks_read``); 1: each distinct history
            is read by itself.
        few_shapes: whether distinct histories are padded, so that batches have few shapes.
    """

    inter_feat: Any
    iid_field: str | None
    config: Any
    attached: Attached
    least_width: int
    segment_clicks: int
    few_shapes: bool


class PaddedHistories(NamedTuple):
    """Pointers ``[B]`` to the rows' histories, each of which becomes a row of padded columns."""

    start: Tensor
    end: Tensor


class DistinctHistories(NamedTuple):
    """The distinct histories of rows ``[B]``, and the segments of clicks that hold them.

    Attributes:
        of_row: ``[B]`` which history each row has.
        segment: ``[U]`` the segment of which each history is the beginning.
        length: ``[U]`` clicks of each history.
        segment_start: ``[G]`` pointers to the first clicks of segments.
        segment_length: ``[G]`` clicks of each segment.
    """

    of_row: Tensor
    segment: Tensor
    length: Tensor
    segment_start: Tensor
    segment_length: Tensor


class BatchHistories(NamedTuple):
    """Where the histories of a batch's rows are.

    Attributes:
        padded, distinct: None for a form that the model does not read.
        padded_width, segment_width: how wide columns of padded histories and of segments are.
    """

    padded: PaddedHistories | None = None
    distinct: DistinctHistories | None = None
    padded_width: int = 0
    segment_width: int = 0

    @property
    def tensors(self) -> list[Tensor]:
        """All numbers, in tensors of one dimension."""
        return [*(self.padded or ()), *(self.distinct or ())]

    def with_tensors(self, tensors: Sequence[Tensor]) -> BatchHistories:
        """The same histories by ``tensors``, such as those on another device."""
        size = len(self.padded or ())
        return self._replace(
            padded=PaddedHistories(*tensors[:size]) if self.padded is not None else None,
            distinct=DistinctHistories(*tensors[size:]) if self.distinct is not None else None,
        )


def histories_of(part: HistoryPart, rows: Tensor) -> BatchHistories:
    """Where the histories of the rows ``[B]`` of a part are, as its model reads them."""
    attached = part.attached
    if not attached:
        return BatchHistories()
    start, end = (
        part.inter_feat[name].index_select(0, rows).long() for name in (HISTORY_START, HISTORY_END)
    )
    if part.segment_clicks > 1:
        first = part.inter_feat[HISTORY_FIRST].index_select(0, rows).long()
        cap = part.config["MAX_ITEM_LIST_LENGTH"]
        start = end - clicks_read(end - first, cap, part.segment_clicks)
    padded, distinct, padded_width, segment_width = None, None, 0, 0
    if attached.history:
        padded = PaddedHistories(start, end)
        padded_width = max(part.least_width, int((end - start).max())) if len(rows) else 0
    if attached.distinct:
        distinct = _distinct(start.numpy(), end.numpy(), part.segment_clicks > 1)
        segment_width = int(distinct.segment_length.max()) if len(rows) else 0
        if part.few_shapes and len(rows):
            distinct, segment_width = _filled_up(distinct), part.least_width
    return BatchHistories(padded, distinct, padded_width, segment_width)


def _distinct(start: np.ndarray, end: np.ndarray, shared: bool) -> DistinctHistories:
    """The distinct histories of rows ``[B]``, by pointers to them.

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
    found = (index, segment, length, np.maximum(begin, 0), longest)
    return DistinctHistories(*(torch.from_numpy(each.reshape(-1)) for each in found))


def _filled_up(found: DistinctHistories) -> DistinctHistories:
    """What ``_distinct`` has found, filled up with empty histories that no row has."""
    of_row, *others = found
    return DistinctHistories(
        of_row, *(F.pad(each, (0, -len(each) % _HISTORIES)) for each in others)
    )


def history_columns(
    part: HistoryPart,
    histories: BatchHistories,
    history: History,
    codes: Tensor | None,
    items: Tensor,
) -> dict[str, Tensor]:
    """The history columns of a batch, whose names and shapes ``ModelContract`` gives.

    Args:
        histories: where they are in ``history``.
        history: the clicks of all histories, on the device of the columns.
        codes: semantic IDs ``[num_items, N]``, if batches get them.
        items: ``[B]`` the rows' items.
    """
    columns: dict[str, Tensor] = {}
    padded, distinct = histories.padded, histories.distinct
    if padded is not None:
        name = f"{part.iid_field}{part.config['LIST_SUFFIX']}"
        length_name = part.config["ITEM_LIST_LENGTH_FIELD"]
        columns[name], length, negatives = history.gather(
            padded.start, padded.end, histories.padded_width, part.attached.negatives
        )
        columns[length_name] = length
        if negatives is not None:
            columns[part.config["NEG_PREFIX"] + name] = negatives
            # DIEN packs sequences, which must not have length 0 (dien.py:212). With length 1 the
            # position that it reads is padding.
            columns[length_name] = length.clamp(min=1)
        if codes is not None:
            columns[SEMANTIC_IDS] = codes[items]
            columns[HISTORY_SEMANTIC_IDS] = codes[columns[name]]
            number = length * (len(history.items) + 1) + padded.end
            columns[HISTORY_NUMBER] = torch.where(length > 0, number, -1)
    if distinct is not None:
        begin, length = distinct.segment_start, distinct.segment_length
        columns[SEGMENTS] = history.gather(begin, begin + length, histories.segment_width)[0]
        columns |= {
            HISTORY_INDEX: distinct.of_row,
            HISTORY_SEGMENT: distinct.segment,
            HISTORY_LENGTH: distinct.length,
            SEGMENT_LENGTH: length,
        }
    return columns


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
