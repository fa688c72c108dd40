"""Table 3: all models, and the difference of one of them to every other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recbole_genci.comparison.table import BASE_MODEL
from recbole_genci.config.metric_names import SMALLER_IS_BETTER, Metric, metrics_named
from recbole_genci.evaluation.calibration import DEFINITION
from recbole_genci.evaluation.metrics import rela_impr, why_no_rela_impr
from recbole_genci.experiments import paper
from recbole_genci.experiments.definition import Variant
from recbole_genci.experiments.outcome import (
    AVERAGED,
    AVERAGED_DEFINITION,
    CALIBRATION,
    Outcome,
    Report,
)
from recbole_genci.experiments.plots import MEASURED, PAPER, Panel, Series, dot_plot
from recbole_genci.experiments.reports import differences
from recbole_genci.experiments.tables import Column, Table

PICTURE = "compare.png"
OPTIONAL = ("differences",)  # tables and pictures of some requests
_PAPER_TABLE = 3
_MEASURED = ("auc", "logloss", "gauc")
_COLUMNS = (
    Column("model"),
    Column("AUC", error="sd"),
    Column("LogLoss", error="sd"),
    Column("GAUC", error="sd"),
    Column("RelaImpr [%]", ".2f"),
    *AVERAGED,
    *CALIBRATION,
    Column("latency [s]", ".3g"),
    Column("paper AUC"),
    Column("paper LogLoss"),
    Column("paper RelaImpr [%]", ".2f"),
    Column("paper latency [s]", ".2f"),
    Column("AUC - paper", "+.4f"),
    Column("runs"),
)


def report(outcome: Outcome, folder: Path) -> Report:
    """Write the picture and return the tables."""
    dataset = outcome.request.config["dataset"]
    base = _base_auc(outcome)
    why_none = why_no_rela_impr(BASE_MODEL, base)
    rows = [
        _row(outcome, variant, None if why_none else base, dataset)
        for variant in outcome.request.variants
    ]
    columns = (
        *_COLUMNS[:4],
        *(Column(metric.name, error="sd") for metric in _further_metrics(outcome)),
        *_COLUMNS[4:],
    )
    tables = {"table": Table(columns, rows).without_empty_columns()}
    pictures = [PICTURE]
    remarks = [DEFINITION, paper.remark(_PAPER_TABLE, dataset)]
    complete = outcome.complete_variants()
    remarks.append(why_none or f"RelaImpr (Eq. 13) is taken over {BASE_MODEL}'s mean AUC.")
    if len(outcome.request.seeds) > 1:
        remarks.append(AVERAGED_DEFINITION)
    about = "All models on the same rows."
    ones, why = references(outcome)
    if ones:
        names_of_ones = ", ".join(one.name for one in ones)
        about = f"{about[:-1]}, with the paired difference of {names_of_ones} to every other."
        found = differences.of_each(outcome, ones)
        tables["differences"] = differences.table(found)
        pictures.append(differences.draw(folder, outcome, found, ranked=len(ones) == 1))
        remarks += [
            f"Differences are those of {names_of_ones}, {why}.",
            differences.reading(outcome),
        ]
    else:
        remarks.append("No differences: fewer than two lines have finished with all their seeds.")
    if len(np.unique(outcome.test_labels)) < 2:
        remarks.append("All test rows are of one class: AUC, GAUC and RelaImpr are undefined.")
    elif complete and all(outcome.mean(each, "gauc") is None for each in complete):
        why = "no user has test rows of both classes" if outcome.has_users else "rows have no user"
        remarks.append(f"GAUC is undefined: {why}.")
    names = [variant.name for variant in outcome.request.variants]
    panels = [
        Panel(
            outcome.axis(label),
            [
                Series(
                    MEASURED,
                    [outcome.mean(variant, metric) for variant in outcome.request.variants],
                ),
                Series(
                    PAPER,
                    [paper.figure(_PAPER_TABLE, dataset, name, label) for name in names],
                    hollow=True,
                ),
            ],
            smaller_is_better=metric in SMALLER_IS_BETTER,
        )
        for label, metric in (("AUC", "auc"), ("LogLoss", "logloss"))
    ]
    marked = outcome.request.definition.against
    dot_plot(folder / PICTURE, f"Models on {dataset}", names, panels, marked, ranked=True)
    captions = {differences.PICTURE: differences.caption(outcome)}
    return Report(tables, remarks, pictures, captions, about=about)


def _further_metrics(outcome: Outcome) -> list[Metric]:
    """Metrics that the key ``metrics`` names beside those of the table."""
    return [
        metric
        for metric in metrics_named(outcome.request.config["metrics"])
        if metric.key not in _MEASURED
    ]


def _base_auc(outcome: Outcome) -> float | None:
    for variant in outcome.complete_variants():
        auc = outcome.mean(variant, "auc")
        if variant.name == BASE_MODEL and auc:
            return auc.value
    return None


def _row(outcome: Outcome, variant: Variant, base: float | None, dataset: str) -> list:
    auc = outcome.mean(variant, "auc")
    printed = [
        paper.figure(_PAPER_TABLE, dataset, variant.name, name)
        for name in ("AUC", "LogLoss", "RelaImpr [%]", "latency [s]")
    ]
    return [
        variant.name,
        auc,
        outcome.mean(variant, "logloss"),
        outcome.mean(variant, "gauc"),
        *(outcome.mean(variant, metric.key) for metric in _further_metrics(outcome)),
        rela_impr(auc.value, base) if auc and base else None,
        *outcome.averaged(variant),
        *outcome.calibration(variant),
        outcome.number(variant, "latency_s"),
        *printed,
        auc.value - printed[0] if auc and printed[0] is not None else None,
        outcome.status(variant),
    ]


def references(outcome: Outcome) -> tuple[list[Variant], str]:
    """The lines that are compared with all others, and why it is these; none without another line.

    They are the definition's, or those of ``--against``. Where none has finished, the best by
    validation AUC, as the best by test AUC would look better than it is on these very rows.
    """
    complete = outcome.complete_variants()
    if len(complete) < 2:
        return [], ""
    by_name = {variant.name: variant for variant in complete}
    if ones := [by_name[name] for name in outcome.request.definition.against if name in by_name]:
        what = "line that the experiment is" if len(ones) == 1 else "lines that the experiment is"
        return ones, f"the {what} about"
    aucs = {variant.name: outcome.valid_auc(variant) or 0.0 for variant in complete}
    best = max(complete, key=lambda variant: aucs[variant.name])
    return [best], "the best by validation AUC"
