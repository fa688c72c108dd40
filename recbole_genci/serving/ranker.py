"""Serve a finished run: score items for users, or recommend the best items for them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_genci.serving.export import export_scorer
from recbole_genci.serving.features import FeatureReader
from recbole_genci.serving.given_cells import CellError
from recbole_genci.serving.new_items import run_with_items
from recbole_genci.serving.requests import Histories, Request, RequestReader, UserFeatures
from recbole_genci.serving.rows import RowReader
from recbole_genci.serving.saved_run import SavedRun, load
from recbole_genci.serving.scorer import Rows, Scorer
from recbole_genci.serving.unseen import MEAN
from recbole_genci.utils.value_checks import is_whole, shortened
from recbole_genci.utils.words import counted

#: Best by validation on ml-100k with hidden users, by a hair (benchmarks/unseen.py).
UNSEEN_USERS = MEAN

ROWS_AT_ONCE = 2**20  # (user, item) pairs in memory at a time: about 40 MB of columns

_logger = logging.getLogger(__name__)


class Ranker:
    """Scores items for users with the model of a finished run.

    A user's history is every click in the run's rows, test rows included (with ``history_source:
    training``, only in its training rows). ``histories`` replaces it for the users that it names,
    or goes on from it with ``append``. The model reads the last ``MAX_ITEM_LIST_LENGTH`` items of a
    history. Users and items have their names of the atomic files.

    A user that the run has not seen is scored if ``histories`` or ``user_features`` names them;
    else the name is refused, as it may be misspelt. ``with_items`` adds items. Neither the run
    nor its folder ever changes.

    A run whose rows have no users and items scores rows (``score_rows``) and exports its scorer;
    what asks for users or items raises ValueError.

    Args:
        run: a run that ``load`` returned, or the folder of a finished run.
        model, trust_code: for a folder, as for ``load``.
        unseen: the embedding of a user that the run has not seen: ``mean`` of those in training, or
            ``padding``, that of a missing user.

    Examples:
        >>> ranker = Ranker("saved/GenCI-ml-100k-...")
        >>> # [2, 3] click probabilities
        >>> ranker.score(users=["196", "22"], items=["242", "302", "50"])
        >>> # the best items of the whole catalogue
        >>> ranker.recommend(["196"], k=10)
        >>> # the best of 200 items that GenCI generates
        >>> ranker.recommend(["196"], k=10, candidates=200)
        >>> # as if the user's only clicks were these, oldest first
        >>> ranker.recommend(["196"], histories={"196": ["242", "302"]})
        >>> # a user whom the run does not know
        >>> ranker.recommend(["n"], histories={"n": ["242"]}, user_features={"n": {"age": 25}})
        >>> # items that came later, with their texts and features
        >>> ranker.with_items("later.item").recommend(["196"])
    """

    def __init__(
        self,
        run: SavedRun | str | Path,
        model: str | type | None = None,
        trust_code: bool = False,
        unseen: str = UNSEEN_USERS,
    ) -> None:
        self.run = run if isinstance(run, SavedRun) else load(run, model, trust_code)
        self.unseen = unseen
        self._whole = self.run.parts[0]
        self._scorer = Scorer(self.run, unseen)
        self._features = FeatureReader(self.run.parts)
        self._reader = RequestReader(self._features)
        self._said = False
        if self._whole.uid_field is not None:
            users, items = self._ids
            pairs = [
                part.inter_feat[users].numpy() * self._whole.item_num
                + part.inter_feat[items].numpy()
                for part in self.run.parts
            ]
            self._seen = np.unique(np.concatenate(pairs))

    def __repr__(self) -> str:
        sizes = "rows without users and items"
        if self._whole.uid_field is not None:
            sizes = f"{counted(len(self.users), 'user')}, {counted(len(self.items), 'item')}"
        return f"Ranker({self.run.in_words()}; {sizes})"

    @cached_property
    def _is_item(self) -> np.ndarray:
        """Which ids ``[I + 1]`` are items: not padding, nor tokens that only aliases have."""
        is_item = np.ones(len(self._whole.field2id_token[self._ids[1]]), dtype=bool)
        is_item[[0, *self._whole.only_aliases]] = False
        return is_item

    @cached_property
    def _item_ids(self) -> np.ndarray:
        """Ids of all items ``[I]``."""
        return np.flatnonzero(self._is_item)

    @property
    def _ids(self) -> tuple[str, str]:
        """The fields of users and of items."""
        users, items = self._whole.uid_field, self._whole.iid_field
        if users is None or items is None:
            raise ValueError(
                "The run's rows have neither users nor items (USER_ID_FIELD, ITEM_ID_FIELD), so "
                "nothing can be ranked. Ranker.score_rows scores rows."
            )
        return users, items

    @property
    def users(self) -> np.ndarray:
        """Names of all users ``[U]`` of the run."""
        return self._whole.field2id_token[self._ids[0]][1:]

    @property
    def items(self) -> np.ndarray:
        """Names of all items ``[I]``, in the order of ``score``'s columns."""
        return self._whole.field2id_token[self._ids[1]][self._item_ids]

    @cached_property
    def texts(self) -> dict[str, str]:
        """The text of each item, from which its semantic ID was made; empty if the run has none."""
        return self.run.item_texts()

    def with_items(self, items: pd.DataFrame | str | Path, unseen: str | None = None) -> Ranker:
        """A ranker whose catalogue has further items. This one stays as it is.

        The run's frozen tokenizer gives new items their semantic IDs, by their texts; the IDs of
        the run's items do not move. GenCI generates the new items too, and they join the cohorts
        of their codes, so that scores of other items may change a little.

        Args:
            items: the new items: a DataFrame, or an atomic .item, .csv or .parquet file. It needs
                the item column and, for a model with semantic IDs, the columns of their texts;
                features that it lacks count as missing. Items that the run has are left out.
            unseen: the embedding of an item itself, which no training has seen: ``cohorts``, the
                mean over the items in training that share a code, level by level; ``mean`` of all
                items in training; or ``padding``, that of a missing item, which is the default.

        Raises:
            ValueError: no item is new, one is given twice, a column is missing, the run does not
                hold its tokenizer, or more items share their codes than the collision level holds.
            FileNotFoundError: the file does not exist.
        """
        return Ranker(run_with_items(self.run, items, unseen), unseen=self.unseen)

    def score(
        self,
        users: Sequence[str],
        items: Sequence[str] | None = None,
        histories: Histories | None = None,
        context: Mapping[str, object] | None = None,
        user_features: UserFeatures | None = None,
        append: bool = False,
    ) -> np.ndarray:
        """Click probabilities ``[U, I]`` float32 of ``items`` for each of ``users``.

        Args:
            users: U users.
            items: I items; None means all items of the run, in the order of ``Ranker.items``.
            histories: the clicks of some of the users, oldest first. They replace all clicks of
                these users in the run's rows, or follow them with ``append``.
            context: the value of every feature that belongs to a row, not to its user or item; all
                rows get the same values. Give numbers as the model reads them, after RecBole's
                normalisation, but those that it discretises, and those of ``transforms``, as in
                the atomic files, and None for a missing token.
            user_features: features of some of the users, ``{user: {feature: value}}`` or a
                DataFrame with the user column, as in the atomic .user file, before normalisation.
                What is not given is as in the run, and missing for a new user. Tokens that the run
                does not know count as missing, with a warning.
            append: whether ``histories`` follow the clicks of the run's rows.

        Raises:
            ValueError: an item, a user without history and features, or a value in ``context`` is
                unknown; or a feature of the rows has no value.
        """
        columns = (
            self._features.known_ids(self._ids[1], items) if items is not None else self._item_ids
        )
        requests = self._requests(users, histories, context, len(columns), user_features, append)
        chunks = [
            self._score(request, np.broadcast_to(columns, (len(request.users), len(columns))))
            for request in requests
        ]
        return np.concatenate(chunks)

    def recommend(
        self,
        users: Sequence[str],
        k: int = 10,
        candidates: int | None = None,
        exclude_seen: bool = True,
        histories: Histories | None = None,
        context: Mapping[str, object] | None = None,
        user_features: UserFeatures | None = None,
        append: bool = False,
    ) -> pd.DataFrame:
        """The k items with the highest click probability for each of ``users``.

        Args:
            users, histories, context, user_features, append: as for ``score``.
            k: number of items for each user; fewer if fewer remain.
            candidates: for GenCI only: rank this many items from its generator (Eq. 6) instead of
                the whole catalogue. If fewer than k of them are new to a user, the generator
                searches again, twice as wide each time, until it finds k unseen items; the first
                ``candidates`` of the unseen ones are then ranked.
            exclude_seen: whether to leave out the items of all of a user's rows, with any label,
                and of the user's entry in ``histories``.

        Returns:
            DataFrame: ``user``, ``rank`` from 1, ``item``, ``probability``, and ``text`` if the
                run has texts; users in the order of ``users``.

        Raises:
            ValueError: as for ``score``; or ``k`` or ``candidates`` is out of range, or the model
                generates no candidates.
        """
        self._check_numbers(k, candidates)
        tables: list[pd.DataFrame] = []
        short: list[str] = []
        asked = 0
        width = candidates or len(self._item_ids)
        for request in self._requests(users, histories, context, width, user_features, append):
            ranked, shorter = self._ranked(request, k, candidates, exclude_seen)
            tables.append(ranked)
            short += shorter
            asked += len(request.names)
        table = pd.concat(tables, ignore_index=True)
        if self.texts:
            table["text"] = [self.texts[item] for item in table["item"]]
        self._warn_of_short_lists(short, asked, k)
        return table

    def score_rows(
        self, rows: pd.DataFrame, user_features: UserFeatures | None = None
    ) -> np.ndarray:
        """Click probabilities ``[R]`` float32 of rows, each with its own context and history.

        A row's history is its cell in the column ``item_id_list`` (the item column's name and
        ``LIST_SUFFIX``), a list or a text with ``seq_separator`` between items, oldest first; else
        the clicks of its user in the run's rows that are strictly earlier than its time; else, in
        a table without times, all of them, later ones and the row's own included: measure no
        metric of these. A row of the run has the score of the run.

        Users that the run does not know are scored as ``unseen`` says, tokens that it does not
        know count as missing, and so do unknown items of a history; a warning gives their numbers.

        Args:
            rows: columns named as in the atomic files: user, item, every feature of rows, and
                possibly time and histories. Other columns are not read.
            user_features: as for ``score``; a DataFrame may hold other users too.

        Raises:
            ValueError: a column is missing, an item is unknown, or a number is none; names the
                row, from 1.
        """
        reader = self.row_reader(user_features)
        self._reader.tell_unread(user_features)
        try:
            scores = reader.score(rows)
        except CellError as error:
            raise ValueError(f"{error} (Row {error.cell + 1}.)") from error
        if reader.has_labels(rows):  # else they may be rows of now, which need no time
            reader.warn_of_times(rows, "a metric of these scores would be too high by this leak")
        reader.report()
        return scores

    def export(self, file: str | Path) -> dict[str, Any]:
        """Write the scorer as a program that runs without Python and without this package.

        A ``.pt2`` file is for ``torch.export.load`` and AOTInductor, an ``.onnx`` file for ONNX
        Runtime. Inputs are tensors of any number of rows: user and item ids, histories if the
        model reads them, and the rows' own features. Features of users and items, semantic IDs and
        weights are in the program. It gives click probabilities ``[B]``. On rows of the run they
        are within 1e-5 of ``score_rows``, which is checked before the file is kept; for numbers
        far outside those of training they may differ more. User id 0, a user whom the run does
        not know, is scored as ``unseen`` says.

        Beside it ``<file>.json`` says what each input is, and ``<file>.vocabularies.json`` numbers
        the tokens. Files of an earlier export are replaced. A program without its ``.json`` is one
        whose export did not end; export it again.

        Args:
            file: a .pt2 or .onnx file; .onnx needs onnx, onnxscript and onnxruntime.

        Returns:
            dict: the content of ``<file>.json``.

        Raises:
            ValueError: the model cannot be exported, which the error explains, or the file has
                another suffix or cannot be written.
            ImportError: packages for .onnx are missing.
        """
        return export_scorer(self._scorer, FeatureReader(self.run.parts), Path(file))

    def row_reader(self, user_features: UserFeatures | None = None) -> RowReader:
        """What scores rows chunk by chunk."""
        features = FeatureReader(self.run.parts)  # which counts what is unknown
        return RowReader(self._scorer, RequestReader(features), user_features)

    # ---------------------------------------------------------------- requests

    def _requests(
        self,
        users: Sequence[str],
        histories: Histories | None,
        context: Mapping[str, object] | None,
        width: int,
        user_features: UserFeatures | None = None,
        append: bool = False,
    ) -> list[Request]:
        """Check the request, and split it by users so that their pairs with ``width`` items fit
        into memory.
        """
        request = self._reader.read(users, histories, context, user_features, append)
        if histories and not self._scorer.reads_history and not self._said:
            self._said = True
            _logger.warning(
                f"histories: {self.run.config['model']} reads no histories, so that the clicks "
                "given change no score; recommend() only leaves these items out."
            )
        size = max(1, ROWS_AT_ONCE // max(width, 1))
        return [
            request.of(slice(place, place + size)) for place in range(0, len(request.users), size)
        ]

    def _check_numbers(self, k: int, candidates: int | None) -> None:
        """Refuse a ``k`` or ``candidates`` that is out of range, or that no generator serves."""
        if not is_whole(k):
            raise ValueError(f"k: {shortened(k)} is not a whole number of at least 1.")
        if candidates is None:
            return
        if not self.run.model.generates_items:
            raise ValueError(
                f"candidates: {self.run.config['model']} generates no items; without "
                "candidates all are ranked."
            )
        if not is_whole(candidates, k):
            raise ValueError(
                f"candidates: {shortened(candidates)} is not a whole number of at least k, "
                f"which is {k}."
            )

    # ---------------------------------------------------------------- scoring

    def _rows(self, request: Request, user: np.ndarray, item: np.ndarray) -> Rows:
        """Rows ``[R]`` of users, by their place in the request, and item ids."""
        context = {
            field: value.expand(len(user), *value.shape[1:])
            for field, value in request.context.items()
        }
        return Rows(
            users=request.user_rows[user],
            items=item,
            pointers=request.pointers.of(user),
            context=context,
            user_feat=request.user_feat,
            has_new_users=not request.users.all(),
        )

    def _score(self, request: Request, items: np.ndarray) -> np.ndarray:
        """Probabilities ``[U, C]`` of the items ``[U, C]``; 0 for item 0, which is no item."""
        user, column = np.nonzero(items)
        scores = np.zeros(items.shape, dtype=np.float32)
        scores[user, column] = self._scorer.score(self._rows(request, user, items[user, column]))
        return scores

    def _ranked(
        self, request: Request, k: int, candidates: int | None, exclude_seen: bool
    ) -> tuple[pd.DataFrame, list[str]]:
        """The best k items of each user, without their texts, and the users who get fewer."""
        if candidates is None:
            items = np.broadcast_to(self._item_ids, (len(request.users), len(self._item_ids)))
        else:
            items = self._candidates(request, candidates, k if exclude_seen else None)
        kept = self._is_unseen(request, items) if exclude_seen else items > 0
        scores = np.where(kept, self._score(request, items), -np.inf)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        items, scores = np.take_along_axis(items, best, 1), np.take_along_axis(scores, best, 1)
        names = self._whole.field2id_token[self._ids[1]][items]
        place, rank = np.nonzero(np.isfinite(scores))
        counts = np.bincount(place, minlength=len(request.names))
        short = [request.names[number] for number in np.flatnonzero(counts < k)]
        table = pd.DataFrame(
            {
                "user": np.asarray(request.names)[place],
                "rank": rank + 1,
                "item": names[place, rank],
                "probability": scores[place, rank],
            }
        )
        return table, short

    def _warn_of_short_lists(self, short: Sequence[str], asked: int, k: int) -> None:
        """Say which of the ``asked`` users get fewer than k items, if there are as many items."""
        if short and len(self._item_ids) >= k:
            _logger.warning(
                f"{len(short)} of {counted(asked, 'user')} "
                f"{'gets' if len(short) == 1 else 'get'} fewer than k={k} items, the first is "
                f"{shortened(short[0])}: their rows and histories hold all the others. "
                "exclude_seen=False recommends these too."
            )

    def _candidates(self, request: Request, candidates: int, unseen: int | None) -> np.ndarray:
        """Item ids ``[U, candidates]`` of the generator, filled up with 0.

        A user with fewer than ``unseen`` unseen items among them gets unseen items only, of a
        search that doubles its width until it finds so many. The width depends on the user alone,
        so that nobody's list depends on who else is asked for.
        """
        items, width = self._generated(request, candidates), candidates
        if unseen is None:
            return items
        place = np.flatnonzero(self._is_unseen(request, items).sum(1) < unseen)
        while len(place) and width < len(self._item_ids):
            width = min(2 * width, len(self._item_ids))
            size = max(1, ROWS_AT_ONCE // width)
            items[place] = np.concatenate(
                [
                    self._unseen(request.of(place[first : first + size]), width, candidates)
                    for first in range(0, len(place), size)
                ]
            )
            place = place[(items[place] > 0).sum(1) < unseen]
        return items

    def _unseen(self, request: Request, width: int, limit: int) -> np.ndarray:
        """The first ``limit`` unseen items of a search, ``[U, limit]``, filled up with 0."""
        items = self._generated(request, width)
        unseen = self._is_unseen(request, items)
        first = np.argsort(~unseen, axis=1, kind="stable")[:, :limit]
        return np.take_along_axis(np.where(unseen, items, 0), first, 1)

    def _generated(self, request: Request, candidates: int) -> np.ndarray:
        """Item ids ``[U, candidates]`` that the generator finds, filled up with 0."""
        users = np.arange(len(request.users))
        rows = self._rows(request, users, np.ones_like(users))  # the target item does not matter
        others = len(self._is_item) - 1 - len(self._item_ids)  # which it generates, too
        width = min(candidates, len(self._item_ids))
        items = self._scorer.generate(rows, width + others)
        is_item = self._is_item[items]
        first = np.argsort(~is_item, axis=1, kind="stable")[:, :width]
        return np.take_along_axis(np.where(is_item, items, 0), first, 1)

    def _is_unseen(self, request: Request, items: np.ndarray) -> np.ndarray:
        """Which items ``[U, C]`` are in no row of their user, nor in the user's given history."""
        seen = np.isin(request.users[:, None] * self._whole.item_num + items, self._seen)
        for place, user in enumerate(request.names):
            if user in request.clicks:
                seen[place] |= np.isin(items[place], request.clicks[user])
        return (items > 0) & ~seen
