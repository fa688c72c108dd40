"""Rows of a table as a model reads them: each with its own context, history and label."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd

from recbole_genci.data.history import HistoryPointers, earlier_times
from recbole_genci.data.times import OtherUnits
from recbole_genci.serving.given_cells import (
    CellError,
    as_names,
    check_distinct,
    distinct_names,
    entries_of,
    naming_rows,
    numbers_of,
    tell_unread,
    untyped_hint,
)
from recbole_genci.serving.requests import RequestReader, UserFeatures, of_sequences
from recbole_genci.serving.scorer import Rows, Scorer
from recbole_genci.utils.value_checks import shortened
from recbole_genci.utils.words import are, counted

_logger = logging.getLogger(__name__)


class RowReader:
    """Reads tables of rows for ``Ranker.score_rows`` and ``recbole_genci.predict``.

    ``report`` logs what was unknown, or in another unit, since the last report.

    Args:
        scorer: scores what is read.
        requests: reads names and values as the run does.
        user_features: of users in the rows and of others.
    """

    def __init__(
        self,
        scorer: Scorer,
        requests: RequestReader,
        user_features: UserFeatures | None = None,
    ) -> None:
        self._scorer, self._requests, self._features = scorer, requests, requests.features
        self._whole, self._config = scorer.whole, scorer.run.config
        self._given_features = user_features
        self._user_frame = requests.user_frame(user_features)
        self.history_field = f"{self._whole.iid_field}{self._config['LIST_SUFFIX']}"
        self._units = OtherUnits(self._whole.time_field, self._whole.rank_times)
        self._unknown_users = self._unknown_clicks = self._left_out = 0

    def check_columns(self, columns: Iterable[str]) -> None:
        """Raise ValueError if a table with these columns lacks one that is needed."""
        there = list(columns)
        check_distinct(there, "rows")
        self._features.check_row_fields("rows")
        needed = [*self._whole.id_fields.values(), *self._features.row_fields]
        if lacking := [name for name in needed if name not in there]:
            raise ValueError(
                f"rows: there is no column '{lacking[0]}', which the run's rows have; there are "
                f"{', '.join(map(str, there)) or 'none'}.{untyped_hint(there)}"
            )

    def lacks_times(self, columns: Iterable[str]) -> bool:
        """Whether rows need times to have their own histories, and columns neither give times nor
        histories: each row's history is then all clicks of its user, its own included.
        """
        gives = (self._whole.time_field, self.history_field)
        return (
            self._scorer.reads_history
            and self._whole.has_histories
            and not any(name in gives for name in columns)
        )

    def has_labels(self, columns: Iterable[str]) -> bool:
        """Whether columns give labels, as `labels` reads them."""
        return any(name in (self._whole.label_field, self._label_maker) for name in columns)

    @property
    def misplaces_times(self) -> bool:
        """Whether times were in another unit, so that a history may hold its own row, or nothing,
        since the last report.
        """
        return bool(self._units)

    def warn_of_times(self, columns: Iterable[str], of_labels: str) -> None:
        """Warn if columns lack times; ``of_labels`` says what then becomes of metrics."""
        there = list(columns)
        if self.lacks_times(there):
            _logger.warning(
                f"rows: there is no column '{self._whole.time_field}', so that each row's history "
                "is all clicks of its user, later ones and its own included"
                f"{f'; {of_labels}' if self.has_labels(there) else ''}."
            )

    def tell_unread(self, columns: Iterable[str]) -> None:
        """Log which of a table's columns are not read, and which of ``user_features``."""
        read = {*self._whole.id_fields.values(), *self._features.row_fields}
        read |= {self._whole.label_field, self._whole.time_field, self._label_maker}
        read |= {*(self._config["val_interval"] or ())}
        if self._scorer.reads_history:
            read.add(self.history_field)
        tell_unread("rows", columns, read)
        self._requests.tell_unread(self._given_features)

    def read(self, frame: pd.DataFrame) -> Rows:
        """The rows of a table, as ``Ranker.score_rows`` describes them.

        Raises:
            CellError: a value of a row is wrong.
            ValueError: the table is.
        """
        if not isinstance(frame, pd.DataFrame):
            raise ValueError(f"rows: {shortened(frame)} is no DataFrame.")
        self.check_columns(frame)
        frame = frame.reset_index(drop=True)
        users = self._users(frame)
        items = self._items(frame)
        pointers = self._pointers(frame, users)
        context = {
            field: self._features.column(field, frame[field], "rows")
            for field in self._features.row_fields
        }
        has_new_users = self._whole.uid_field is not None and bool((users == 0).any())
        user_feat = None
        if self._user_frame is not None:
            codes, names = pd.factorize(as_names(frame[self._whole.uid_field], "rows"))
            ids = np.empty(len(names), dtype=np.int64)
            ids[codes] = users
            user_feat, places = self._requests.user_table(list(names), ids, self._user_frame)
            users = places[codes]
        return Rows(
            users=users,
            items=items,
            pointers=pointers,
            context=context,
            user_feat=user_feat,
            has_new_users=has_new_users,
        )

    def score(self, frame: pd.DataFrame) -> np.ndarray:
        """Click probabilities ``[R]`` float32 of the rows of a table."""
        return self.scores(self.read(frame))

    def scores(self, rows: Rows) -> np.ndarray:
        """Click probabilities ``[R]`` float32 of rows that ``read`` gave."""
        return self._scorer.score(rows)

    def labels(self, frame: pd.DataFrame) -> np.ndarray | None:
        """Labels ``[R]`` float32 of 0 and 1; None if the table has none.

        They stand in the label column, or follow from the column of the run's ``threshold``.
        """
        name = self._whole.label_field
        if name in frame and name != self._label_maker:
            labels = numbers_of(frame[name], f"rows: the label in column '{name}'")
        else:
            name = self._label_maker
            if name not in frame:
                return None
            labels = numbers_of(frame[name], f"rows: '{name}', which makes the label,")
            least = self._config["threshold"][name]
            labels = np.where(np.isnan(labels), np.nan, labels >= least)
        bad = ~np.isin(labels, (0, 1))
        if bad.any():
            value = labels[bad][0]
            said = "missing" if np.isnan(value) else f"{value:g}"
            raise CellError(
                f"rows: a label, by column '{name}', is {said}; labels are 0 or 1. Leave the "
                "column out, and only scores are written.",
                bad.argmax(),
            )
        return labels.astype(np.float32)

    @property
    def _label_maker(self) -> str | None:
        """The column of the run's ``threshold``; None if it has none."""
        return next(iter(self._config["threshold"] or ()), None)

    def counted(self, frame: pd.DataFrame) -> np.ndarray:
        """Which rows ``[R]`` the run's ``val_interval`` keeps, as far as the table has its columns.

        The others are scored, and no metric counts them.
        """
        kept = np.ones(len(frame), dtype=bool)
        for field, wanted in (self._config["val_interval"] or {}).items():
            if field not in frame or wanted is None:
                continue
            where = f"rows: '{field}'"
            if isinstance(wanted, str):  # an interval of numbers, as they are in files
                intervals = self._whole._parse_intervals_str(wanted)
                kept &= self._whole._within_intervals(numbers_of(frame[field], where), intervals)
            else:  # a list of tokens, of which a missing one is none
                codes, names = distinct_names(frame[field], where)
                known = np.isin(names, wanted) & (names != "")
                kept &= np.append(known, False)[codes]
        self._left_out += int((~kept).sum())
        return kept

    def times(self, frame: pd.DataFrame) -> np.ndarray | None:
        """Times ``[R]`` float64; None if the table has none."""
        field = self._whole.time_field
        if field is None or field not in frame:
            return None
        return numbers_of(frame[field], f"rows: '{field}'")

    def report(self) -> None:
        """Log how many users and values were unknown, and times in another unit."""
        self._features.warn_of_unknown()
        if self._unknown_users:
            _logger.warning(
                f"{counted(self._unknown_users, 'row')} {are(self._unknown_users)} about users "
                f"that the run does not know. Such a user gets the {self._scorer.unseen} "
                "embedding; the features are those of user_features, or missing."
            )
        if self._unknown_clicks:
            _logger.warning(
                f"{counted(self._unknown_clicks, 'click')} of '{self.history_field}' "
                f"{are(self._unknown_clicks)} about items that the run does not know: left out."
            )
        if self._left_out:
            _logger.warning(
                f"{counted(self._left_out, 'row')} {are(self._left_out)} outside the run's "
                "val_interval, by which its own rows were chosen: scored, and left out of the "
                "metrics."
            )
        self._units.warn(
            "each row's history is all clicks of its user and no metric is given",
            "their histories are empty and no metric is given",
        )
        self._unknown_users = self._unknown_clicks = self._left_out = 0

    def _users(self, frame: pd.DataFrame) -> np.ndarray:
        """User ids ``[R]``, 0 for those that the run does not know, and without users."""
        field = self._whole.uid_field
        if field is None:
            return np.zeros(len(frame), dtype=np.int64)
        ids = self._features.ids(field, frame[field])
        if (ids == 0).any():
            raise CellError(f"rows: a row has no '{field}'.", (ids == 0).argmax())
        self._unknown_users += int((ids < 0).sum())
        return np.maximum(ids, 0)

    def _items(self, frame: pd.DataFrame) -> np.ndarray:
        """Item ids ``[R]``, 0 without items."""
        field = self._whole.iid_field
        if field is None:
            return np.zeros(len(frame), dtype=np.int64)
        ids = self._features.ids(field, frame[field])
        if (ids == 0).any():
            raise CellError(f"rows: a row has no '{field}'.", (ids == 0).argmax())
        if (ids < 0).any():
            unknown = pd.unique(as_names(frame[field][ids < 0], field)).tolist()
            hint = " Add new items first, by Ranker.with_items or --items."
            words = self._features.unknown_words(field, frame, unknown, hint)
            raise CellError(words, (ids < 0).argmax())
        return ids

    def _pointers(self, frame: pd.DataFrame, users: np.ndarray) -> HistoryPointers:
        """Pointers ``[R]`` to the rows' histories."""
        history, limit = self._whole.history, self._config["MAX_ITEM_LIST_LENGTH"]
        if not self._scorer.reads_history:
            none = np.zeros_like(users)
            return HistoryPointers(history=history, first=none, start=none, end=none)
        if self.history_field in frame:
            where = f"rows: '{self.history_field}'"
            separator = self._config["seq_separator"]
            entries, lengths = entries_of(frame[self.history_field], separator, where)
            with naming_rows(lengths):
                ids = self._features.ids(self._whole.iid_field, entries)
            row = np.repeat(np.arange(len(lengths)), lengths)[ids > 0]
            self._unknown_clicks += int((ids < 0).sum())
            lengths = np.bincount(row, minlength=len(lengths))
            return of_sequences(history, ids[ids > 0], lengths, limit)
        times, ranks = self.times(frame), np.full(len(users), history.num_ranks)
        if times is not None:
            ranks = self._ranks(times)
        return HistoryPointers.before(history, users, ranks, limit)

    def _ranks(self, times: np.ndarray) -> np.ndarray:
        """The number of the run's times ``[R]`` that are earlier than each of ``times``."""
        known, field = self._whole.rank_times, self._whole.time_field
        if np.isnan(times).any():
            raise CellError(f"rows: a row has no '{field}'.", np.isnan(times).argmax())
        assert known is not None  # rows with times have them
        self._units.count(times)
        return earlier_times(known, times)
