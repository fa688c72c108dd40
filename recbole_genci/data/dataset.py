"""The dataset class of every model: labelled rows in exact time order, each with its history.

Rows store pointers to their history; a loader gathers the histories of a batch.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.utils import FeatureSource, FeatureType

from recbole_genci.config import Config
from recbole_genci.config.protocol import split_is_in_time_order
from recbole_genci.data.batch_histories import Attached
from recbole_genci.data.batches import RowBatch
from recbole_genci.data.column_names import (
    HISTORY_END,
    HISTORY_FIRST,
    HISTORY_START,
    ROW_NUMBER,
    TIME_RANK,
)
from recbole_genci.data.fitting import FittedDataset
from recbole_genci.data.history import build_history
from recbole_genci.data.table import Table
from recbole_genci.model.base import flattens_history
from recbole_genci.model.cuda_graphs import uses_graphs

_logger = logging.getLogger(__name__)


class CTRDataset(FittedDataset):
    """Labelled rows (user, item, label) for every model: context-aware models, DIN, DIEN, GenCI.

    Rows without a user, an item or a time have empty histories.

    ``build()`` returns the training, validation and test part; ``view()`` returns a part with the
    columns that one model reads. Every row has pointers to its history
    (``recbole_genci.data.history``), and ``__getitem__`` attaches the histories of a batch.

    Raises:
        FileNotFoundError, ValueError: a file, column or label is missing or malformed; names it.
    """

    def __init__(self, config: Config) -> None:
        self.attached = Attached()
        self.semantic_ids: torch.Tensor | None = None
        self.least_width, self.segment_clicks, self.few_shapes = 0, 1, False
        # Ids of tokens that are no items: columns of alias_of_item_id alone have them.
        self.only_aliases = range(0)
        super().__init__(config)

    def _remap_ID_all(self) -> None:
        super()._remap_ID_all()
        if self.iid_field is not None:
            # Tokens of the rows' items and of the .item file are numbered first (dataset.py:1139).
            feats = [feat for feat in self.field2feats(self.iid_field) if len(feat)]
            last = max((int(feat[self.iid_field].max()) for feat in feats), default=0)
            self.only_aliases = range(last + 1, self.item_num)

    def build(self) -> list[CTRDataset]:
        """Order and split the rows, fit columns, and attach pointers to their histories.

        Returns:
            list of CTRDataset: the training, validation and test part.
        """
        parts = super().build()
        self.history_source = self.config["history_source"]
        if self.has_histories and not split_is_in_time_order(self.config):
            _logger.info(
                "The split is not known to be in time order (eval_args: order RO, or "
                "benchmark_filename), so histories hold training rows only. Otherwise they might "
                "contain clicks whose own rows are held out."
            )
        self.attach_histories(parts, self.history_source)
        return parts

    def attach_histories(self, parts: Sequence[CTRDataset], history_source: str) -> None:
        """Give each row of ``parts`` pointers to its history, empty where rows have none.

        Args:
            parts: the training, validation and test part.
            history_source: ``past`` takes clicks from all parts, ``training`` from the first only.
        """
        sources = parts[:1] if history_source == "training" else parts
        entries, num_items = (np.zeros(0, dtype=np.int64),) * 3, 1
        if self.has_histories:
            entries = self._entries(sources)
            # Negatives are items: tokens of aliases alone, which come last, are none.
            num_items = self.item_num - len(self.only_aliases)
        history = build_history(*entries, num_items, self.num_time_ranks, self.config["data_seed"])
        cap = self.config["MAX_ITEM_LIST_LENGTH"]
        for part in parts:
            ranks = part.inter_feat[TIME_RANK].numpy()
            users = (
                part.inter_feat[self.uid_field].numpy()
                if self.has_histories
                else np.zeros_like(ranks)
            )
            start, end = history.pointers(users, ranks, cap)
            part.inter_feat[HISTORY_START], part.inter_feat[HISTORY_END] = (
                torch.from_numpy(start.astype(np.int32)),
                torch.from_numpy(end.astype(np.int32)),
            )
            part.history, part.history_source = history, history_source

    @property
    def history_lengths(self) -> np.ndarray:
        """How many clicks the history of each row ``[R]`` has, at most ``MAX_ITEM_LIST_LENGTH``."""
        return (self.inter_feat[HISTORY_END] - self.inter_feat[HISTORY_START]).numpy()

    def _entries(self, sources: Sequence[CTRDataset]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """User, item and time rank ``[P]`` of the rows that enter histories, in file order.

        Clicks of equal time stand in file order, whatever the order of rows after the split.
        """

        def column(name: str) -> np.ndarray:
            return np.concatenate([part.inter_feat[name].numpy() for part in sources])

        number = column(ROW_NUMBER)
        place = np.full(int(number.max(initial=-1)) + 1, -1, dtype=np.int64)
        place[number] = np.arange(len(number))
        place = place[place >= 0]
        if self.config["history_labels"] == "positive":
            place = place[column(self.label_field)[place] == 1]
        return (
            column(self.uid_field)[place],
            column(self.iid_field)[place],
            column(TIME_RANK)[place],
        )

    # ---------------------------------------------------------------- what one model reads

    def view(
        self, config: Config, semantic_ids: np.ndarray | torch.Tensor | None = None
    ) -> CTRDataset:
        """This part for one model: the same rows and features, and the columns that it reads.

        Args:
            config: the model's Config.
            semantic_ids: codes ``[num_items, N]`` by RecBole item id, for models that set
                ``reads_semantic_ids``; row 0, the padding, is -1.
        """
        part = copy.copy(self)
        part.config = config
        model = config.model_class
        flattens = flattens_history(model, config)
        if flattens:
            part._add_clicked_items()
        distinct = model.reads_distinct_histories
        columns = model.reads_semantic_ids and not distinct
        part.attached = Attached(
            history=model.reads_history or model.reads_negatives or columns or flattens,
            negatives=model.reads_negatives,
            codes=columns,
            distinct=distinct,
        )
        cap = config["MAX_ITEM_LIST_LENGTH"]
        part.few_shapes = uses_graphs(config)
        fixed = model.fixed_history_width or part.few_shapes
        part.least_width = cap if fixed else min(2, cap)
        part.semantic_ids = torch.as_tensor(semantic_ids) if model.reads_semantic_ids else None
        part.segment_clicks = model.segment_clicks(config) if distinct else 1
        if part.segment_clicks > 1 and HISTORY_FIRST not in part.inter_feat:
            first = self.history.first_clicks(part.inter_feat[self.uid_field].numpy())
            column = torch.from_numpy(first.astype(np.int32))
            part.inter_feat = Table(part.inter_feat.interaction | {HISTORY_FIRST: column})
        return part

    def _add_clicked_items(self) -> None:
        """Make the history a field of the user, which RecBole's context-aware models pool."""
        name = self.iid_field + self.config["LIST_SUFFIX"]
        self.field2type = {**self.field2type, name: FeatureType.TOKEN_SEQ}
        self.field2source = {**self.field2source, name: FeatureSource.USER}
        self.field2seqlen = {**self.field2seqlen, name: self.config["MAX_ITEM_LIST_LENGTH"]}
        self.field2id_token = {
            **self.field2id_token,
            name: self.field2id_token[self.iid_field],
        }

    def __getitem__(self, index: Any, join: bool = True) -> RowBatch:
        if isinstance(index, slice):
            rows = range(*index.indices(len(self)))
            return RowBatch(self, torch.arange(len(rows)) * rows.step + rows.start, join)
        return RowBatch(self, torch.as_tensor(index), join)

    @property
    def row_features(self) -> list[str]:
        """The features that belong to a row, not to its user or item."""
        tokens = (FeatureType.TOKEN, FeatureType.TOKEN_SEQ)
        numbers = self.config["numerical_features"] or ()
        return [
            field
            for field in self.fields(source=[FeatureSource.INTERACTION])
            if field in self.inter_feat
            and field != self.label_field
            and (self.field2type[field] in tokens or field in numbers)
        ]

    # ---------------------------------------------------------------- identity

    @property
    def item_file(self) -> Path:
        """The atomic file that holds the items' texts."""
        return Path(self.dataset_path) / f"{self.dataset_name}.item"


def create_dataset(config: Config) -> CTRDataset:
    """Read and filter the rows that ``config`` describes."""
    return CTRDataset(config)
