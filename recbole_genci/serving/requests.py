"""What a caller asks of a run: users with their histories and features, and the rows' context."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from recbole.utils import FeatureType

from recbole_genci.data.history import History, HistoryPointers
from recbole_genci.data.table import Table, rows_of
from recbole_genci.serving.features import FeatureReader
from recbole_genci.serving.given_cells import (
    as_names,
    check_distinct,
    listed,
    no_number_words,
    tell_unread,
    untyped_hint,
)
from recbole_genci.utils.atomic_files.lines import LARGEST_NUMBER
from recbole_genci.utils.value_checks import shortened

Histories: TypeAlias = Mapping[str, Sequence[str]]
UserFeatures: TypeAlias = Mapping[str, Mapping[str, object]] | pd.DataFrame


@dataclass(frozen=True)
class Request:
    """Users ``[U]`` that are scored together.

    Attributes:
        names: the users' names.
        users: their ids; 0 for users that the run does not know.
        user_feat: features of these users ``[U]``; None for those of the run.
        user_rows: the row of each user in ``user_feat``, or in the run's.
        pointers: where each user's history is.
        clicks: items ``[L]`` of the histories that the caller gave, by user name.
        context: the rows' own features, ``[1]`` or ``[1, L]``.
    """

    names: list[str]
    users: np.ndarray
    user_feat: Table | None
    user_rows: np.ndarray
    pointers: HistoryPointers
    clicks: dict[str, np.ndarray]
    context: dict[str, torch.Tensor]

    def of(self, place: np.ndarray | slice) -> Request:
        """The part of the request that is about the users at ``place``."""
        names = np.empty(len(self.names), dtype=object)
        names[:] = self.names
        return replace(
            self,
            names=names[place].tolist(),
            users=self.users[place],
            user_rows=self.user_rows[place],
            pointers=self.pointers.of(place),
        )


class RequestReader:
    """Checks what is asked of a run, and makes requests of it.

    Args:
        features: reads names and values as the run does.
    """

    def __init__(self, features: FeatureReader) -> None:
        self.features, self.whole, self.config = features, features.whole, features.config

    def read(
        self,
        users: Sequence[str],
        histories: Histories | None = None,
        context: Mapping[str, object] | None = None,
        user_features: UserFeatures | None = None,
        append: bool = False,
    ) -> Request:
        """The request of ``Ranker.score`` and ``Ranker.recommend``, with their errors."""
        uid = self.whole.uid_field
        users = listed([users] if isinstance(users, str) else users, uid)
        if not users:
            raise ValueError("users: none are given.")
        if not isinstance(append, bool):
            raise ValueError(f"append: {shortened(append)} is neither True nor False.")
        for name, given, form in (
            ("histories", histories, "{user: [item, ...]}"),
            ("context", context, "{feature: value}"),
        ):
            if given is not None and not isinstance(given, Mapping):
                raise ValueError(f"{name}: {shortened(given)} is not of the form {form}.")
        clicks = {user: self._clicks(user, items) for user, items in (histories or {}).items()}
        frame = self.user_frame(user_features)
        self.tell_unread(user_features)
        ids, unknown = self.features.split_ids(uid, users)
        described = set(clicks) | (set() if frame is None else set(frame.index))
        strangers = [n for n in unknown if not isinstance(n, str) or n not in described]
        if strangers:
            hint = (
                " For a user who is new, give a history by histories=, [] if there is no click, "
                "or user_features=."
            )
            raise ValueError(self.features.unknown_words(uid, users, strangers, hint))
        for name, given in (("histories", clicks), ("user_features", user_features)):
            asked = given if isinstance(given, Mapping) else ()
            if others := sorted(set(asked) - set(users), key=str):
                raise ValueError(
                    f"{name}: {shortened(others[0])} is not one of the users asked for."
                )
        values = self._context(context or {})
        user_feat, user_rows = self.user_table(users, ids, frame)
        pointers = self._pointers(users, ids, clicks, append)
        self.features.warn_of_unknown()
        return Request(
            names=users,
            users=ids,
            user_feat=user_feat,
            user_rows=user_rows,
            pointers=pointers,
            clicks=clicks,
            context=values,
        )

    def _clicks(self, user: str, items: Sequence[str]) -> np.ndarray:
        try:
            return self.features.known_ids(self.whole.iid_field, items)
        except ValueError as error:
            raise ValueError(f"histories: of {shortened(user)}, {error}") from error

    # ---------------------------------------------------------------- features of users

    def user_frame(self, given: UserFeatures | None) -> pd.DataFrame | None:
        """The features of users that a caller gives, by user name; None if none are given.

        Raises:
            ValueError: they have another form, a user stands there twice, or the run has no such
                feature of users. Further columns of a frame, such as a file may have, are left out;
                ``tell_unread`` names them.
        """
        if given is None:
            return None
        uid = self.whole.uid_field
        if uid is None:
            if isinstance(given, Mapping) and not given:
                return None
            raise ValueError("user_features: the run's rows have no user (USER_ID_FIELD).")
        known = self._user_fields
        if not isinstance(given, pd.DataFrame):
            rows = given.values() if isinstance(given, Mapping) else ()
            if not isinstance(given, Mapping) or not all(isinstance(r, Mapping) for r in rows):
                raise ValueError(
                    f"user_features: {shortened(given)} is not of the form {{user: {{feature: "
                    "value}}."
                )
            fields = list(dict.fromkeys(field for row in rows for field in row))
            if unknown := [field for field in fields if field not in known]:
                raise ValueError(
                    f"user_features: '{unknown[0]}' is no feature of this run's users; they have "
                    f"{', '.join(known) or 'none'}."
                )
            columns = {f: pd.Series([r.get(f) for r in rows], dtype=object) for f in fields}
            return pd.DataFrame(columns, index=pd.RangeIndex(len(rows))).set_axis(list(given))
        check_distinct(list(given), "user_features")
        if uid not in given:
            raise ValueError(
                f"user_features: the frame has no column '{uid}'.{untyped_hint(given)}"
            )
        frame = given[[field for field in given if field in known]]
        frame.index = pd.Index(as_names(given[uid], uid), dtype=object)
        if frame.index.has_duplicates:
            twice = frame.index[frame.index.duplicated()][0]
            raise ValueError(f"user_features: user {shortened(twice)} stands there twice.")
        return frame

    def tell_unread(self, given: UserFeatures | None) -> None:
        """Log which columns of a frame of users are not read; others have none of that kind."""
        if isinstance(given, pd.DataFrame):
            tell_unread("user_features", given, [self.whole.uid_field, *self._user_fields])

    @property
    def _user_fields(self) -> list[str]:
        """The features of the run's users."""
        table, uid = self.whole.user_feat, self.whole.uid_field
        return [] if table is None else [name for name in table.interaction if name != uid]

    def user_table(
        self, users: Sequence[str], ids: np.ndarray, frame: pd.DataFrame | None
    ) -> tuple[Table | None, np.ndarray]:
        """Features of users, with those of ``frame``, and each user's row; None without a frame.

        The user column of the table holds the id whose embedding a row gets.

        Args:
            users, ids: ``[U]`` names and ids; 0 for users that the run does not know.
        """
        table = self.whole.user_feat
        if frame is None or table is None or not len(frame):
            return None, ids
        # The padding's row, 0, has what a missing feature is in training.
        base = rows_of_table(table, ids)
        place = frame.index.get_indexer(pd.Index(users, dtype=object))
        values = {}
        for name in frame:
            cells = frame[name].astype(object).iloc[place].reset_index(drop=True)
            values[name] = cells.where(place >= 0, None)
        read = self.features.table(base, values, "user_features", users)
        return read, np.arange(len(ids))

    # ---------------------------------------------------------------- histories

    def _pointers(
        self,
        users: Sequence[str],
        ids: np.ndarray,
        clicks: Mapping[str, np.ndarray],
        append: bool,
    ) -> HistoryPointers:
        """Each user's pointers ``[U]`` into the run's histories with ``clicks`` behind them."""
        history, limit = self.whole.history, self.config["MAX_ITEM_LIST_LENGTH"]
        # The rank is later than that of every row.
        ranks = np.full(len(ids), history.num_ranks)
        pointers = HistoryPointers.before(history, ids, ranks, limit)
        if not clicks:
            return pointers
        sequences = []
        for user, begin, last in zip(users, pointers.first, pointers.end):
            own = history.items[begin:last].numpy()
            if user in clicks:
                own = np.concatenate([own[: len(own) * append], clicks[user]])
            sequences.append(own)
        lengths = np.array([len(items) for items in sequences])
        return of_sequences(history, np.concatenate(sequences), lengths, limit)

    # ---------------------------------------------------------------- context

    def _context(self, context: Mapping[str, object]) -> dict[str, torch.Tensor]:
        """A tensor ``[1]``, or ``[1, L]`` for a sequence, for each of the rows' own features."""
        own = self.features.row_fields
        self.features.check_row_fields("context")
        if unknown := sorted(set(context) - set(own), key=str):
            raise ValueError(
                f"context: '{unknown[0]}' is no feature of this run's rows; they have "
                f"{', '.join(own) or 'none'}."
            )
        if missing := [field for field in own if field not in context]:
            raise ValueError(
                f"context: rows have a feature '{missing[0]}', and no value is given. Give one of "
                f"each of {', '.join(own)}."
            )
        return {field: self._value(field, context[field]) for field in own}

    def _value(self, field: str, value: Any) -> torch.Tensor:
        kind = self.whole.field2type[field]
        if field in self.whole.transforms and kind != FeatureType.FLOAT_SEQ:
            found = self.features.column(field, [value], "context")
            return found if isinstance(found, torch.Tensor) else found[:]
        if kind == FeatureType.TOKEN:
            return (
                torch.zeros(1, dtype=torch.int64)
                if value is None or isinstance(value, str) and not value
                else torch.from_numpy(self.features.known_ids(field, [value]))
            )
        if kind == FeatureType.TOKEN_SEQ:
            ids = torch.zeros(1, self.whole.field2seqlen[field], dtype=torch.int64)
            names = [] if value is None else listed(value, field)
            known = self.features.known_ids(field, names[: self.features.read_length(field)])
            self.features.count_longer(field, int(len(known) > ids.shape[1]))
            known = known[: ids.shape[1]]
            ids[0, : len(known)] = torch.from_numpy(known)
            return ids
        if kind == FeatureType.FLOAT:
            try:
                number = float(value) if isinstance(value, Real) else math.nan
            except OverflowError:  # a whole number beyond all floats
                number = math.inf
            if not abs(number) <= LARGEST_NUMBER:
                why = no_number_words(number)
                raise ValueError(
                    f"context: '{field}' is {shortened(value)}, {why}. In training a missing one "
                    "was the mean of its column."
                )
            if field in (self.config["discretization"] or ()):
                column = self.features.column(field, [value], "context")
                assert isinstance(column, torch.Tensor)
                return column
            # RecBole's pair of number and bucket; there is one bucket.
            return torch.tensor([[number, 1.0]])
        raise ValueError(
            f"context: '{field}' is a {kind.value}, and cannot be given by its value. Give rows to "
            "score_rows instead, with a list in each cell of this column."
        )


def of_sequences(
    history: History, items: np.ndarray, lengths: np.ndarray, limit: int
) -> HistoryPointers:
    """A history of the given sequences alone, so that a request copies no other clicks of the run.

    Args:
        history: the run's, whose users and times the result keeps.
        items: the items of all sequences, one after another.
        lengths: ``[S]`` number of items of each sequence.
        limit: the largest length of a history.

    Returns:
        pointers ``[S]`` to the first item of each sequence and to its last ``limit`` items.
    """
    end = np.cumsum(lengths)
    clicks = torch.from_numpy(items.astype(np.int32))
    # Only DIEN's auxiliary loss reads negatives, never a prediction; any item will do.
    made = History(clicks, clicks, history.keys, history.num_ranks)
    return HistoryPointers(
        history=made, first=end - lengths, start=end - np.minimum(lengths, limit), end=end
    )


def rows_of_table(table: Table, ids: np.ndarray) -> Table:
    """Rows ``[R]`` of a feature table."""
    index = torch.from_numpy(np.ascontiguousarray(ids))
    return Table({name: rows_of(table[name], index) for name in table.interaction})
