"""Table 2: statistics of the dataset under the protocol's filters and splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.loaders import PARTS
from recbole_genci.experiments import paper
from recbole_genci.experiments.outcome import Outcome, Report
from recbole_genci.experiments.tables import Column, Table

_PAPER_TABLE = 2
_COUNTS = (
    Column("users", ",d"),
    Column("items", ",d"),
    Column("interactions", ",d"),
    Column("Avg.n", ".2f"),
    Column("sparsity [%]", ".2f"),
)
_COLUMNS = (
    Column("rows"),
    *_COUNTS,
    Column("positives [%]", ".2f"),
    Column("mean history", ".2f"),
    Column("median history", ".1f"),
    Column("empty history [%]", ".2f"),
    *(Column(f"paper {column.name}", column.form) for column in _COUNTS),
)


def report(outcome: Outcome, folder: Path) -> Report:
    """Return the table. Nothing is trained for it."""
    dataset, parts = outcome.request.config["dataset"], outcome.parts
    by_name = {"all": parts} | {name: [part] for name, part in zip(PARTS, parts)}
    rows = []
    for name, chosen in by_name.items():
        printed = [paper.figure(_PAPER_TABLE, dataset, name, column.name) for column in _COUNTS]
        rows.append([name, *count(chosen), *printed])
    return Report(
        {"table": Table(_COLUMNS, rows).without_empty_columns()},
        [paper.remark(_PAPER_TABLE, dataset)],
    )


def count(parts: Sequence[CTRDataset]) -> list:
    """Statistics of several parts together.

    Returns:
        list: users, items, interactions, Avg.n, sparsity, positives, and mean, median and empty
            histories; None for what rows do not have.
    """
    whole = parts[0]

    def column(field: str) -> np.ndarray:
        return np.concatenate([part.inter_feat[field].numpy() for part in parts])

    number = sum(len(part) for part in parts)
    of_users: list = [None, None, number, None, None]
    if whole.uid_field is not None:
        users, items = (len(np.unique(column(f))) for f in (whole.uid_field, whole.iid_field))
        sparsity = 100 * (1 - number / (users * items))
        of_users = [users, items, number, number / users, sparsity]
    of_histories: list = [None, None, None]
    if whole.has_histories:
        length = np.concatenate([part.history_lengths for part in parts])
        empty = 100 * float((length == 0).mean())
        of_histories = [float(length.mean()), float(np.median(length)), empty]
    return [*of_users, 100 * float(column(whole.label_field).mean()), *of_histories]
