"""Values that people give for features, as the columns that models read."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from recbole.utils import FeatureType

from recbole_genci.data.buckets import Buckets
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.fitting import RARE_ID
from recbole_genci.data.table import Column, Table, joined, rows_of
from recbole_genci.serving.given_cells import (
    CellError,
    distinct_names,
    entries_of,
    is_missing,
    listed,
    naming_rows,
    numbers_of,
)
from recbole_genci.utils.ragged import Ragged
from recbole_genci.utils.value_checks import nearest, shortened
from recbole_genci.utils.words import are, counted

_logger = logging.getLogger(__name__)


class FeatureReader:
    """Reads the values of features as a run's models read them.

    Tokens that the run does not know count as missing: they get the padding's embedding.
    ``warn_of_unknown`` says how many there were. In columns of ``min_count`` they are rare, as are
    those that few training rows have. Numbers are brought to the scale of training, and to its
    buckets; those beyond its range get the first or the last one.

    Args:
        parts: the run's training, validation and test rows.
    """

    def __init__(self, parts: Sequence[CTRDataset]) -> None:
        self.parts, self.whole, self.config = parts, parts[0], parts[0].config
        # By field: number of values, the first of them.
        self._unknown: dict[str, list] = {}
        self._outside: dict[str, list] = {}
        self._longer: dict[str, int] = {}  # By field: number of sequences.
        self._vocabularies: dict[str, pd.Index] = {}

    @cached_property
    def row_fields(self) -> list[str]:
        """The features that belong to a row, not to its user or item, and that models read."""
        return self.whole.row_features

    def ids(self, field: str, names: pd.Series | Sequence) -> np.ndarray:
        """The ids ``[R]`` of names; 0 for a missing one, -1 for one that the run does not know.

        In columns of ``min_count`` such a one has the id of rare ones.
        """
        if field not in self._vocabularies:
            tokens = self.whole.field2id_token[field]
            self._vocabularies[field] = pd.Index(tokens[1:], dtype=object)
        codes, written = distinct_names(names, field)
        ids = self._vocabularies[field].get_indexer(pd.Index(written, dtype=object)) + 1
        unknown = RARE_ID if field in self.whole.rare else -1
        ids = np.where(written == "", 0, np.where(ids == 0, unknown, ids))
        return np.append(ids, 0)[codes]  # the code of a missing name is -1

    def known_ids(self, field: str, names: Iterable) -> np.ndarray:
        """The ids ``[R]`` of names that must all be known.

        Raises:
            ValueError: a name is unknown; or ``names`` is no list of names.
        """
        names = listed(names, field)
        ids, unknown = self.split_ids(field, names)
        if unknown:
            raise ValueError(self.unknown_words(field, names, unknown))
        return ids

    def split_ids(self, field: str, names: Sequence) -> tuple[np.ndarray, list]:
        """The ids ``[R]`` of names, 0 where unknown, and the unknown names."""
        if field in self.whole.rare:
            return self.ids(field, names), []
        known = self.whole.field2token_id[field]
        try:
            ids = [known.get(name, 0) for name in names]
        except TypeError:  # a list, for example, which cannot be looked up
            ids = [known.get(name, 0) if isinstance(name, Hashable) else 0 for name in names]
        return np.array(ids, dtype=np.int64), [name for name, id in zip(names, ids) if not id]

    def unknown_words(self, field: str, names: Sequence, unknown: Sequence, hint: str = "") -> str:
        """The sentence that refuses unknown names."""
        others = [str(name) for name in self.whole.field2id_token[field][1:]]
        return (
            f"{field}: {len(unknown)} of {len(names)} are unknown to this run, the first is "
            f"{shortened(unknown[0])}.{nearest(str(unknown[0]), others)} Names are strings, as in "
            f"the atomic files.{hint}"
        )

    def column(self, field: str, values: pd.Series | Sequence, name: str = "") -> Column:
        """The column of a feature, ``[R]``, ``[R, 2]`` or `Ragged`, from its values.

        A missing value is None, NaN or an empty text. Sequences are lists, or texts with the
        run's ``seq_separator`` between entries. A missing number becomes the mean of training.

        Args:
            field: a feature of the run.
            values: R values.
            name: who gave them, for errors.

        Raises:
            CellError: a number is none, or a name is.
            ValueError: the run does not hold a feature's scale or buckets.
        """
        kind, where = self.whole.field2type[field], f"{name or 'features'}: '{field}'"
        cells = pd.Series(values).reset_index(drop=True)
        if field in self.whole.transforms:
            return self._transformed(field, cells, where)
        if kind == FeatureType.TOKEN:
            ids = self.ids(field, cells)
            self._count(field, cells, ids < 0)
            return torch.from_numpy(np.maximum(ids, 0))
        if kind == FeatureType.FLOAT:
            numbers = self._scaled(field, numbers_of(cells, where))
            if field in (self.config["discretization"] or {}):
                return self._cut(field, numbers, cells, where)
            missing = torch.from_numpy(np.isnan(numbers))
            column = torch.from_numpy(numbers.astype(np.float32))
            column = torch.where(missing, self.mean_of(field), column) if missing.any() else column
            return self._paired(field, column)
        return self._sequences(field, cells, where)

    def _transformed(self, field: str, cells: pd.Series, where: str) -> Column:
        """The column of a feature of ``transforms``, from its numbers as they are in files."""
        transform = self.whole.transforms[field]

        def new(given: pd.Series) -> torch.Tensor:
            numbers = np.array(numbers_of(given, where))  # a copy: pandas gives its own, locked
            found = transform(torch.from_numpy(numbers))
            return found if transform.makes_tokens else self._paired(field, found)

        if self.whole.given_type(field) == FeatureType.FLOAT:
            return new(cells)
        entries, lengths = self._entries(field, cells, where, of_numbers=True)
        with naming_rows(lengths):
            values = new(pd.Series(entries, dtype=object))
        return self._cut_off(field, Ragged.of_lengths(values, torch.from_numpy(lengths)))

    def read_length(self, field: str) -> int | None:
        """How many entries of a sequence count at most, by ``seq_len``; None for all."""
        return (self.config["seq_len"] or {}).get(field)

    def _entries(
        self, field: str, cells: pd.Series, where: str, of_numbers: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Entries ``[T]`` and lengths ``[R]`` of sequences, cut by ``seq_len`` as in training."""
        separator = self.config["seq_separator"]
        entries, lengths = entries_of(cells, separator, where, of_numbers)
        limit = self.read_length(field)
        if limit is None:
            return entries, lengths
        place = np.arange(len(entries)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return entries[place < limit], np.minimum(lengths, limit)

    def _cut_off(self, field: str, column: Ragged) -> Ragged:
        """Sequences with no more entries than those of training have."""
        limit = self.whole.field2seqlen[field]
        self.count_longer(field, int((column.lengths > limit).sum()))
        end = torch.minimum(column.end, column.start + limit)
        return Ragged(column.values, column.start, end)

    def count_longer(self, field: str, number: int) -> None:
        """Keep for a warning that so many sequences were longer than any of training."""
        if number:
            self._longer[field] = self._longer.get(field, 0) + number

    def _sequences(self, field: str, cells: pd.Series, where: str) -> Ragged:
        of_numbers = self.whole.field2type[field] == FeatureType.FLOAT_SEQ
        entries, lengths = self._entries(field, cells, where, of_numbers)
        with naming_rows(lengths):
            return self._sequences_of(field, entries, lengths, where)

    def _sequences_of(
        self, field: str, entries: np.ndarray, lengths: np.ndarray, where: str
    ) -> Ragged:
        """The column of sequences ``[R]``, from their entries ``[T]``."""
        if self.whole.field2type[field] == FeatureType.TOKEN_SEQ:
            ids = self.ids(field, entries)
            self._count(field, pd.Series(entries, dtype=object), ids < 0)
            row = np.repeat(np.arange(len(lengths)), lengths)[ids > 0]
            lengths = np.bincount(row, minlength=len(lengths))
            values = torch.from_numpy(ids[ids > 0])
        else:
            given = pd.Series(entries, dtype=object)
            numbers = self._scaled(field, numbers_of(given, where))
            missing = np.isnan(numbers)
            if field in (self.config["discretization"] or {}):
                values = self._cut(field, numbers, given, where)
            elif missing.any():
                raise CellError(
                    f"{where} has a sequence with a missing number, which models cannot read. "
                    "Leave that entry out, or give a number.",
                    missing.argmax(),
                )
            else:
                values = self._paired(field, torch.from_numpy(numbers.astype(np.float32)))
        return self._cut_off(field, Ragged.of_lengths(values, torch.from_numpy(lengths)))

    def table(
        self, base: Table, values: Mapping[str, pd.Series], name: str, owners: Sequence[str]
    ) -> Table:
        """Rows of a feature table with the values that are given; the rest stays as in ``base``.

        Args:
            base: ``[R]`` rows.
            values: some of the table's features; missing values keep those of ``base``.
            name: who gave them, for errors.
            owners: ``[R]`` names of the users or items, for errors.

        Raises:
            ValueError: as for `column`; names the user or item.
        """
        columns = dict(base.interaction)
        for field, cells in values.items():
            given = torch.from_numpy(~is_missing(cells))
            try:
                column = self.column(field, cells, name)
            except CellError as error:
                owner = shortened(str(owners[error.cell]))
                raise ValueError(f"{error} (It is that of {owner}.)") from error
            both = joined([base[field], column])
            place = torch.arange(len(given))
            columns[field] = rows_of(both, torch.where(given, place + len(given), place))
        return Table(columns)

    def warn_of_unknown(self) -> None:
        """Log how many values were unknown, or beyond those of training, since the last call."""
        found, self._unknown = self._unknown, {}
        for field, (count, first) in list(found.items()):  # other threads may be reading, too
            _logger.warning(
                f"{counted(count, 'value')} of '{field}' {are(count)} unknown to this run, the "
                f"first is {shortened(first)}. {'It counts' if count == 1 else 'They count'} as "
                "missing."
            )
        found, self._outside = self._outside, {}
        for field, (count, first) in list(found.items()):
            _logger.warning(
                f"{counted(count, 'value')} of '{field}' {are(count)} beyond the range of "
                f"training, the first is {shortened(first)}. "
                f"{'It gets' if count == 1 else 'They get'} its first or last bucket."
            )
        longer, self._longer = self._longer, {}
        for field, count in list(longer.items()):
            _logger.warning(
                f"{counted(count, 'sequence')} of '{field}' {are(count)} longer than all of this "
                f"run: only the first {self.whole.field2seqlen[field]} entries are read."
            )

    def _count(self, field: str, cells: pd.Series, is_unknown: np.ndarray) -> None:
        if is_unknown.any():
            first = str(cells.iloc[int(is_unknown.argmax())])
            entry = self._unknown.setdefault(field, [0, first])
            entry[0] += int(is_unknown.sum())

    def _cut(self, field: str, numbers: np.ndarray, given: pd.Series, where: str) -> torch.Tensor:
        """RecBole's pairs ``[R, 2]`` of 1 and bucket; a missing number has the bucket of the mean.

        Args:
            numbers: ``[R]``, brought to the scale of training.
            given: the same as they were given.
        """
        buckets = self._buckets(field, where)
        outside = buckets.is_outside(numbers)
        if outside.any():
            entry = self._outside.setdefault(field, [0, str(given.iloc[int(outside.argmax())])])
            entry[0] += int(outside.sum())
        numbers = np.where(np.isnan(numbers), buckets.mean, numbers)
        last = self.whole.field2bucketnum[field] - 1  # bucket 0 is the padding's
        found = torch.from_numpy(buckets.numbers(numbers, last).astype(np.float32))
        return torch.stack([torch.ones_like(found), found], dim=-1)

    def _buckets(self, field: str, where: str) -> Buckets:
        """The buckets of a field; raises ValueError if the run does not hold them."""
        if field in self.whole.buckets:
            return self.whole.buckets[field]
        remedy = "Train a run with method ED, or with `transforms`"
        if field in self.row_fields:  # which each row must have
            remedy = f"It can score no rows but its own. {remedy}"
        else:
            remedy = "Leave it out; it then counts as missing"
        raise ValueError(
            f"{where} was discretised in training, by method LD, which only numbers the values "
            f"that were there. {remedy}."
        )

    def check_row_fields(self, name: str) -> None:
        """Raise ValueError if the run cannot read new values of a feature of rows, whatever they
        are; ``name`` says who would give them.
        """
        cut = self.config["discretization"] or {}
        for field in self.row_fields:
            if field in cut and field not in self.whole.transforms:
                self._buckets(field, f"{name}: '{field}'")

    def scale_of(self, field: str) -> tuple[float, float] | None:
        """The least and the largest number of a field in training, which became 0 and 1; None if
        its numbers stayed as they are.
        """
        return self.whole.scales.get(field)

    def _scaled(self, field: str, numbers: np.ndarray) -> np.ndarray:
        """Numbers brought to 0 to 1 as those of training were."""
        scale = self.scale_of(field)
        if scale is None:
            return numbers
        low, high = scale
        return (
            np.where(np.isnan(numbers), np.nan, 1.0)
            if low == high
            else (numbers - low) / (high - low)
        )

    def mean_of(self, field: str) -> torch.Tensor:
        """What a missing number was in training: the mean of the column."""
        for table in (self.whole.user_feat, self.whole.item_feat):
            if table is not None and field in table.interaction:
                column = table[field][0]  # the padding has no number of its own
                return column[0] if column.dim() else column
        column = torch.cat([part.inter_feat[field] for part in self.parts])
        return (column[:, 0] if column.dim() > 1 else column).double().mean().float()

    def _paired(self, field: str, column: torch.Tensor) -> torch.Tensor:
        """RecBole's pairs of number and bucket, for numbers that models read; one bucket."""
        if field not in (self.config["numerical_features"] or ()):
            return column
        return torch.stack([column, torch.ones_like(column)], dim=-1)
