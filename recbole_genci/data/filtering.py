"""Leave rows out: the same rows as RecBole's filters, by masks over whole columns."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from recbole.utils import FeatureType

from recbole_genci.data.file_checks import (
    place_of_row,
)
from recbole_genci.data.reading import AtomicDataset

_logger = logging.getLogger(__name__)


class FilteredDataset(AtomicDataset):
    """A dataset that says which rows its filters leave out, where nobody asked for it."""

    # The ids that the .user and the .item file describe, before any filter; empty afterwards.
    _described: dict[str, pd.Series]

    def _filter_nan_user_or_item(self) -> None:
        # RecBole drops rows twice and the second time treats index labels as positions
        # (dataset.py:834), so it would drop the wrong rows.
        if self.uid_field is None:
            return
        missing = self.inter_feat[[self.uid_field, self.iid_field]].isna().any(axis=1).to_numpy()
        if missing.any():
            place = place_of_row(self, Path(self.dataset_path), int(missing.argmax()))
            _logger.warning(
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
                if self.time_field is not None
                else feat
            )
            self.inter_feat = rows.drop_duplicates(
                [self.uid_field, self.iid_field], keep=keep
            ).sort_index()

    # RecBole's next three filters look each row up by its label (dataset.py:868, 1033, 1089); these
    # keep the same rows by one mask.

    def _filter_by_field_value(self) -> None:
        self._described = {
            name: getattr(self, name)[field]
            for name, field in (("user_feat", self.uid_field), ("item_feat", self.iid_field))
            if getattr(self, name) is not None
        }
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
        files, self._described = self._described, {}
        if self.config["filter_inter_by_user_or_item"] is not True:
            return
        rows, examples = len(self.inter_feat), ""
        kept, known = np.ones((2, rows), dtype=bool)
        for name, before in files.items():
            field, ids = before.name, self.inter_feat[before.name]
            kept &= ids.isin(getattr(self, name)[field]).to_numpy()
            described = ids.isin(before).to_numpy()  # val_interval asked for the others
            known &= described
            if not described.all():
                lacking = ids.iloc[int(described.argmin())]
                file = f"{self.dataset_name}.{name.removesuffix('_feat')}"
                there = f"has {before.iloc[0]!r}" if len(before) else "has no line"
                examples += f" Rows have {field} {lacking!r}, and {file} {there}, for example."
        if not kept.all():
            self.inter_feat = self.inter_feat[kept].reset_index(drop=True)
        if not known.all():
            _logger.warning(
                f"{rows - known.sum()} of {rows} rows are left out, because their user or "
                f"item has no line in the .user or .item file.{examples} Set "
                "filter_inter_by_user_or_item: False to keep them, with padding for features."
            )

    def _filter_by_inter_num(self) -> None:
        sides = []
        for name, field in (("user", self.uid_field), ("item", self.iid_field)):
            intervals = self._parse_intervals_str(self.config[f"{name}_inter_num_interval"])
            if intervals and field is not None:
                if len(intervals) > 1:
                    _logger.warning(f"{name}_inter_num_interval: more than one interval is given.")
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


class _Counted:
    """The users, or the items, of a dataset, of which some have too few or too many rows.

    Args:
        dataset: while it is filtered.
        name: of the table of their features, which may be None.
        field: their id.
        intervals: allowed numbers of rows, as RecBole parses them.
    """

    def __init__(self, dataset: FilteredDataset, name: str, field: str, intervals: list) -> None:
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
