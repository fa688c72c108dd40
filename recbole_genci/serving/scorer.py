"""Score rows of ids that no file holds with the model of a loaded run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import AbstractRecommender, ContextRecommender

from recbole_genci.data.column_names import HISTORY_END, HISTORY_FIRST, HISTORY_START
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.history import HistoryPointers
from recbole_genci.data.loaders import create_loader, model_view
from recbole_genci.data.table import Column, Table
from recbole_genci.evaluation.scoring import score_rows
from recbole_genci.serving.saved_run import SavedRun
from recbole_genci.serving.unseen import (
    MEAN,
    PADDING,
    embedding_segments,
    field_sizes,
    layers_with_user_features,
    trained_ids,
    with_mean_of,
    with_user_features,
)
from recbole_genci.utils.value_checks import shortened

#: So many times `eval_batch_size` rows stay in one batch if they have one history, which is then
#: encoded once for all of them: four default batches hold a catalogue of 16,384 items.
BATCHES_OF_A_HISTORY = 4


@dataclass(frozen=True)
class Rows:
    """Rows ``[R]`` to be scored.

    Attributes:
        users: rows of ``user_feat``, or without one user ids, 0 for users that the run lacks, and
            for rows without users.
        items: item ids; 0 for rows without items.
        pointers: where each row's history is.
        context: the rows' own features.
        user_feat: features of users, whose user column holds the id that a row's embedding has;
            None for those of the run.
        has_new_users: whether there are users that the run lacks.
    """

    users: np.ndarray
    items: np.ndarray
    pointers: HistoryPointers
    context: Mapping[str, Column] = field(default_factory=dict)
    user_feat: Table | None = None
    has_new_users: bool = False


@dataclass(frozen=True)
class _Codes:
    """Semantic IDs ``[V, N]`` in the order of the run's items, which do not change."""

    table: np.ndarray

    def aligned(self, id_tokens: Sequence[str], /) -> np.ndarray:
        """The codes, for a loader."""
        return self.table


class Scorer:
    """Scores rows with a run's model.

    Args:
        run: the run, which does not change.
        unseen: the embedding of users that the run does not know, ``mean`` or ``padding``.

    Raises:
        ValueError: ``unseen`` is something else.
    """

    def __init__(self, run: SavedRun, unseen: str) -> None:
        if unseen not in (MEAN, PADDING):
            raise ValueError(f"unseen: {shortened(unseen)} is neither '{MEAN}' nor '{PADDING}'.")
        self.run, self.whole, self.unseen = run, run.parts[0], unseen

    @cached_property
    def reads_history(self) -> bool:
        """Whether the model reads histories."""
        return bool(self.view.attached)

    @cached_property
    def view(self) -> CTRDataset:
        """The training rows as the model reads them."""
        return model_view(self.run.config, self.whole, self._codes)

    @cached_property
    def _codes(self) -> _Codes | None:
        """The items' semantic IDs, put in order once; None if the model reads none."""
        if self.run.semantic_ids is None or not self.run.config.model_class.reads_semantic_ids:
            return None
        return _Codes(
            self.run.semantic_ids.aligned(self.whole.field2id_token[self.whole.iid_field])
        )

    def score(self, rows: Rows) -> np.ndarray:
        """Click probabilities ``[R]`` float32."""
        if not len(rows.items):
            return np.zeros(0, dtype=np.float32)
        model = self._model(rows)
        try:
            return score_rows(model, self.loader(rows), self.run.config["device"])[0].numpy()
        except FloatingPointError as error:  # its advice is about training
            raise ValueError(
                f"{self.run.config['model']}: scores are not finite, as a number among the "
                "features is too far from those of training. Give one nearer to them."
            ) from error

    @torch.no_grad()
    def generate(self, rows: Rows, width: int) -> np.ndarray:
        """Item ids ``[R, width]`` that the generator finds, filled up with 0."""
        model, device = self._model(rows), self.run.config["device"]
        found = [
            model.generate_items(batch.to(device), width)[0].cpu()
            for batch, *_ in self.loader(rows)
        ]
        return torch.cat(found).numpy()

    def _model(self, rows: Rows) -> AbstractRecommender:
        mean = self.unseen == MEAN and rows.has_new_users
        model = self.model_with_mean if mean else self.run.model
        return model if rows.user_feat is None else self._with_features(model, rows.user_feat)

    @cached_property
    def model_with_mean(self) -> AbstractRecommender:
        """The run's model, whose user 0, if there are users, has the mean embedding of training."""
        field = self.view.uid_field
        if field is None:
            return self.run.model
        trained = trained_ids(self.view, field)
        tables = embedding_segments(self.run.model, field_sizes(self.view))
        return with_mean_of(self.run.model, tables, field, trained)

    def _with_features(self, model: AbstractRecommender, table: Table) -> AbstractRecommender:
        if not self._looks_up_users:
            return model
        if isinstance(model, ContextRecommender):  # its other tables would read rows as ids
            raise ValueError(
                f"user_features: {self.run.config['model']} looks up its users' features both by "
                "itself and in its rows, so that they cannot be given."
            )
        return with_user_features(model, table)

    @cached_property
    def _looks_up_users(self) -> bool:
        return bool(layers_with_user_features(self.run.model))

    def loader(self, rows: Rows) -> AbstractDataLoader:
        """RecBole's loader over rows, which gives what the model reads."""
        whole = self.whole
        ids = {whole.uid_field: rows.users, whole.iid_field: rows.items}
        numbers = {
            **{field: column for field, column in ids.items() if field is not None},
            HISTORY_FIRST: rows.pointers.first,
            HISTORY_START: rows.pointers.start,
            HISTORY_END: rows.pointers.end,
        }
        columns: dict[str, Column] = {
            name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in numbers.items()
        }
        columns[whole.label_field] = torch.zeros(len(rows.items))
        part = whole.copy(Table({**columns, **rows.context}))
        part.history = rows.pointers.history
        if rows.user_feat is not None:
            part.user_feat = rows.user_feat
            if self._looks_up_users:  # by the row of the table, which the rows must then keep
                size = len(rows.user_feat[whole.uid_field])
                own = rows.user_feat.interaction | {whole.uid_field: torch.arange(size)}
                part.user_feat = Table(own)
        loader = create_loader(self.run.config, part, self._codes, "test")
        if self.run.config.model_class.reads_distinct_histories:
            batches: Any = loader.batch_sampler
            batches.batch_size *= _batches_of_a_history(rows, batches.batch_size)
        return loader


def _batches_of_a_history(rows: Rows, size: int) -> int:
    """How many batches of ``size`` the rows of one history would fill, on average; 1 to 4."""
    pointers = np.stack([rows.pointers.start, rows.pointers.end])
    histories = 1 + np.count_nonzero((pointers[:, 1:] != pointers[:, :-1]).any(0))
    return int(np.clip(-(-len(rows.items) // (histories * size)), 1, BATCHES_OF_A_HISTORY))
