"""Fit columns on training rows alone: rare tokens (``min_count``) and numbers (``transforms``)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from recbole.utils import FeatureSource, FeatureType

from recbole_genci.config.fitted import CRITEO, Step, least_count, makes_tokens, transforms_of
from recbole_genci.data.splitting import OrderedDataset
from recbole_genci.data.table import Column, Table
from recbole_genci.data.transforms import fitted
from recbole_genci.utils.ragged import Ragged
from recbole_genci.utils.value_checks import PAD_TOKEN
from recbole_genci.utils.words import counted

_logger = logging.getLogger(__name__)

#: The token that stands for all rare ones, and its id, in columns that have one.
RARE_TOKEN, RARE_ID = "[RARE]", 1

_TOKENS = (FeatureType.TOKEN, FeatureType.TOKEN_SEQ)


class FittedDataset(OrderedDataset):
    """A dataset whose ``build()`` fits columns on its training part."""

    def build(self) -> list[Self]:
        parts = super().build()
        fit_columns(parts)
        return parts


def fit_columns(parts: Sequence[OrderedDataset]) -> None:
    """Change the columns that ``min_count`` and ``transforms`` name, in all parts.

    Only rows of the first part decide how. A feature of users or items counts once for each of
    these rows that has the user or item.

    Raises:
        ValueError: a column of numbers has none in these rows.
    """
    whole, lines = parts[0], dict[str, dict[str, str]]()
    steps = transforms_of(whole.config)
    tokens = [field for field, kind in whole.field2type.items() if kind in _TOKENS]
    for field in tokens:
        column, least = _FittedColumn(parts, field), least_count(whole.config, field)
        if least is not None and column.is_there:
            lines[field] = _merge_rare(column, least)
    if whole.config["min_count"] is not None and not lines and not _counts_numbers(steps):
        _logger.warning(
            "min_count: the rows have no column of tokens but ids of users and items, which are "
            "not counted; it does nothing."
        )
    for field, own in steps.items():
        lines[field] = _transform(_FittedColumn(parts, field), own)
    if lines:
        table = pd.DataFrame.from_dict(lines, orient="index").fillna("")
        _logger.info(
            f"Fitted on {counted(len(whole), 'training row')} (min_count, transforms)\n"
            f"{table.to_string()}"
        )


def _counts_numbers(steps: dict[str, list[Step]]) -> bool:
    return any(own[-1][0] == CRITEO for own in steps.values())


def _merge_rare(column: _FittedColumn, least: int) -> dict[str, str]:
    """Keep the tokens that training rows have often enough; the others become one.

    Returns:
        dict: the column's line in the log: how many values training rows have, how many are kept,
            and the share of values in these rows that are rare.
    """
    field, before = column.field, np.asarray(column.whole.field2id_token[column.field], dtype=str)
    counts = column.counts(len(before))
    kept = np.flatnonzero((counts >= least) & (np.arange(len(counts)) > 0) & (before != RARE_TOKEN))
    # The order of ids must not depend on held-out rows, as that of first appearance would.
    kept = kept[np.lexsort((before[kept], -counts[kept]))]
    ids = np.full(len(before), RARE_ID)
    ids[0], ids[kept] = 0, np.arange(len(kept)) + RARE_ID + 1
    if not len(kept):
        _logger.warning(
            f"min_count: no value of '{field}' is in {counted(least, 'training row')} or more, so "
            "that all are one. Lower it, or leave the column out by load_col."
        )
    table = torch.from_numpy(ids)
    column.replace(lambda values: table[values])
    column.name_ids([RARE_TOKEN, *before[kept]], has_rare=True)
    own = counts[1:]
    return {
        "how": f"min_count {least}",
        "values": f"{(own > 0).sum():,}",
        "kept": f"{len(kept):,}",
        "rare": f"{1 - counts[kept].sum() / own.sum():.2%}" if own.any() else "",
    }


def _transform(column: _FittedColumn, steps: list[Step]) -> dict[str, str]:
    """Fit the steps of a column of numbers, and do them; return its line in the log."""
    whole, field = column.whole, column.field
    values = column.in_training()
    values = values[~values.isnan()]
    if not len(values):
        raise ValueError(
            f"transforms: '{field}' has no number in any training row. Leave it out by load_col."
        )
    least = least_count(whole.config, field) if steps[-1][0] == CRITEO else None
    transform = fitted(values, steps, least)
    is_pair = not transform.makes_tokens  # RecBole's, of number and bucket

    def new(numbers: torch.Tensor) -> torch.Tensor:
        found = transform(numbers)
        return torch.stack([found, torch.ones_like(found)], dim=-1) if is_pair else found

    column.replace(new)
    column.update("transforms", transform)
    how = {"how": ", ".join(f"{count} {name}" if count else name for name, count in steps)}
    if not makes_tokens(steps):
        return how
    kind = FeatureType.TOKEN if column.is_single else FeatureType.TOKEN_SEQ
    column.update("field2type", kind)
    names = transform.tokens()
    column.name_ids([RARE_TOKEN, *names] if least else names, has_rare=least is not None)
    return how | {"kept": f"{len(names):,}"}


class _FittedColumn:
    """A column that is fitted, in the rows of all parts or in their table of users or items."""

    def __init__(self, parts: Sequence[OrderedDataset], field: str) -> None:
        self.parts, self.whole, self.field = parts, parts[0], field
        source = self.whole.field2source.get(field)
        self._table, self._id_field = {
            FeatureSource.USER: ("user_feat", self.whole.uid_field),
            FeatureSource.ITEM: ("item_feat", self.whole.iid_field),
        }.get(source, ("inter_feat", None))

    @property
    def is_there(self) -> bool:
        """Whether models could read it; it may be one of other files, or left out after reading."""
        table = getattr(self.whole, self._table)
        return table is not None and self.field in table

    @property
    def _column(self) -> Column:
        return getattr(self.whole, self._table)[self.field]

    @property
    def is_single(self) -> bool:
        """Whether it holds one value a row, and no sequences."""
        return not isinstance(self._column, Ragged)

    def in_training(self) -> torch.Tensor:
        """The values ``[N]`` of training rows, sequences entry by entry."""
        column: Column = self._column
        if self._id_field is not None:
            column = column.index_select(0, self.whole.inter_feat[self._id_field])
        return column.compact().values if isinstance(column, Ragged) else column

    def counts(self, size: int) -> np.ndarray:
        """How often each id ``[size]`` is in training rows."""
        column, weights = self._column, None
        if self._id_field is not None:
            rows = self.whole.inter_feat[self._id_field].numpy()
            weights = np.bincount(rows, minlength=len(column))
        if isinstance(column, Ragged):
            column = column.compact()
            weights = None if weights is None else np.repeat(weights, column.lengths.numpy())
            column = column.values
        return np.bincount(column.numpy(), weights, minlength=size).astype(np.int64)

    def replace(self, new: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Change the values ``[N]`` of all rows, held-out ones too."""

        def changed(column: Column) -> Column:
            if not isinstance(column, Ragged):
                return new(column)
            column = column.compact()
            return Ragged(new(column.values), column.start, column.end, column.longest)

        def with_changed(table: Table) -> Table:
            return Table({**table.interaction, self.field: changed(table[self.field])})

        if self._id_field is None:
            for part in self.parts:
                part.inter_feat = with_changed(part.inter_feat)
            return
        shared = with_changed(getattr(self.whole, self._table))  # by all parts
        for part in self.parts:
            setattr(part, self._table, shared)

    def update(self, facts: str, value: Any) -> None:
        """Set the column's entry in one of the parts' dicts by field."""
        entries = {**getattr(self.whole, facts), self.field: value}
        for part in self.parts:
            setattr(part, facts, entries)

    def name_ids(self, names: Sequence[str], has_rare: bool) -> None:
        """Give ids from 1 on their names."""
        tokens = np.array([PAD_TOKEN, *names])
        self.update("field2id_token", tokens)
        self.update("field2token_id", {token: number for number, token in enumerate(tokens)})
        if has_rare:
            for part in self.parts:
                part.rare = part.rare | {self.field}
