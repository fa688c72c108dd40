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
from recbole_genci.data.cells import Cells
from recbole_genci.data.download import find_or_download
from recbole_genci.data.history import build_history, time_ranks
from recbole_genci.data.order import cut_groups, stable_order
from recbole_genci.data.table import Column, Table, rows_of
from recbole_genci.data.validation import (
    check_described_once,
    check_files,
    check_header,
    check_label,
    check_loaded,
    check_scaled,
    place_of_row,
    warn_of_large_numbers,
    warn_of_long_cells,
    warn_of_seq_separator,
)
from recbole_genci.utils.atomic_files import read_atomic_file, read_header, read_sequences
from recbole_genci.utils.ragged import Ragged

# Columns of inter_feat that only this class reads. They are not registered as fields, because
# RecBole's context models would use them as features (abstract_recommender.py:227). Their names
# begin with a colon, which no field of an atomic file does.
ROW_NUMBER, TIME_RANK, HISTORY_START, HISTORY_END = (
    ":row_number",
    ":time_rank",
    ":history_start",
    ":history_end",
)
OWN_COLUMNS = (ROW_NUMBER, TIME_RANK, HISTORY_START, HISTORY_END)  # int32

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
        self.least_width = 0
        self._cells: dict[str, Cells] = {}
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
        frame = read_atomic_file(
            Path(filepath),
            fields,
            header,
            separator,
            encoding,
            categories=source == FeatureSource.INTERACTION,
        )
        check_described_once(self, Path(filepath), source, frame)
        for field in fields:
            kind = FeatureType(header[field])
            self.field2source[field], self.field2type[field] = source, kind
            if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                self.field2bucketnum[field] = 2
            self.field2seqlen[field] = 1
            if kind in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ):
                warn_of_seq_separator(self, Path(filepath), field, frame[field])
                entries, lengths = read_sequences(
                    Path(filepath),
                    field,
                    kind.value,
                    frame[field],
                    self.config["seq_separator"],
                    separator,
                    encoding,
                )
                limit = (self.config["seq_len"] or {}).get(field, int(lengths.max()))
                warn_of_long_cells(self, source, field, np.minimum(lengths, limit))
                cells = self._cells.setdefault(field, Cells())
                frame[field] = cells.add(entries, lengths, limit)
                self.field2seqlen[field] = max(1, min(limit, int(lengths.max())))
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
            place = place_of_row(self, Path(self.dataset_path), int(missing.argmax()))
            self.logger.warning(
                f"{missing.sum()} of {len(missing)} rows have no '{self.uid_field}' or no "
                f"'{self.iid_field}', first in {place}; they are left out."
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

    # RecBole's next three filters look each row up by its label (dataset.py:868, 1033, 1089); these
    # keep the same rows by one mask.

    def _filter_by_field_value(self) -> None:
        for field, interval in (self.config["val_interval"] or {}).items():
            if interval is None:
                continue
            is_number = self.field2type[field] == FeatureType.FLOAT
            bounds = self._parse_intervals_str(interval) if is_number else None
            for name in self.feat_name_list:
                feat = getattr(self, name)
                if any(feat is each for each in self.field2feats(field)):
                    values = feat[field]
                    kept = (
                        self._within_intervals(values.to_numpy(), bounds)
                        if is_number
                        else values.isin(interval).to_numpy()
                    )
                    if not kept.all():
                        setattr(self, name, feat[kept].reset_index(drop=True))

    def _filter_inter_by_user_or_item(self) -> None:
        if self.config["filter_inter_by_user_or_item"] is not True:
            return
        rows = len(self.inter_feat)
        kept = np.ones(rows, dtype=bool)
        for feat, field in ((self.user_feat, self.uid_field), (self.item_feat, self.iid_field)):
            if feat is not None:
                kept &= self.inter_feat[field].isin(feat[field]).to_numpy()
        if not kept.all():
            self.inter_feat = self.inter_feat[kept].reset_index(drop=True)
            self.logger.warning(
                f"{rows - len(self.inter_feat)} of {rows} rows are left out, because their user or "
                "item has no line in the .user or .item file. Set filter_inter_by_user_or_item: "
                "False to keep them, with padding for features."
            )

    def _filter_by_inter_num(self) -> None:
        sides = []
        for name, field in (("user", self.uid_field), ("item", self.iid_field)):
            intervals = self._parse_intervals_str(self.config[f"{name}_inter_num_interval"])
            if intervals:
                if len(intervals) > 1:
                    self.logger.warning(
                        f"{name}_inter_num_interval: more than one interval is given."
                    )
                sides.append(_Counted(self, f"{name}_feat", field, intervals))
        kept = np.ones(len(self.inter_feat), dtype=bool)
        # All sides look at the same rows before any of these are left out.
        while any([side.count(kept) for side in sides]):
            for side in sides:
                kept &= side.allowed_rows()
        if not kept.all():
            self.inter_feat = self.inter_feat[kept].reset_index(drop=True)
        for side in sides:
            side.drop_features()

    def _reset_index(self) -> None:
        for name in self.feat_name_list:
            if getattr(self, name).empty:
                raise ValueError(
                    f"dataset {self.dataset_name}: no row of {name.removesuffix('_feat')} passed "
                    "the filters. Check val_interval, user_inter_num_interval, "
                    "item_inter_num_interval and filter_inter_by_user_or_item."
                )
        super()._reset_index()

    def _remap(self, remap_list: list) -> None:
        # RecBole's factorizes the text of every row, and cuts sequences apart in Python
        # (dataset.py:1196). Rows of a categorical column have codes; only the tokens that they use
        # are factorized as texts.
        if not remap_list:
            return
        contents = [
            self._cells[field].of(feat[field])
            if kind == FeatureType.TOKEN_SEQ
            else (feat[field].array, None)
            for feat, field, kind in remap_list
        ]
        found = [pd.factorize(tokens) for tokens, _ in contents]
        # In the order of first appearance, as in RecBole.
        ids, tokens = pd.factorize(
            np.concatenate([np.asarray(tokens, dtype=object) for _, tokens in found])
        )
        vocabulary = np.array(["[PAD]", *tokens])
        token_id = {token: number for number, token in enumerate(vocabulary)}
        ends = np.cumsum([len(tokens) for _, tokens in found])
        for field in {field for _, field, kind in remap_list if kind == FeatureType.TOKEN_SEQ}:
            self._cells[field] = Cells()
        for (feat, field, _), (_, lengths), (codes, _), own in zip(
            remap_list, contents, found, np.split(ids, ends[:-1])
        ):
            if field not in self.field2id_token:
                self.field2id_token[field], self.field2token_id[field] = vocabulary, token_id
            # The code of a missing token is -1, and its id 0.
            new = np.append(own + 1, 0)[codes]
            feat[field] = new if lengths is None else self._cells[field].add(new, lengths)

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
                    feat[field] = feat[field].fillna(-1).astype(np.int64)

    def _preload_weight_matrix(self) -> None:
        """Nothing: no CTR model reads ``preload_weight``."""

    def _set_label_by_threshold(self) -> None:
        check_label(self)
        super()._set_label_by_threshold()

    def _normalize(self) -> None:
        check_scaled(self)
        # Time is still exact here; normalising and float32 come next.
        self._time_rank = time_ranks(self.inter_feat[self.time_field].to_numpy())
        self.num_time_ranks = int(self._time_rank.max()) + 1
        self._scale()
        warn_of_large_numbers(self)

    def _scale(self) -> None:
        fields = self.config["normalize_field"] or (
            self.float_like_fields if self.config["normalize_all"] else []
        )
        # RecBole looks for the extremes in Python (dataset.py:694).
        for field in fields:
            is_sequence = self.field2type[field] == FeatureType.FLOAT_SEQ
            cells = self._cells.get(field)
            if is_sequence:
                self._cells[field] = Cells()
            for feat in self.field2feats(field):
                if is_sequence:
                    assert cells is not None
                    values, lengths = cells.of(feat[field])
                    feat[field] = self._cells[field].add(self._scaled(field, values), lengths)
                else:
                    feat[field] = self._scaled(field, feat[field].to_numpy())

    def _scaled(self, field: str, values: np.ndarray) -> np.ndarray:
        """The values brought to 0 to 1; all 1 if there is only one."""
        if not len(values):
            return values
        low, high = values.min(), values.max()
        if low == high:
            self.logger.warning(
                f"normalize_field, normalize_all: '{field}' has the same value, {low:g}, in all "
                "rows; it becomes 1."
            )
            return np.ones_like(values)
        return (values - low) / (high - low)

    def _discretization(self) -> None:
        # Plain numbers become pairs (number, 1), RecBole's in Python lists (dataset.py:803); here
        # _dataframe_to_interaction makes them.
        cut, numbers = self.config["discretization"] or {}, self.config["numerical_features"]
        if not cut:
            return
        of_recbole = []
        for field in numbers:
            if self.field2type[field] == FeatureType.FLOAT:
                of_recbole.append(field)
            elif field in cut:
                of_recbole.append(field)
                for feat in self.field2feats(field):
                    entries, lengths = self._cells[field].of(feat[field])
                    feat[field] = np.split(entries, np.cumsum(lengths)[:-1])
        self.config.final_config_dict["numerical_features"] = of_recbole
        try:
            super()._discretization()
        finally:
            self.config.final_config_dict["numerical_features"] = numbers

    def _change_feat_format(self) -> None:
        super()._change_feat_format()
        self.inter_feat = _Rows(self.inter_feat.interaction)
        self.inter_feat[TIME_RANK] = torch.from_numpy(self._time_rank)
        self.inter_feat[ROW_NUMBER] = torch.arange(len(self._time_rank), dtype=torch.int32)
        del self._time_rank
        self._cells = {}

    def _dataframe_to_interaction(self, data: pd.DataFrame) -> Interaction:
        # RecBole makes a Python list of each sequence, and pads all to the longest
        # (dataset.py:2190).
        columns: dict[str, Column] = {}
        for field in list(data):
            kind = self.field2type[field]
            if kind == FeatureType.TOKEN:
                columns[field] = torch.from_numpy(data[field].to_numpy(np.int64, copy=True))
            elif kind == FeatureType.FLOAT and data[field].dtype != object:
                column = torch.from_numpy(data[field].to_numpy(np.float32, copy=True))
                is_pair = field in self.config["numerical_features"]
                columns[field] = (
                    torch.stack([column, torch.ones_like(column)], dim=-1) if is_pair else column
                )
            elif kind == FeatureType.FLOAT:
                columns |= super()._dataframe_to_interaction(data[[field]]).interaction
            elif data[field].dtype == object:  # pairs of RecBole's _discretization
                number, bucket = (
                    Ragged.of_rows([row[place] for row in data[field]], torch.float32)
                    for place in (0, 1)
                )
                pairs = torch.stack([number.values, bucket.values], dim=-1)
                columns[field] = Ragged.of_lengths(pairs, number.lengths)
            else:
                entries, lengths = self._cells[field].of(data[field])
                is_token = kind == FeatureType.TOKEN_SEQ
                values = torch.from_numpy(entries).to(torch.int64 if is_token else torch.float32)
                if not is_token and field in self.config["numerical_features"]:
                    values = torch.stack([values, torch.ones_like(values)], dim=-1)
                columns[field] = Ragged.of_lengths(values, torch.from_numpy(lengths))
        return Table(columns)

    # ---------------------------------------------------------------- order and split

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
        numbers, _ = pd.factorize(group_by_list)
        return np.split(stable_order(numbers), np.cumsum(np.bincount(numbers))[:-1])

    # RecBole collects the rows of each part in Python lists (dataset.py:1642, 1680). A time-based
    # split (TS) still does.

    def split_by_ratio(
        self, ratios: Sequence[float], group_by: str | None = None
    ) -> list[CTRDataset]:
        shares = [ratio / sum(ratios) for ratio in ratios]

        def starts(size: int) -> list[int]:
            return self._calcu_split_ids(tot=size, ratios=shares)

        if group_by is None:
            bounds = [0, *starts(len(self)), len(self)]
            return self._cut(None, [int(size) for size in np.diff(bounds)])
        return self._cut(*cut_groups(self.inter_feat[group_by].numpy(), starts))

    def leave_one_out(self, group_by: str | None, leave_one_mode: str) -> list[CTRDataset]:
        # `Config` accepts this mode alone. A group's last row is for the test, the one before for
        # validation, but the first always for training.
        assert group_by is not None and leave_one_mode == "valid_and_test"

        def starts(size: int) -> tuple[int, int]:
            return max(size - 2, 1), max(size - 1, 1)

        return self._cut(*cut_groups(self.inter_feat[group_by].numpy(), starts))

    def _cut(self, order: np.ndarray | None, sizes: Sequence[int]) -> list[CTRDataset]:
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
        history = build_history(
            *self._entries(sources), self.item_num, self.num_time_ranks, self.config["data_seed"]
        )
        cap = self.config["MAX_ITEM_LIST_LENGTH"]
        for part in parts:
            users, ranks = (
                part.inter_feat[self.uid_field].numpy(),
                part.inter_feat[TIME_RANK].numpy(),
            )
            start, end = history.pointers(users, ranks, cap)
            part.inter_feat[HISTORY_START], part.inter_feat[HISTORY_END] = (
                torch.from_numpy(start.astype(np.int32)),
                torch.from_numpy(end.astype(np.int32)),
            )
            part.history, part.history_source = history, history_source

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
        cap = config["MAX_ITEM_LIST_LENGTH"]
        part.least_width = cap if model.fixed_history_width else min(2, cap)
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
        start, end = (columns.pop(name, None) for name in (HISTORY_START, HISTORY_END))
        for name in (TIME_RANK, ROW_NUMBER):
            columns.pop(name, None)
        if join:
            for feat, field in ((self.user_feat, self.uid_field), (self.item_feat, self.iid_field)):
                if feat is not None:
                    columns |= {
                        name: column.index_select(0, columns[field])
                        for name, column in feat.interaction.items()
                    }
        columns = {
            name: column.padded() if isinstance(column, Ragged) else column
            for name, column in columns.items()
        }
        if "history" in self.attached:
            columns |= self._attach(columns[self.iid_field], start, end)
        return Interaction(columns)

    def _attach(
        self, items: torch.Tensor, start: torch.Tensor, end: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The history columns of a batch, under RecBole's names.

        H is the length of the batch's longest history, or ``MAX_ITEM_LIST_LENGTH`` for models that
        set ``fixed_history_width``. The columns are ``item_id_list`` [B, H], ``item_length`` [B],
        and ``neg_item_id_list`` [B, H] for models that read negatives. Models that read semantic
        IDs also get ``semantic_ids`` [B, N] of the target, ``history_semantic_ids`` [B, H, N] (-1
        on padding) and ``history_number`` [B]. Rows with the same number have the same history,
        which a model encodes once; a longer history has a larger number.
        """
        width = max(self.least_width, int((end - start).max())) if len(start) else 0
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


class _Counted:
    """The users, or the items, of a dataset, of which some have too few or too many rows.

    Args:
        dataset: while it is filtered.
        name: of the table of their features, which may be None.
        field: their id.
        intervals: allowed numbers of rows, as RecBole parses them.
    """

    def __init__(self, dataset: CTRDataset, name: str, field: str, intervals: list) -> None:
        self._dataset, self._name, self._intervals = dataset, name, intervals
        self._codes, tokens = pd.factorize(dataset.inter_feat[field].array)
        features = getattr(dataset, name)
        self._features = (
            None
            if features is None
            else pd.Index(np.asarray(tokens, dtype=object)).get_indexer(features[field])
        )
        self._size = len(tokens)
        self._allowed = np.ones(len(tokens), dtype=bool)
        self._described = np.ones(0 if features is None else len(features), dtype=bool)

    def count(self, kept: np.ndarray) -> bool:
        """Count the rows that are left; whether somebody who is left has a wrong number of them."""
        counts = np.bincount(self._codes[kept], minlength=self._size)
        # Who has no row left is judged by the features alone, as in RecBole.
        right = (counts == 0) | self._dataset._within_intervals(counts, self._intervals)
        again = bool((self._allowed & ~right).any())
        self._allowed &= right
        if self._features is not None:
            # RecBole reads features by the lower end of the first interval only.
            few = np.append(counts, 0)[self._features] < self._intervals[0][1]
            banned = np.append(~right, False)[self._features] | few
            again = again or bool((self._described & banned).any())
            self._described &= ~banned
            self._allowed[self._features[few & (self._features >= 0)]] = False
        return again

    def allowed_rows(self) -> np.ndarray:
        """Which rows ``[R]`` are of an allowed user or item."""
        return self._allowed[self._codes]

    def drop_features(self) -> None:
        """Leave out the features of those who are not allowed."""
        if self._features is not None and not self._described.all():
            features = getattr(self._dataset, self._name)
            kept = features[self._described].reset_index(drop=True)
            setattr(self._dataset, self._name, kept)


def create_dataset(config: Config) -> CTRDataset:
    """Read and filter the rows that ``config`` describes."""
    return CTRDataset(config)
