"""Fig. 5-7 and the study of cohorts: vary one key at a time."""

from __future__ import annotations

from pathlib import Path

from recbole_genci.config.metric_names import SMALLER_IS_BETTER
from recbole_genci.experiments.outcome import AVERAGED, Outcome, Report
from recbole_genci.experiments.plots import MEASURED, Panel, Series, curve, dot_plot
from recbole_genci.experiments.tables import Column, Table

_COLUMNS = (
    Column("key"),
    Column("value"),
    Column("AUC", error="sd"),
    Column("LogLoss", error="sd"),
    Column("GAUC", error="sd"),
    *AVERAGED,
    Column("valid AUC"),
    Column("latency [s]", ".3g"),
    Column("training [s]", ".0f"),
    Column("runs"),
)


def report(outcome: Outcome, folder: Path) -> Report:
    """Write the picture, a curve for one key or dots for several, and return the table."""
    request = outcome.request
    rows = [
        [
            variant.swept,
            str(variant.swept_value),
            outcome.mean(variant, "auc"),
            outcome.mean(variant, "logloss"),
            outcome.mean(variant, "gauc"),
            *outcome.averaged(variant),
            outcome.valid_auc(variant),
            outcome.number(variant, "latency_s"),
            outcome.number(variant, "training_s"),
            outcome.status(variant),
        ]
        for variant in request.variants
    ]
    panels = [
        Panel(
            outcome.axis(label),
            [Series(MEASURED, [outcome.mean(variant, metric) for variant in request.variants])],
            smaller_is_better=metric in SMALLER_IS_BETTER,
        )
        for label, metric in (("AUC", "auc"), ("LogLoss", "logloss"))
    ]
    picture = f"{request.definition.name}.png"
    title = f"{request.variants[0].model} on {request.config['dataset']}: {request.definition.name}"
    keys = list(dict.fromkeys(variant.swept for variant in request.variants if variant.swept))
    if len(keys) == 1:
        curve(
            folder / picture,
            title,
            keys[0],
            [variant.swept_value for variant in request.variants],
            panels,
        )
    else:
        dot_plot(folder / picture, title, [variant.name for variant in request.variants], panels)
    remark = (
        "Choose a value by valid AUC, the mean over seeds of the best epochs; test figures choose "
        "nothing."
    )
    return Report({"table": Table(_COLUMNS, rows).without_empty_columns()}, [remark], [picture])
