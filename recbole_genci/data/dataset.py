"""The one dataset class of every model: RecBole's labelled rows, ordered by exact time, with
histories by pointer.
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

# Columns of inter_feat that only this class reads. They are not registered as fields: RecBole's
# context models would take them for features (abstract_recommender.py:227). No atomic file has a
# field whose name begins with a colon.
ROW_NUMBER, TIME_RANK, HISTORY_START, HISTORY_END = (
    ":row_number",
    ":time_rank",
    ":history_start",
    ":history_end",
)

# Columns that a batch gains for models that read semantic IDs.
SEMANTIC_IDS, HISTORY_SEMANTIC_IDS, HISTORY_NUMBER = (
    "semantic_ids",
    "history_semantic_ids",
    "history_number",
)


class CTRDataset(Dataset):
    """Labelled (user, item, label) rows for context-aware models, DIN, DIEN and GenCI alike.

    ``build()`` gives the training, validation and test parts; ``view()`` gives a part as one model
    reads it. Every row of every part knows its history (``recbole_genci.data.history``); it is
    attached per batch by ``__getitem__``.

    Raises:
        FileNotFoundError, ValueError: missing or malformed files, columns or labels, each named.
    """

    # RecBole's: rows as a table, and later as an Interaction; the name of their time.
    inter_feat: Any
    time_field: str

    def __init__(self, config: Config) -> None:
        self.attached: frozenset[str] = frozenset()
        self.semantic_ids: torch.Tensor | None = None
        super().__init__(config)

    # ---------------------------------------------------------------- reading (RecBole
    # dataset.py:252, 458-535)

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
                "Change the "
                "file, or name a new column by LABEL_FIELD, which threshold: "
                f"{{{self.label_field}: ...}} makes of "
                "this one."
            )

    def _filter_nan_user_or_item(self) -> None:
        # RecBole drops rows twice, the second time by labels that it takes for positions
        # (dataset.py:834): others would go.
        missing = self.inter_feat[[self.uid_field, self.iid_field]].isna().any(axis=1).to_numpy()
        if missing.any():
            self.logger.warning(
                f"{missing.sum()} of {len(missing)} rows have no '{self.uid_field}' or no "
                f"'{self.iid_field}', first in line "
                f"{int(missing.argmax()) + 2}; they are left out."
            )
            self.inter_feat = self.inter_feat[~missing].reset_index(drop=True)
        super()._filter_nan_user_or_item()

    def _remove_duplication(self) -> None:
        # RecBole sorts by time with a sort that may swap rows of one instant, from one processor to
        # the next (dataset.py:853).
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
                "item has no line in the .user "
                "or .item file. With filter_inter_by_user_or_item: False they stay, with padding "
                "for features."
            )

    def _reset_index(self) -> None:
        for name in self.feat_name_list:
            if getattr(self, name).empty:
                raise ValueError(
                    f"dataset {self.dataset_name}: no row of {name.removesuffix('_feat')} passed "
                    "the filters. Check "
                    "val_interval, user_inter_num_interval, item_inter_num_interval and "
                    "filter_inter_by_user_or_item."
                )
        super()._reset_index()

    def _fill_nan(self) -> None:
        # dataset.py:648, 650 fill a copy since pandas 3, which leaves NaN to become -2**63 as an
        # id.
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
                            "Leave it out by "
                            "load_col."
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
        # The last moment at which time is exact: normalising and float32 come next.
        self._time_rank = time_ranks(self.inter_feat[self.time_field].to_numpy())
        self.num_time_ranks = int(self._time_rank.max()) + 1
        super()._normalize()
        warn_of_large_numbers(self)

    def _change_feat_format(self) -> None:
        super()._change_feat_format()
        self.inter_feat = _Rows(self.inter_feat.interaction)
        self.inter_feat[TIME_RANK] = torch.from_numpy(self._time_rank)
        self.inter_feat[ROW_NUMBER] = torch.arange(len(self._time_rank))

    # ---------------------------------------------------------------- ordering and splitting by
    # exact time

    def sort(self, by: str | Sequence[str], ascending: bool | Sequence[bool] = True) -> None:
        super().sort(TIME_RANK if by == self.time_field else by, ascending)

    def shuffle(self) -> None:
        # RecBole draws from the global generator (interaction.py:303): one draw elsewhere would
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
        """Row numbers of each group, groups by first appearance, as RecBole's loop
        (dataset.py:1591), vectorised.
        """
        _, first, inverse, counts = np.unique(
            group_by_list, return_index=True, return_inverse=True, return_counts=True
        )
        rows = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])
        return [rows[group] for group in np.argsort(first)]

    def build(self) -> list[CTRDataset]:
        """Order and split the rows, then give each its history.

        Returns:
            list of CTRDataset: the training, validation and test part.
        """
        parts = super().build()
        self.history_source = self.config["history_source"]
        if not split_is_in_time_order(self.config):
            self.logger.info(
                "The split is not known to be in time order (eval_args: order RO, or "
                "benchmark_filename): histories "
                "hold training rows only, or they might contain clicks whose own rows are held out."
            )
        self.attach_histories(parts, self.history_source)
        return parts

    def attach_histories(self, parts: Sequence[CTRDataset], history_source: str) -> None:
        """Give each row of ``parts`` the pointers to its history, from rows of all parts or
        (``training``) of the first.
        """
        sources = parts[:1] if history_source == "training" else parts
        columns = {
            c: np.concatenate([p.inter_feat[c].numpy() for p in sources])
            for c in (self.uid_field, self.iid_field, self.label_field, TIME_RANK, ROW_NUMBER)
        }
        # Entries of one instant come in file order, whatever order the split left the rows in.
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
                f"{longest}. With "
                f"{max(longest, 1)} models see as much in less time."
            )

    # ---------------------------------------------------------------- what one model reads

    def view(
        self, config: Config, semantic_ids: np.ndarray | torch.Tensor | None = None
    ) -> CTRDataset:
        """This part as one model reads it: the same rows and features, with the columns the model
        needs attached.

        Args:
            config: the model's Config.
            semantic_ids: ``[num_items, N]`` codes by RecBole item id (row 0, the padding, is -1),
                for models that set ``reads_semantic_ids``.
        """
        part = copy.copy(self)
        part.config = config
        reads = config.model_class
        wanted = {
            "history": reads.reads_history or reads.reads_negatives or reads.reads_semantic_ids,
            "negatives": reads.reads_negatives,
            "semantic_ids": reads.reads_semantic_ids,
        }
        part.attached = frozenset(name for name, is_wanted in wanted.items() if is_wanted)
        part.semantic_ids = torch.as_tensor(semantic_ids) if reads.reads_semantic_ids else None
        return part

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
        """History columns of a batch, under RecBole's names: ``item_id_list`` [B, H],
        ``item_length`` [B], and ``neg_item_id_list`` [B, H] for models that read negatives.

        For models that read semantic IDs also ``semantic_ids`` [B, N] of the target,
        ``history_semantic_ids`` [B, H, N] (-1 on padding) and ``history_number`` [B]: rows with one
        number have one history, to be encoded once, and longer histories have larger numbers.
        """
        width = self.config["MAX_ITEM_LIST_LENGTH"]
        name = self.iid_field + self.config["LIST_SUFFIX"]
        history, length, negatives = self.history.gather(
            start, end, width, "negatives" in self.attached
        )
        columns = {name: history, self.config["ITEM_LIST_LENGTH_FIELD"]: length}
        if negatives is not None:
            columns[self.config["NEG_PREFIX"] + name] = negatives
            # DIEN packs sequences, which takes no length of 0 (dien.py:212); the one position it
            # then reads is padding.
            columns[self.config["ITEM_LIST_LENGTH_FIELD"]] = length.clamp(min=1)
        if "semantic_ids" in self.attached:
            assert self.semantic_ids is not None
            columns[SEMANTIC_IDS] = self.semantic_ids[items]
            columns[HISTORY_SEMANTIC_IDS] = self.semantic_ids[history]
            # A non-empty history is known by where it ends; all empty ones are the same.
            # In order of length, as an encoder takes histories of one length together.
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
    """Rows picked by one index tensor, where RecBole makes one of a split's list of rows anew for
    every column (interaction.py:137): most of the time that building a dataset takes.
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
