"""Rows on which an exported program is compared with its run.

They hold raw values, as a user gives them. ``Ranker.score_rows`` reads them for the expected
probabilities; for the program `as_described` makes tensors of them by its description alone, so
that a program which misreads an input is found out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.utils import FeatureType
from torch import Tensor

from recbole_genci.data.column_names import HISTORY_END
from recbole_genci.serving.features import FeatureReader
from recbole_genci.serving.scorer import Scorer
from recbole_genci.utils.ragged import Ragged

ROWS = 64
#: What the rows are, for the description of a program.
MEANING = (
    "Users, items and clicks of the run, with features made up: missing and unknown values, "
    "sequences from none to longer than the program takes, and numbers up to half the range of "
    "training beyond it. Other numbers may differ more."
)


def some_rows(scorer: Scorer, features: FeatureReader) -> pd.DataFrame:
    """A table of `ROWS` rows for ``Ranker.score_rows``; the first row's user is unknown.

    Rows have users and items if those of the run do.
    """
    rng = np.random.default_rng(0)
    columns: dict[str, list] = {}
    if scorer.whole.uid_field is not None:
        columns = _ids_and_histories(scorer, features, rng)
    columns |= {field: _values(features, field, rng) for field in features.row_fields}
    return pd.DataFrame({name: pd.Series(cells) for name, cells in columns.items()})


def _ids_and_histories(
    scorer: Scorer, features: FeatureReader, rng: np.random.Generator
) -> dict[str, list]:
    """Users, items and, if the model reads them, histories of `ROWS` rows."""
    test = scorer.run.parts[2]
    chosen = np.linspace(0, len(test) - 1, ROWS).astype(np.int64)
    users, items, end = (
        test.inter_feat[name].numpy()[chosen].astype(np.int64)
        for name in (test.uid_field, test.iid_field, HISTORY_END)
    )
    names = _tokens(features, test.iid_field)
    # Items from all of the catalogue too: those that came later are at its end.
    items[1::2] = np.linspace(1, len(names), len(items[1::2])).astype(np.int64)
    of_users = _tokens(features, test.uid_field)
    columns: dict[str, list] = {
        test.uid_field: [_unknown(of_users), *(of_users[user - 1] for user in users[1:])],
        test.iid_field: [names[item - 1] for item in items],
    }
    if scorer.reads_history:
        longest, all_clicks = scorer.run.config["MAX_ITEM_LIST_LENGTH"], test.history.items.numpy()
        histories = []
        for row, (first, last) in enumerate(zip(test.history.first_clicks(users), end)):
            clicks = [names[item - 1] for item in all_clicks[max(first, last - longest - 5) : last]]
            drawn = [names[place] for place in rng.integers(0, len(names), longest + row % 7)]
            histories.append(([], drawn[:1], drawn, [_unknown(names), *clicks], clicks)[row % 5])
        columns[test.iid_field + scorer.run.config["LIST_SUFFIX"]] = histories
    return columns


def _values(features: FeatureReader, field: str, rng: np.random.Generator) -> list:
    """`ROWS` values of a feature of rows."""
    kind, longest = features.whole.given_type(field), features.whole.field2seqlen[field]
    is_sequence = kind in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ)
    lengths = np.arange(ROWS) % (longest + 3) if is_sequence else np.ones(ROWS, dtype=np.int64)
    if kind in (FeatureType.TOKEN, FeatureType.TOKEN_SEQ):
        tokens = _tokens(features, field)
        tokens = [*tokens, _unknown(tokens)]
        cells = [[tokens[place] for place in rng.integers(0, len(tokens), n)] for n in lengths]
        missing: Any = ""
    else:
        low, high = _range(features, field)
        beyond = (high - low) / 2 or 1.0
        cells = [list(rng.uniform(low - beyond, high + beyond, n)) for n in lengths]
        missing = np.nan
    if is_sequence:
        return cells
    return [missing if row % 7 == 3 else cell[0] for row, cell in enumerate(cells)]


def _range(features: FeatureReader, field: str) -> tuple[float, float]:
    """The least and the largest number of a feature in training, as in the atomic file."""
    if field in features.whole.transforms:
        return features.whole.transforms[field].low, features.whole.transforms[field].high
    scale = features.scale_of(field)
    if scale is not None:
        return scale
    column = features.whole.inter_feat[field]
    numbers = column.values if isinstance(column, Ragged) else column
    numbers = numbers[:, 0] if numbers.dim() > 1 else numbers
    return (float(numbers.min()), float(numbers.max())) if len(numbers) else (0.0, 1.0)


def _tokens(features: FeatureReader, field: str) -> list[str]:
    return [str(token) for token in features.whole.field2id_token[field][1:]]


def _unknown(tokens: Sequence[str]) -> str:
    """A token that is none of these."""
    name = "unknown"
    while name in tokens:
        name += "_"
    return name


def as_described(
    rows: pd.DataFrame,
    inputs: Sequence[Mapping[str, Any]],
    vocabularies: Mapping[str, Sequence[str]],
    history_column: str,
    segment: int,
) -> dict[str, Tensor]:
    """Inputs of a program, made as who calls it makes them.

    Args:
        rows: of `some_rows`.
        inputs: as in the program's description.
        vocabularies: as in its file.
        history_column: the column of the clicks.
        segment: the number after ``mod`` in the description's ``clicks_read``, or 1.
    """
    places = {
        name: {token: place for place, token in enumerate(tokens) if place}
        for name, tokens in vocabularies.items()
    }
    made: dict[str, list] = {}
    lengths: dict[str, list[int]] = {}
    for each in inputs:
        if each["length_of"] is not None:
            continue
        cells, known = rows[each["column"]], places.get(each["vocabulary"])
        unknown = each["unknown"]
        if len(each["shape"]) == 1:
            made[each["name"]] = [
                cell if known is None else known.get(cell, unknown if cell else 0) for cell in cells
            ]
            continue
        width = each["shape"][1]
        entries = [
            list(cell)
            if known is None
            else [known.get(token, unknown) for token in cell if unknown or token in known]
            for cell in cells
        ]
        if each["column"] == history_column:
            counts = [min(len(cell), width - (-len(cell)) % segment) for cell in entries]
            entries = [cell[len(cell) - count :] for cell, count in zip(entries, counts)]
        entries = [cell[:width] for cell in entries]
        lengths[each["column"]] = [len(cell) for cell in entries]
        made[each["name"]] = [cell + [0] * (width - len(cell)) for cell in entries]
    for each in inputs:
        if each["length_of"] is not None:
            made[each["name"]] = list(lengths[each["length_of"]])
    return {
        each["name"]: torch.tensor(made[each["name"]], dtype=getattr(torch, each["dtype"]))
        for each in inputs
    }
