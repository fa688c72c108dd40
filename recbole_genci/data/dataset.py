"""The dataset class of every model: labelled rows in exact time order, each with its history.

Rows store pointers to their history; a loader gathers the histories of a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import ContextRecommender
from recbole.utils import FeatureSource, FeatureType

from recbole_genci import compat
from recbole_genci.config import Config
from recbole_genci.config.protocol import split_is_in_time_order
from recbole_genci.data.atomic_files import read_atomic_file, read_header, split_sequences
from recbole_genci.data.download import find_or_download
from recbole_genci.data.history import build_history, time_ranks
from recbole_genci.data.validation import (
    check_described_once,
    check_files,
    check_header,
    check_label,
    check_loaded,
    check_scaled,
    warn_of_large_numbers,
)

# Columns of inter_feat that only this class reads. They are not registered as fields, because
# RecBole's context models would use them as features (abstract_recommender.py:227). Their names
# begin with a colon, which no field of an atomic file does.
ROW_NUMBER, TIME_RANK, HISTORY_START, HISTORY_END = (
    ":row_number",
    ":time_rank",
    ":history_start",
    ":history_end",
)

# Columns that are added to a batch for models that read semantic IDs.
SEMANTIC_IDS, HISTORY_SEMANTIC_IDS, HISTORY_NUMBER = (
    "semantic_ids",
    "history_semantic_ids",
    "history_number",
)


class CTRDataset(Dataset):
    """Labelled rows (user, item, label) for every model: context-aware models, DIN, DIEN, GenCI.

    ``build()`` returns the training, validation and test part; ``view()`` returns a part with the
    columns that one model reads. Every row has pointers to its history
    (``recbole_genci.data.history``), and ``__getitem__`` attaches the histories of a batch.

    Raises:
        FileNotFoundError, ValueError: a file, column or label is missing or malformed; names it.
    """

    # RecBole's: rows as a table, and later as an Interaction; the name of their time; facts about
    # each field, and its tokens by id.
    inter_feat: Any
    time_field: str
    field2type: dict[str, FeatureType]
    field2source: dict[str, FeatureSource]
    field2seqlen: dict[str, int]
    field2id_token: dict[str, Any]

    def __init__(self, config: Config) -> None:
        self.attached: frozenset[str] = frozenset()
        self.semantic_ids: torch.Tensor | None = None
        super().__init__(config)

    # ---------------------------------------------------------------- reading
    # RecBole dataset.py:252, 458-535

    def _load_data(self, token: str, dataset_path: str) -> None:
        find_or_download(self, Path(dataset_path))
        check_files(self, token, Path(dataset_path))
        super()._load_data(token, dataset_path)
        history = self.iid_field + self.config["LIST_SUFFIX"]
        attached = {
            history,
            self.config["NEG_PREFIX"] + history,
            self.config["ITEM_LIST_LENGTH_FIELD"],
            SEMANTIC_IDS,
            HISTORY_SEMANTIC_IDS,
            HISTORY_NUMBER,
        }
        check_loaded(self, token, Path(dataset_path), attached)

    def _load_feat(self, filepath: str, source: FeatureSource) -> pd.DataFrame | None:
        load_col, unload_col = self._get_load_and_unload_col(source)
        if load_col == set():
            return None
        separator, encoding = self.config["field_separator"], self.config["encoding"] or "utf-8"
        header = read_header(Path(filepath), separator, encoding)
        check_header(self, Path(filepath), source, header, load_col or ())
        fields = [
            f for f in header if (load_col is None or f in load_col) and f not in (unload_col or ())
        ]
        frame = read_atomic_file(Path(filepath), fields, header, separator, encoding)
        check_described_once(self, Path(filepath), source, frame)
        for field in fields:
            kind = FeatureType(header[field])
            self.field2source[field], self.field2type[field] = source, kind
            if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                self.field2bucketnum[field] = 2
            self.field2seqlen[field] = 1
            if kind in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ):
                limit = (self.config["seq_len"] or {}).get(field)
                rows = [
                    row[:limit]
                    for row in split_sequences(
                        frame[field], kind.value, self.config["seq_separator"]
                    )
                ]
                frame[field] = rows
                self.field2seqlen[field] = max(1, max(map(len, rows)))
        return frame

    # ---------------------------------------------------------------- processing

    def _data_processing(self) -> None:
        with compat.series_agg_len_by_row():
            super()._data_processing()
        label = self.inter_feat[self.label_field]
        if not label.isin([0, 1]).all():
            bad = label[~label.isin([0, 1])].iloc[0]
            raise ValueError(
                f"LABEL_FIELD: column '{self.label_field}' holds {bad:g}; labels must be 0 or 1. "
                "Change the file; or make labels of this column by "
                f"threshold: {{{self.label_field}: ...}}, and give LABEL_FIELD a new name."
            )

    def _filter_nan_user_or_item(self) -> None:
        # RecBole drops rows twice and the second time treats index labels as positions
        # (dataset.py:834), so it would drop the wrong rows.
        missing = self.inter_feat[[self.uid_field, self.iid_field]].isna().any(axis=1).to_numpy()
        if missing.any():
            self.logger.warning(
                f"{missing.sum()} of {len(missing)} rows have no '{self.uid_field}' or no "
                f"'{self.iid_field}', first in line {int(missing.argmax()) + 2}; they are left out."
            )
            self.inter_feat = self.inter_feat[~missing].reset_index(drop=True)
        super()._filter_nan_user_or_item()

    def _remove_duplication(self) -> None:
        # RecBole's sort may swap rows of equal time, differently on another processor
        # (dataset.py:853); this one keeps their order.
        keep, feat = self.config["rm_dup_inter"], self.inter_feat
        if keep is not None:
            rows = (
                feat.sort_values(self.time_field, kind="stable")
                if self.time_field in feat
                else feat
            )
            self.inter_feat = rows.drop_duplicates(
                [self.uid_field, self.iid_field], keep=keep
            ).sort_index()

    def _filter_inter_by_user_or_item(self) -> None:
        rows = len(self.inter_feat)
        super()._filter_inter_by_user_or_item()
        if len(self.inter_feat) < rows:
            self.logger.warning(
                f"{rows - len(self.inter_feat)} of {rows} rows are left out, because their user or "
                "item has no line in the .user or .item file. Set filter_inter_by_user_or_item: "
                "False to keep them, with padding for features."
            )

    def _reset_index(self) -> None:
        for name in self.feat_name_list:
            if getattr(self, name).empty:
                raise ValueError(
                    f"dataset {self.dataset_name}: no row of {name.removesuffix('_feat')} passed "
                    "the filters. Check val_interval, user_inter_num_interval, "
                    "item_inter_num_interval and filter_inter_by_user_or_item."
                )
        super()._reset_index()

    def _fill_nan(self) -> None:
        # With pandas 3 dataset.py:648, 650 fill a copy, and NaN would become the id -2**63.
        for name in self.feat_name_list:
            feat = getattr(self, name)
            for field in feat:
                kind = self.field2type[field]
                if kind == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0).astype(np.int64)
                elif kind == FeatureType.FLOAT:
                    if feat[field].isna().all():
                        raise ValueError(
                            f"dataset {self.dataset_name}: '{field}' has no value in any row. "
                            "Leave it out by load_col."
                        )
                    feat[field] = feat[field].fillna(feat[field].mean())
                else:
                    empty = np.array(
                        [], dtype=np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64
                    )
                    feat[field] = [empty if isinstance(row, float) else row for row in feat[field]]

    def _set_label_by_threshold(self) -> None:
        check_label(self)
        super()._set_label_by_threshold()

    def _normalize(self) -> None:
        check_scaled(self)
        # Time is still exact here; normalising and float32 come next.
        self._time_rank = time_ranks(self.inter_feat[self.time_field].to_numpy())
        self.num_time_ranks = int(self._time_rank.max()) + 1
        super()._normalize()
        warn_of_large_numbers(self)

    def _change_feat_format(self) -> None:
        super()._change_feat_format()
        self.inter_feat = _Rows(self.inter_feat.interaction)
        self.inter_feat[TIME_RANK] = torch.from_numpy(self._time_rank)
        self.inter_feat[ROW_NUMBER] = torch.arange(len(self._time_rank))

    # ---------------------------------------------------------------- order and split

    def sort(self, by: str | Sequence[str], ascending: bool | Sequence[bool] = True) -> None:
        super().sort(TIME_RANK if by == self.time_field else by, ascending)

    def shuffle(self) -> None:
        # RecBole draws from the global generator (interaction.py:303), so that any other draw would
        # change the split.
        generator = torch.Generator().manual_seed(self.config["data_seed"])
        self.inter_feat._reindex(torch.randperm(len(self.inter_feat), generator=generator))

    def time_based_split(self, ratios: Sequence[float], group_by: str | None) -> list[CTRDataset]:
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
        _, first, inverse, counts = np.unique(
            group_by_list, return_index=True, return_inverse=True, return_counts=True
        )
        rows = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])
        return [rows[group] for group in np.argsort(first)]

    def build(self) -> list[CTRDataset]:
        """Order and split the rows, and attach pointers to their histories.

        Returns:
            list of CTRDataset: the training, validation and test part.
        """
        parts = super().build()
        self.history_source = self.config["history_source"]
        if not split_is_in_time_order(self.config):
            self.logger.info(
                "The split is not known to be in time order (eval_args: order RO, or "
                "benchmark_filename), so histories hold training rows only. Otherwise they might "
                "contain clicks whose own rows are held out."
            )
        self.attach_histories(parts, self.history_source)
        return parts

    def attach_histories(self, parts: Sequence[CTRDataset], history_source: str) -> None:
        """Give each row of ``parts`` pointers to its history.

        Args:
            parts: the training, validation and test part.
            history_source: ``past`` takes clicks from all parts, ``training`` from the first only.
        """
        sources = parts[:1] if history_source == "training" else parts
        columns = {
            c: np.concatenate([p.inter_feat[c].numpy() for p in sources])
            for c in (self.uid_field, self.iid_field, self.label_field, TIME_RANK, ROW_NUMBER)
        }
        # Clicks of equal time stand in file order, whatever the order of rows after the split.
        keep = np.argsort(columns[ROW_NUMBER])
        if self.config["history_labels"] == "positive":
            keep = keep[columns[self.label_field][keep] == 1]
        history = build_history(
            columns[self.uid_field][keep],
            columns[self.iid_field][keep],
            columns[TIME_RANK][keep],
            self.item_num,
            self.num_time_ranks,
            self.config["data_seed"],
        )
        cap, longest = self.config["MAX_ITEM_LIST_LENGTH"], 0
        for part in parts:
            users, ranks = (
                part.inter_feat[self.uid_field].numpy(),
                part.inter_feat[TIME_RANK].numpy(),
            )
            start, end = history.pointers(users, ranks, cap)
            longest = max(longest, int((end - start).max(initial=0)))
            part.inter_feat[HISTORY_START], part.inter_feat[HISTORY_END] = (
                torch.from_numpy(start),
                torch.from_numpy(end),
            )
            part.history, part.history_source = history, history_source
        if longest < cap:
            self.logger.warning(
                f"MAX_ITEM_LIST_LENGTH: histories are padded to {cap} items, but the longest has "
                f"{longest}. --MAX_ITEM_LIST_LENGTH={max(longest, 1)} loses nothing and takes less "
                "time."
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
        flattens = config["flatten_history"] and issubclass(model, ContextRecommender)
        if flattens:
            part._add_clicked_items()
        reads = {
            "history": (
                model.reads_history or model.reads_negatives or model.reads_semantic_ids or flattens
            ),
            "negatives": model.reads_negatives,
            "semantic_ids": model.reads_semantic_ids,
        }
        part.attached = frozenset(name for name, is_read in reads.items() if is_read)
        part.semantic_ids = torch.as_tensor(semantic_ids) if model.reads_semantic_ids else None
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

    def __getitem__(self, index: Any, join: bool = True) -> Interaction:
        index = (
            torch.arange(len(self))[index] if isinstance(index, slice) else torch.as_tensor(index)
        )
        columns = {
            name: column.index_select(0, index)
            for name, column in self.inter_feat.interaction.items()
        }
        start, end = columns.pop(HISTORY_START, None), columns.pop(HISTORY_END, None)
        for name in (TIME_RANK, ROW_NUMBER):
            columns.pop(name, None)
        if join:
            for feat, field in ((self.user_feat, self.uid_field), (self.item_feat, self.iid_field)):
                if feat is not None:
                    columns |= {
                        name: column.index_select(0, columns[field])
                        for name, column in feat.interaction.items()
                    }
        if "history" in self.attached:
            columns |= self._attach(columns[self.iid_field], start, end)
        return Interaction(columns)

    def _attach(
        self, items: torch.Tensor, start: torch.Tensor, end: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The history columns of a batch, under RecBole's names.

        These are ``item_id_list`` [B, H], ``item_length`` [B], and ``neg_item_id_list`` [B, H] for
        models that read negatives. Models that read semantic IDs also get ``semantic_ids`` [B, N]
        of the target, ``history_semantic_ids`` [B, H, N] (-1 on padding) and ``history_number``
        [B]. Rows with the same number have the same history, which a model encodes once; a longer
        history has a larger number.
        """
        width = self.config["MAX_ITEM_LIST_LENGTH"]
        name = self.iid_field + self.config["LIST_SUFFIX"]
        history, length, negatives = self.history.gather(
            start, end, width, "negatives" in self.attached
        )
        columns = {name: history, self.config["ITEM_LIST_LENGTH_FIELD"]: length}
        if negatives is not None:
            columns[self.config["NEG_PREFIX"] + name] = negatives
            # DIEN packs sequences, which must not have length 0 (dien.py:212). With length 1 the
            # position that it reads is padding.
            columns[self.config["ITEM_LIST_LENGTH_FIELD"]] = length.clamp(min=1)
        if "semantic_ids" in self.attached:
            assert self.semantic_ids is not None
            columns[SEMANTIC_IDS] = self.semantic_ids[items]
            columns[HISTORY_SEMANTIC_IDS] = self.semantic_ids[history]
            # The end of a history identifies it; all empty histories are the same. The length comes
            # first, because an encoder batches histories of one length.
            columns[HISTORY_NUMBER] = torch.where(
                end > start, length * (len(self.history.items) + 1) + end, -1
            )
        return columns

    # ---------------------------------------------------------------- identity

    @property
    def item_file(self) -> Path:
        """The atomic file that holds the items' texts."""
        return Path(self.dataset_path) / f"{self.dataset_name}.item"


class _Rows(Interaction):
    """Rows that are selected by one index tensor for all columns.

    RecBole turns a split's list of rows into a tensor again for every column (interaction.py:137),
    which takes most of the time of building a dataset.
    """

    def __getitem__(self, index: Any) -> Interaction:
        if not isinstance(index, list):
            return super().__getitem__(index)
        rows = torch.from_numpy(np.asarray(index, dtype=np.int64))
        return Interaction(
            {name: column.index_select(0, rows) for name, column in self.interaction.items()}
        )


def create_dataset(config: Config) -> CTRDataset:
    """Read and filter the rows that ``config`` describes."""
    return CTRDataset(config)
