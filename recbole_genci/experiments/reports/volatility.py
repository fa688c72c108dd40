"""Table 5: test rows of users whose interests change fast, and of users whose change slowly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from recbole_genci.config.metric_names import SMALLER_IS_BETTER
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.evaluation.gauc import gauc
from recbole_genci.evaluation.metrics import off_the_ends
from recbole_genci.evaluation.volatility import (
    DEFINITION,
    FAST,
    SLOW,
    groups,
    set_field,
    user_volatility,
)
from recbole_genci.experiments import paper
from recbole_genci.experiments.definition import Variant
from recbole_genci.experiments.outcome import Outcome, Report
from recbole_genci.experiments.plots import PAPER, Panel, Series, dot_plot
from recbole_genci.experiments.reports import differences
from recbole_genci.experiments.reports.compare import references
from recbole_genci.experiments.request import Request
from recbole_genci.experiments.tables import Column, Estimate, Table
from recbole_genci.utils.words import counted

PICTURE = "volatility.png"
OPTIONAL = ("differences",)  # tables and pictures of some requests
GROUPS = (FAST, SLOW)
_PAPER_TABLE = 5
_METRICS = ("AUC", "LogLoss", "GAUC")
_NAMES = tuple(f"{group} {metric}" for group in GROUPS for metric in _METRICS)
_PRINTED = tuple(f"{group} {metric}" for group in GROUPS for metric in ("AUC", "LogLoss"))
_COLUMNS = (
    Column("model"),
    *(Column(name, error="sd") for name in _NAMES),
    Column("slow AUC - fast AUC", "+.4f", error="se"),
    *(Column(f"paper {name}") for name in _PRINTED),
    Column("runs"),
)


def check(request: Request, parts: Sequence[CTRDataset]) -> None:
    """Raise ValueError if the items have no field of sets, from which Jaccard distances come."""
    set_field(parts[0])


def report(outcome: Outcome, folder: Path) -> Report:
    """Write the picture and return the table."""
    dataset = outcome.request.config["dataset"]
    of_rows = groups(user_volatility(outcome.parts), outcome.test_users)
    rows, means = [], {}
    for variant in outcome.request.variants:
        measured = _measured(outcome, variant, of_rows)
        means[variant.name] = {name: measured[name] for name in _NAMES}
        printed = [paper.figure(_PAPER_TABLE, dataset, variant.name, name) for name in _PRINTED]
        rows.append(
            [
                variant.name,
                *(measured[name] for name in _NAMES),
                measured["difference"],
                *printed,
                outcome.status(variant),
            ]
        )
    names = [variant.name for variant in outcome.request.variants]
    panels = [
        _panel(outcome.axis(metric), metric, names, means, dataset) for metric in ("AUC", "LogLoss")
    ]
    title = f"Users whose interests change fast or slowly, on {dataset}"
    about = outcome.request.definition.against
    dot_plot(folder / PICTURE, title, names, panels, about, ranked=True)
    remarks = [DEFINITION, _sizes(outcome, of_rows), paper.remark(_PAPER_TABLE, dataset)]
    tables = {"table": Table(_COLUMNS, rows).without_empty_columns()}
    ones, why = references(outcome)
    if ones:
        tables["differences"] = _differences(outcome, ones, of_rows)
        names_of_ones = ", ".join(one.name for one in ones)
        remarks.append(f"Differences within a group are those of {names_of_ones}, {why}.")
        by_group = {f"{group}-changing": of_rows == group for group in GROUPS}
        remarks.append(differences.reading(outcome, by_group))
    return Report(tables, remarks, [PICTURE])


def _differences(outcome: Outcome, ones: Sequence[Variant], of_rows: np.ndarray) -> Table:
    """Each of ``ones`` minus every other line, on the rows of each group of users."""
    rows = [
        [f"{group}-changing", *entries]
        for group in GROUPS
        for entries in differences.of_each(outcome, ones, of_rows == group)
    ]
    return differences.table(rows, [Column("users")]).without_empty_columns()


def _panel(label: str, metric: str, names: list[str], means: dict, dataset: str) -> Panel:
    ours = [
        Series(f"{group}-changing users", [means[name][f"{group} {metric}"] for name in names])
        for group in GROUPS
    ]
    papers = [
        Series(
            f"{PAPER}, {group}",
            [paper.figure(_PAPER_TABLE, dataset, name, f"{group} {metric}") for name in names],
            hollow=True,
            like=number,
        )
        for number, group in enumerate(GROUPS)
    ]
    return Panel(label, ours + papers, smaller_is_better=metric.lower() in SMALLER_IS_BETTER)


def _measured(
    outcome: Outcome, variant: Variant, of_rows: np.ndarray
) -> dict[str, Estimate | None]:
    """Each group's metrics over all seeds; None if a seed is missing or a metric undefined."""
    if not outcome.complete(variant):
        return dict.fromkeys((*_NAMES, "difference"))
    by_seed: dict[str, np.ndarray] = {}
    for group in GROUPS:
        chosen = of_rows == group
        values = [
            measure(outcome.test_users[chosen], outcome.test_labels[chosen], scores[chosen])
            for scores in outcome.scores(variant)
        ]
        by_seed |= {
            f"{group} {metric}": np.array(column) for metric, column in zip(_METRICS, zip(*values))
        }
    return {name: Estimate.mean(values) for name, values in by_seed.items()} | {
        "difference": Estimate.mean_difference(by_seed["slow AUC"] - by_seed["fast AUC"])
    }


def measure(
    users: np.ndarray, labels: np.ndarray, scores: np.ndarray
) -> tuple[float, float, float]:
    """AUC, LogLoss and GAUC of rows ``[R]``; NaN where they are undefined."""
    if len(labels) == 0:
        return np.nan, np.nan, np.nan
    auc = roc_auc_score(labels, scores) if 0 < labels.mean() < 1 else np.nan
    return auc, log_loss(labels, off_the_ends(scores), labels=[0, 1]), gauc(users, labels, scores)


def _sizes(outcome: Outcome, of_rows: np.ndarray) -> str:
    parts = []
    for group in (*GROUPS, ""):
        chosen = of_rows == group
        share = (
            f", {100 * outcome.test_labels[chosen].mean():.1f} % positive" if chosen.any() else ""
        )
        name = f"{group}-changing" if group else "in neither group"
        parts.append(
            f"{counted(len(np.unique(outcome.test_users[chosen])), 'user')} with "
            f"{counted(int(chosen.sum()), 'row')}{share} {name}"
        )
    return f"Of the test rows: {'; '.join(parts)}."
