"""Serve a finished run: score items for users, or recommend the best items for them."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_genci.data.column_names import HISTORY_END, HISTORY_FIRST, HISTORY_START
from recbole_genci.data.history import History
from recbole_genci.data.loaders import create_loader
from recbole_genci.evaluation.scoring import score_rows
from recbole_genci.serving.saved_run import SavedRun, load
from recbole_genci.utils.validation import is_whole, nearest

ROWS_AT_ONCE = 2**20  # (user, item) pairs in memory at a time: about 40 MB of columns

_logger = logging.getLogger(__name__)

_TOKENS = (FeatureType.TOKEN, FeatureType.TOKEN_SEQ)


@dataclass(frozen=True)
class _Request:
    """Users ``[U]`` that are scored together.

    Attributes:
        names: the users' names.
        users: their ids.
        history: a flat array of clicks.
        first, start, end: pointers to each user's first click in it, and to the user's history.
        clicks: items ``[L]`` of the histories that the caller gave, by user name.
        context: the rows' own features, ``[1]`` or ``[1, L]``.
    """

    names: list[str]
    users: np.ndarray
    history: History
    first: np.ndarray
    start: np.ndarray
    end: np.ndarray
    clicks: dict[str, np.ndarray]
    context: dict[str, torch.Tensor]


class Ranker:
    """Scores items for users with the model of a finished run.

    A user's history is every click in the run's rows, test rows included (with ``history_source:
    training``, only in its training rows). ``histories`` replaces it for the users that it names.
    The model reads the last ``MAX_ITEM_LIST_LENGTH`` items of a history. Users and items have their
    names of the atomic files. A user or item that the run has not seen has no embedding, and is
    refused.

    Args:
        run: a run that ``load`` returned, or the folder of a finished run.
        model, trust_code: for a folder, as for ``load``.

    Example:
        >>> ranker = Ranker("saved/GenCI-ml-100k-...")
        >>> # [2, 3] click probabilities
        >>> ranker.score(users=["196", "22"], items=["242", "302", "50"])
        >>> # the best items of the whole catalogue
        >>> ranker.recommend(["196"], k=10)
        >>> # the best of 200 items that GenCI generates
        >>> ranker.recommend(["196"], k=10, candidates=200)
        >>> # as if the user's only clicks were these, oldest first
        >>> ranker.recommend(["196"], histories={"196": ["242", "302"]})
    """

    def __init__(
        self, run: SavedRun | str | Path, model: str | type | None = None, trust_code: bool = False
    ) -> None:
        self.run = run if isinstance(run, SavedRun) else load(run, model, trust_code)
        self._whole = self.run.parts[0]
        self._num_items = self._whole.item_num
        users, items = self._whole.uid_field, self._whole.iid_field
        pairs = [
            part.inter_feat[users].numpy() * self._num_items + part.inter_feat[items].numpy()
            for part in self.run.parts
        ]
        self._seen = np.unique(np.concatenate(pairs))

    def score(
        self,
        users: Sequence[str],
        items: Sequence[str] | None = None,
        histories: Mapping[str, Sequence[str]] | None = None,
        context: Mapping[str, object] | None = None,
    ) -> np.ndarray:
        """Click probabilities ``[U, I]`` float32 of ``items`` for each of ``users``.

        Args:
            users: U users.
            items: I items; None means all items of the run, in the order of ``Ranker.items``.
            histories: the clicks of some of the users, oldest first. They replace all clicks of
                these users in the run's rows.
            context: the value of every feature that belongs to a row, not to its user or item; all
                rows get the same values. Give numbers as the model reads them, after RecBole's
                normalisation, and None for a missing token.

        Raises:
            ValueError: a user, item or feature value is unknown, or a feature of the rows has no
                value.
        """
        columns = (
            self._ids(items, self._whole.iid_field)
            if items is not None
            else np.arange(1, self._num_items)
        )
        chunks = [
            self._score(request, np.broadcast_to(columns, (len(request.users), len(columns))))
            for request in self._requests(users, histories, context, len(columns))
        ]
        return np.concatenate(chunks)

    @property
    def items(self) -> np.ndarray:
        """Names of all items ``[I]``, in the order of ``score``'s columns."""
        return self._whole.field2id_token[self._whole.iid_field][1:]

    def recommend(
        self,
        users: Sequence[str],
        k: int = 10,
        candidates: int | None = None,
        exclude_seen: bool = True,
        histories: Mapping[str, Sequence[str]] | None = None,
        context: Mapping[str, object] | None = None,
    ) -> pd.DataFrame:
        """The k items with the highest click probability for each of ``users``.

        Args:
            users, histories, context: as for ``score``.
            k: number of items for each user; fewer if fewer remain.
            candidates: for GenCI only: rank this many items from its generator (Eq. 6) instead of
                the whole catalogue. If fewer than k of them are new to a user, the generator
                searches again, twice as wide each time, until it finds k unseen items; the first
                ``candidates`` of the unseen ones are then ranked.
            exclude_seen: whether to leave out the items of all of a user's rows, with any label,
                and of the user's entry in ``histories``.

        Returns:
            DataFrame: ``user``, ``rank`` from 1, ``item``, ``probability``; users in the order of
                ``users``.

        Raises:
            ValueError: as for ``score``; or ``k`` or ``candidates`` is out of range, or the model
                generates no candidates.
        """
        if not is_whole(k):
            raise ValueError(f"k: {k!r} is not a whole number of at least 1.")
        if candidates is not None:
            if not self.run.model.generates_items:
                raise ValueError(
                    f"candidates: {self.run.config['model']} generates no items; without "
                    "candidates all are ranked."
                )
            if not is_whole(candidates, k):
                raise ValueError(
                    f"candidates: {candidates!r} is not a whole number of at least k, which is {k}."
                )
        tables: list[pd.DataFrame] = []
        short: list[str] = []
        asked = 0
        for request in self._requests(users, histories, context, candidates or self._num_items - 1):
            if candidates is None:
                items = np.broadcast_to(
                    np.arange(1, self._num_items), (len(request.users), self._num_items - 1)
                )
            else:
                items = self._candidates(request, candidates, k if exclude_seen else None)
            kept = self._is_unseen(request, items) if exclude_seen else items > 0
            scores = np.where(kept, self._score(request, items), -np.inf)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            items, scores = np.take_along_axis(items, best, 1), np.take_along_axis(scores, best, 1)
            names = self._whole.field2id_token[self._whole.iid_field][items]
            place, rank = np.nonzero(np.isfinite(scores))
            counts = np.bincount(place, minlength=len(request.names))
            short += [request.names[number] for number in np.flatnonzero(counts < k)]
            asked += len(request.names)
            tables.append(
                pd.DataFrame(
                    {
                        "user": np.asarray(request.names)[place],
                        "rank": rank + 1,
                        "item": names[place, rank],
                        "probability": scores[place, rank],
                    }
                )
            )
        table = pd.concat(tables, ignore_index=True)
        if short and self._num_items > k:
            _logger.warning(
                f"{len(short)} of {asked} users get fewer than k={k} items, the first is "
                f"{short[0]!r}: their rows and histories hold all the others. "
                "exclude_seen=False recommends these too."
            )
        return table

    # ---------------------------------------------------------------- requests

    def _requests(
        self,
        users: Sequence[str],
        histories: Mapping[str, Sequence[str]] | None,
        context: Mapping[str, object] | None,
        width: int,
    ) -> list[_Request]:
        """Check the request, and split it by users so that their pairs with ``width`` items fit
        into memory.
        """
        users = _listed([users] if isinstance(users, str) else users, self._whole.uid_field)
        if not users:
            raise ValueError("users: none are given.")
        ids = self._ids(users, self._whole.uid_field)
        if not isinstance(histories or {}, Mapping):
            raise ValueError(f"histories: {histories!r} is not of the form {{user: [item, ...]}}.")
        clicks = {
            user: self._ids(items, self._whole.iid_field)
            for user, items in (histories or {}).items()
        }
        if strangers := sorted(set(clicks) - set(users), key=str):
            raise ValueError(f"histories: {strangers[0]!r} is not one of the users asked for.")
        values = self._context(context or {})
        history, first, start, end = self._history(users, ids, clicks)
        size = max(1, ROWS_AT_ONCE // max(width, 1))
        parts = [slice(place, place + size) for place in range(0, len(users), size)]
        return [
            _Request(
                users[part], ids[part], history, first[part], start[part], end[part], clicks, values
            )
            for part in parts
        ]

    def _ids(self, names: Sequence[str], field: str) -> np.ndarray:
        known, names = self._whole.field2token_id[field], _listed(names, field)
        # ID 0 is padding.
        unknown = [name for name in names if not isinstance(name, Hashable) or not known.get(name)]
        if unknown:
            others = [str(name) for name, number in known.items() if number]
            raise ValueError(
                f"{field}: {len(unknown)} of {len(names)} are unknown to this run, the first is "
                f"{unknown[0]!r}.{nearest(str(unknown[0]), others)} Names are strings, as in the "
                "atomic files."
            )
        return np.array([known[name] for name in names], dtype=np.int64)

    def _history(
        self, users: Sequence[str], ids: np.ndarray, clicks: Mapping[str, np.ndarray]
    ) -> tuple[History, np.ndarray, np.ndarray, np.ndarray]:
        """The run's histories with ``clicks`` behind them, and each user's pointers ``[U]``."""
        history, limit = self._whole.history, self.run.config["MAX_ITEM_LIST_LENGTH"]
        first = history.first_clicks(ids)
        # The rank is later than that of every row.
        start, end = history.pointers(ids, np.full(len(ids), history.num_ranks), limit)
        if clicks:
            ends = len(history.items) + np.cumsum([len(items) for items in clicks.values()])
            pointers = {
                user: (last - len(items), last - min(len(items), limit), last)
                for (user, items), last in zip(clicks.items(), ends)
            }
            bounds = np.array(
                [pointers.get(user, own) for user, *own in zip(users, first, start, end)]
            )
            first, start, end = bounds.T
            more = torch.from_numpy(np.concatenate(list(clicks.values())))
            # Only DIEN's auxiliary loss reads negatives, never a prediction; any item will do.
            items, negatives = (
                torch.cat([history.items, more]),
                torch.cat([history.negatives, more]),
            )
            history = History(items, negatives, history.keys, history.num_ranks)
        return history, first, start, end

    def _context(self, context: Mapping[str, object]) -> dict[str, torch.Tensor]:
        """A tensor ``[1]``, or ``[1, L]`` for a sequence, for each of the rows' own features."""
        whole, numbers = self._whole, self.run.config["numerical_features"] or []
        own = [
            field
            for field in whole.fields(source=[FeatureSource.INTERACTION])
            if field in whole.inter_feat
            and field != whole.label_field
            and (whole.field2type[field] in _TOKENS or field in numbers)
        ]
        if unknown := sorted(set(context) - set(own), key=str):
            raise ValueError(
                f"context: '{unknown[0]}' is no feature of this run's rows; they have "
                f"{', '.join(own) or 'none'}."
            )
        if missing := [field for field in own if field not in context]:
            raise ValueError(
                f"context: rows have a feature '{missing[0]}'; give its value as "
                f"context={{'{missing[0]}': ...}}."
            )
        return {field: self._value(field, context[field]) for field in own}

    def _value(self, field: str, value: Any) -> torch.Tensor:
        kind = self._whole.field2type[field]
        if kind == FeatureType.TOKEN:
            return (
                torch.zeros(1, dtype=torch.int64)
                if value in (None, "")
                else torch.from_numpy(self._ids([value], field))
            )
        if kind == FeatureType.TOKEN_SEQ:
            ids = torch.zeros(1, self._whole.field2seqlen[field], dtype=torch.int64)
            known = self._ids(value, field)[: ids.shape[1]]
            ids[0, : len(known)] = torch.from_numpy(known)
            return ids
        if kind == FeatureType.FLOAT and field not in (self.run.config["discretization"] or ()):
            if not isinstance(value, Real) or not math.isfinite(value):
                raise ValueError(
                    f"context: '{field}' is {value!r}, which is no finite number. In training a "
                    "missing one was the mean of its column."
                )
            # RecBole's pair of number and bucket; there is one bucket.
            return torch.tensor([[float(value), 1.0]])
        raise ValueError(
            f"context: '{field}' is a {kind.value} or discretised, and cannot be given by its "
            "value."
        )

    # ---------------------------------------------------------------- scoring

    def _rows(self, request: _Request, user: np.ndarray, item: np.ndarray) -> AbstractDataLoader:
        """A loader over rows ``[R]`` of users, by their place in the request, and item ids."""
        whole = self._whole
        columns = {
            whole.uid_field: request.users[user],
            whole.iid_field: item,
            HISTORY_FIRST: request.first[user],
            HISTORY_START: request.start[user],
            HISTORY_END: request.end[user],
        }
        columns = {
            name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()
        }
        columns[whole.label_field] = torch.zeros(len(user))
        columns |= {
            field: value.expand(len(user), *value.shape[1:])
            for field, value in request.context.items()
        }
        part = whole.copy(Interaction(columns))
        part.history = request.history
        return create_loader(self.run.config, part, self.run.semantic_ids, "test")

    def _score(self, request: _Request, items: np.ndarray) -> np.ndarray:
        """Probabilities ``[U, C]`` of the items ``[U, C]``; 0 for item 0, which is no item."""
        user, column = np.nonzero(items)
        scores = np.zeros(items.shape, dtype=np.float32)
        if len(user):
            probabilities, _ = score_rows(
                self.run.model,
                self._rows(request, user, items[user, column]),
                self.run.config["device"],
            )
            scores[user, column] = probabilities.numpy()
        return scores

    def _candidates(self, request: _Request, candidates: int, unseen: int | None) -> np.ndarray:
        """Item ids ``[U, candidates]`` of the generator, filled up with 0.

        A user with fewer than ``unseen`` unseen items among them gets unseen items only, of a
        search that doubles its width until it finds so many. The width depends on the user alone,
        so that nobody's list depends on who else is asked for.
        """
        items, width = self._generated(request, candidates), candidates
        if unseen is None:
            return items
        place = np.flatnonzero(self._is_unseen(request, items).sum(1) < unseen)
        while len(place) and width < self._num_items - 1:
            width = min(2 * width, self._num_items - 1)
            size = max(1, ROWS_AT_ONCE // width)
            items[place] = np.concatenate(
                [
                    self._unseen(_of(request, place[first : first + size]), width, candidates)
                    for first in range(0, len(place), size)
                ]
            )
            place = place[(items[place] > 0).sum(1) < unseen]
        return items

    def _unseen(self, request: _Request, width: int, limit: int) -> np.ndarray:
        """The first ``limit`` unseen items of a search, ``[U, limit]``, filled up with 0."""
        items = self._generated(request, width)
        unseen = self._is_unseen(request, items)
        first = np.argsort(~unseen, axis=1, kind="stable")[:, :limit]
        return np.take_along_axis(np.where(unseen, items, 0), first, 1)

    @torch.no_grad()
    def _generated(self, request: _Request, candidates: int) -> np.ndarray:
        """Item ids ``[U, candidates]`` that the generator finds, filled up with 0."""
        users = np.arange(len(request.users))
        loader = self._rows(request, users, np.ones_like(users))  # the target item does not matter
        width = min(candidates, self._num_items - 1)
        generated = [
            self.run.model.generate_items(batch.to(self.run.config["device"]), width)[0].cpu()
            for batch, *_ in loader
        ]
        return torch.cat(generated).numpy()

    def _is_unseen(self, request: _Request, items: np.ndarray) -> np.ndarray:
        """Which items ``[U, C]`` are in no row of their user, nor in the user's given history."""
        seen = np.isin(request.users[:, None] * self._num_items + items, self._seen)
        for place, user in enumerate(request.names):
            if user in request.clicks:
                seen[place] |= np.isin(items[place], request.clicks[user])
        return (items > 0) & ~seen


def _of(request: _Request, place: np.ndarray) -> _Request:
    """The part of a request that is about the users at ``place`` ``[V]``."""
    return replace(
        request,
        names=[request.names[number] for number in place],
        users=request.users[place],
        first=request.first[place],
        start=request.start[place],
        end=request.end[place],
    )


def _listed(names: Iterable, field: str) -> list:
    """A collection of names as a list; raises ValueError for a single name or another value."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(
            f"{field}: {names!r} is not a list of names, as [{str(names)!r}] would be."
        )
    return list(names)
