"""From atomic files to tensors: reading, ids, missing values and scales, by whole columns."""

from __future__ import annotations

import logging
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
from recbole_genci.config.fitted import transforms_of
from recbole_genci.data.buckets import Buckets
from recbole_genci.data.copies import warn_of_copies
from recbole_genci.data.download import find_or_download
from recbole_genci.data.file_checks import (
    check_described_once,
    check_files,
    check_header,
    check_read_once,
    is_read,
    warn_of_long_cells,
    warn_of_seq_separator,
)
from recbole_genci.data.fitted_columns import check_fitted_columns
from recbole_genci.data.headers import check_headers
from recbole_genci.data.loaded_columns import (
    check_label,
    check_label_values,
    check_loaded,
    warn_of_large_numbers,
)
from recbole_genci.data.sequence_cells import Cells
from recbole_genci.data.table import Column, Table
from recbole_genci.data.times import warn_of_times
from recbole_genci.data.transforms import Transform
from recbole_genci.model.batch_columns import BATCH_COLUMNS
from recbole_genci.utils.atomic_files import (
    encoding_of,
    read_atomic_file,
    read_header,
    read_sequences,
)
from recbole_genci.utils.ragged import Ragged

_logger = logging.getLogger(__name__)

_NOUNS = {"inter_feat": "row", "user_feat": "user", "item_feat": "item"}


