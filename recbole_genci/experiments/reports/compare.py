"""Table 3: all models, and whether the best is significantly better than the second best."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recbole_genci.config.metric_names import Metric, metrics_named
from recbole_genci.evaluation.calibration import DEFINITION
from recbole_genci.evaluation.metrics import rela_impr
from recbole_genci.experiments import paper
from recbole_genci.experiments.definition import Variant
from recbole_genci.experiments.outcome import CALIBRATION, Outcome, Report
from recbole_genci.experiments.plots import Panel, Series, dot_plot
from recbole_genci.experiments.significance import paired_t_test, user_bootstrap
from recbole_genci.experiments.tables import Column, Estimate, Table
from recbole_genci.report import BASE_MODEL

PICTURE = "compare.png"
_PAPER_TABLE = 3
_MEASURED = ("auc", "logloss", "gauc")
_COLUMNS = (
    Column("model"),
    Column("AUC", error="sd"),
    Column("LogLoss", error="sd"),
    Column("GAUC", error="sd"),
    Column("RelaImpr [%]", ".2f"),
    *CALIBRATION,
    Column("latency [s]", ".3g"),
    Column("paper AUC"),
    Column("paper LogLoss"),
    Column("paper RelaImpr [%]", ".2f"),
    Column("paper latency [s]", ".2f"),
    Column("AUC - paper", "+.4f"),
    Column("runs"),
)
_SIGNIFICANCE = (
    Column("first"),
    Column("second"),
    Column("difference of AUC", "+.4f"),
    Column("paired t-test over seeds, p", ".3g"),
    Column("bootstrap over users, se"),
    Column("95 % from", "+.4f"),
    Column("95 % to", "+.4f"),
    Column("bootstrap over users, p", ".3g"),
    Column("draws", ",d"),
)


def report(outcome: Outcome, folder: Path) -> Report:
    """Write the picture and return the tables."""
    dataset = outcome.request.config["dataset"]
    base = _base_auc(outcome)
    rows = [_row(outcome, variant, base, dataset) for variant in outcome.request.variants]
    columns = (
        *_COLUMNS[:4],
        *(Column(metric.name, error="sd") for metric in _further_metrics(outcome)),
        *_COLUMNS[4:],
    )
    tables = {"table": Table(columns, rows).without_empty_columns()}
    remarks = [DEFINITION, paper.remark(_PAPER_TABLE, dataset)]
    if base is None:
        remarks.append(
            f"No RelaImpr: {BASE_MODEL}, its base, is not among the lines that finished with an "
            "AUC above 0.5."
        )
    best = _best_two(outcome)
    if best:
        tables["significance"], remark = significance(outcome, *best)
        remarks.append(remark)
    else:
        remarks.append(
            "No significance: fewer than two lines have finished with all their seeds and an AUC."
        )
    if len(np.unique(outcome.test_labels)) < 2:
        remarks.append("All test rows are of one class: AUC, GAUC and RelaImpr are undefined.")
    names = [variant.name for variant in outcome.request.variants]
    panels = [
        Panel(
            outcome.axis(label),
            [
                Series(
                    "ours", [outcome.mean(variant, metric) for variant in outcome.request.variants]
                ),
                Series(
                    "paper",
                    [paper.figure(_PAPER_TABLE, dataset, name, label) for name in names],
                    hollow=True,
                ),
            ],
        )
        for label, metric in (("AUC", "auc"), ("LogLoss", "logloss"))
    ]
    dot_plot(folder / PICTURE, f"Models on {dataset}", names, panels)
    return Report(tables, remarks, [PICTURE])


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
        if variant.name == BASE_MODEL and auc and auc.value > 0.5:
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
        *outcome.calibration(variant),
        outcome.number(variant, "latency_s"),
        *printed,
        auc.value - printed[0] if auc and printed[0] is not None else None,
        outcome.status(variant),
    ]


def _best_two(outcome: Outcome) -> list[Variant] | None:
    aucs: dict[str, tuple[float, Variant]] = {}
    for variant in outcome.complete_variants():
        if auc := outcome.mean(variant, "auc"):
            aucs[variant.name] = auc.value, variant
    best = sorted(aucs.values(), key=lambda entry: -entry[0])[:2]
    return [variant for _, variant in best] if len(best) == 2 else None


def significance(outcome: Outcome, first: Variant, second: Variant) -> tuple[Table, str]:
    """The table of both tests, and a remark that says how to read it."""
    p_value = paired_t_test(outcome.values(first, "auc"), outcome.values(second, "auc"))
    drawn = user_bootstrap(
        outcome.test_users, outcome.test_labels, outcome.scores(first), outcome.scores(second)
    )
    difference = Estimate.mean_difference(
        outcome.values(first, "auc") - outcome.values(second, "auc")
    )
    of_users = (
        [drawn.standard_error, drawn.low, drawn.high, drawn.p_value, drawn.draws]
        if drawn
        else [None] * 5
    )
    row = [first.name, second.name, difference.value if difference else None, p_value, *of_users]
    seeds = len(outcome.request.seeds)
    t_test = (
        f"The t-test pairs the {seeds} seeds and asks whether training both models again would "
        "show the difference again; so few seeds find only large differences."
        if p_value is not None
        else "There is no t-test over seeds: it needs 3 seeds whose differences vary."
    )
    remark = (
        f"Significance of the two best lines by mean test AUC, {first.name} and {second.name}. "
        f"{t_test} The bootstrap draws whole users of the test rows, the same for both models and "
        "all seeds, and asks whether other users would show the difference of the mean AUCs; its "
        "interval lies between the 2.5 and 97.5 % quantiles. The two were chosen because they are "
        "the best on these very rows, which makes the first look better than it is; no correction "
        "is made for that."
    )
    return Table(_SIGNIFICANCE, [row]), remark