class AtomicDataset(Dataset):
    """RecBole's dataset, read from atomic files by this package's reader.

    Raises:
        FileNotFoundError, ValueError: a file, column or label is missing or malformed; names it.
    """

    # RecBole's: rows as a table, and later as an Interaction; the name of their time; facts about
    # each field, and its tokens by id.
    inter_feat: Any
    time_field: str | None
    field2type: dict[str, FeatureType]
    field2source: dict[str, FeatureSource]
    field2seqlen: dict[str, int]
    field2id_token: dict[str, Any]
    # The least and the largest value of each column that was brought to 0 to 1.
    scales: dict[str, tuple[float, float]]
    # The buckets of each column that was cut into buckets of equal width.
    buckets: dict[str, Buckets]
    # How the numbers of each column of `transforms` become what models read, and the columns of
    # `min_count`, whose unknown values are rare. Both are empty until `build`.
    transforms: dict[str, Transform]
    rare: frozenset[str]

    def __init__(self, config: Config) -> None:
        self._cells: dict[str, Cells] = {}
        self.scales, self.buckets = {}, {}
        self.transforms, self.rare = {}, frozenset()
        # They stay as they are in the files, NaN where missing, until the rows are split.
        self._fitted_later = frozenset(transforms_of(config))
        super().__init__(config)

    @property
    def id_fields(self) -> dict[str, str]:
        """The columns of ids by what they name, ``user`` and ``item``; empty if rows have none."""
        ids = {"user": self.uid_field, "item": self.iid_field}
        return {noun: field for noun, field in ids.items() if field is not None}

    @property
    def has_histories(self) -> bool:
        """Whether rows have what a history is made of: users, items and times."""
        return None not in (self.uid_field, self.iid_field, self.time_field)

    def given_type(self, field: str) -> FeatureType:
        """The type of a field's values in files; ``transforms`` may make ids of numbers."""
        kind = self.field2type[field]
        if field not in self.transforms:
            return kind
        is_single = kind in (FeatureType.TOKEN, FeatureType.FLOAT)
        return FeatureType.FLOAT if is_single else FeatureType.FLOAT_SEQ

    # RecBole dataset.py:252, 458-535

    def _load_data(self, token: str, dataset_path: str) -> None:
        find_or_download(self, Path(dataset_path))
        check_files(self, token, Path(dataset_path))
        check_headers(self, token, Path(dataset_path))
        check_fitted_columns(self, token, Path(dataset_path))
        super()._load_data(token, dataset_path)
        attached = {self.config["ITEM_LIST_LENGTH_FIELD"], *BATCH_COLUMNS}
        if self.iid_field is not None:
            history = self.iid_field + self.config["LIST_SUFFIX"]
            attached |= {history, self.config["NEG_PREFIX"] + history}
        check_loaded(self, token, Path(dataset_path), attached)
        warn_of_times(self, Path(dataset_path))

    def _load_feat(self, filepath: str, source: FeatureSource) -> pd.DataFrame | None:
        load_col, _ = self._get_load_and_unload_col(source)
        if load_col == set():
            return None
        separator, encoding = self.config["field_separator"], encoding_of(self.config)
        header = read_header(Path(filepath), separator, encoding)
        check_header(self, Path(filepath), source, header, load_col or ())
        fields = [field for field in header if is_read(self, source, field)]
        check_read_once(self, Path(filepath), source, fields)
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

    def _data_processing(self) -> None:
        with compat.series_agg_len_by_row():
            super()._data_processing()
        check_label_values(self)

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
            feat, noun = getattr(self, name), _NOUNS.get(name, "line")
            for field in feat:
                kind = self.field2type[field]
                if kind == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0).astype(np.int64)
                    if len(feat) and not feat[field].any():
                        _logger.warning(
                            f"'{field}' has no value in any {noun}, so that models learn nothing "
                            "of it. Correct its file, or leave it out by load_col."
                        )
                elif kind == FeatureType.FLOAT:
                    if feat[field].isna().all():
                        raise ValueError(
                            f"dataset {self.dataset_name}: '{field}' has no value in any row. "
                            "Leave it out by load_col."
                        )
                    if field not in self._fitted_later:
                        feat[field] = feat[field].fillna(feat[field].mean())
                else:
                    feat[field] = feat[field].fillna(-1).astype(np.int64)

    def _preload_weight_matrix(self) -> None:
        """Nothing: no CTR model reads ``preload_weight``."""

    def _set_label_by_threshold(self) -> None:
        check_label(self)
        warn_of_copies(self)  # while rows have their ratings and exact times
        super()._set_label_by_threshold()

    def _normalize(self) -> None:
        self._scale()
        warn_of_large_numbers(self)

    def _scale(self) -> None:
        fields = self.config["normalize_field"] or (
            self.float_like_fields if self.config["normalize_all"] else []
        )
        # RecBole looks for the extremes in Python (dataset.py:694).
        for field in fields:
            if field in self._fitted_later:  # by normalize_all
                continue
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
        self.scales[field] = float(low), float(high)
        if low == high:
            _logger.warning(
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
            if field in self._fitted_later:
                continue
            if self.field2type[field] == FeatureType.FLOAT:
                of_recbole.append(field)
            elif field in cut:
                of_recbole.append(field)
                for feat in self.field2feats(field):
                    entries, lengths = self._cells[field].of(feat[field])
                    feat[field] = np.split(entries, np.cumsum(lengths)[:-1])
                    self._keep_buckets(field, entries)
            if field in cut and self.field2type[field] == FeatureType.FLOAT:
                for feat in self.field2feats(field):
                    self._keep_buckets(field, feat[field].to_numpy())
        self.config.final_config_dict["numerical_features"] = of_recbole
        try:
            super()._discretization()
        finally:
            self.config.final_config_dict["numerical_features"] = numbers

    def _keep_buckets(self, field: str, values: np.ndarray) -> None:
        how = self.config["discretization"][field]
        if how["method"] == "ED" and len(values):
            self.buckets[field] = Buckets.of_column(values, how["bucket"])

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
                is_pair = self._is_pair(field)
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
                if not is_token and self._is_pair(field):
                    values = torch.stack([values, torch.ones_like(values)], dim=-1)
                columns[field] = Ragged.of_lengths(values, torch.from_numpy(lengths))
        return Table(columns)

    def _is_pair(self, field: str) -> bool:
        return field in self.config["numerical_features"] and field not in self._fitted_later
