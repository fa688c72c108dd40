"""Fig. 5-7 and the study of cohorts: one key at a time."""

from __future__ import annotations

from pathlib import Path

from recbole_genci.experiments.definition import Line
from recbole_genci.experiments.outcome import Outcome, Report
from recbole_genci.experiments.plots import Panel, Series, curve, dot_plot
from recbole_genci.experiments.tables import Column, Table

_COLUMNS = (
    Column("key"),
    Column("value"),
    Column("AUC", error="sd"),
    Column("LogLoss", error="sd"),
    Column("GAUC", error="sd"),
    Column("valid AUC"),
    Column("latency [s]", ".3g"),
    Column("training [s]", ".0f"),
    Column("runs"),
)


def report(outcome: Outcome, folder: Path) -> Report:
    """Write the picture, a curve of one key or dots of several, and return the table."""
    request = outcome.request
    rows = [
        [
            line.swept,
            str(line.swept_value),
            outcome.mean(line, "auc"),
            outcome.mean(line, "logloss"),
            outcome.mean(line, "gauc"),
            _valid_auc(outcome, line),
            outcome.number(line, "latency_s"),
            outcome.number(line, "training_s"),
            outcome.status(line),
        ]
        for line in request.lines
    ]
    panels = [
        Panel(
            outcome.axis(label),
            [Series("ours", [outcome.mean(line, metric) for line in request.lines])],
        )
        for label, metric in (("AUC", "auc"), ("LogLoss", "logloss"))
    ]
    picture = f"{request.definition.name}.png"
    title = f"{request.lines[0].model} on {request.config['dataset']}: {request.definition.name}"
    keys = list(dict.fromkeys(line.swept for line in request.lines if line.swept))
    if len(keys) == 1:
        curve(
            folder / picture, title, keys[0], [line.swept_value for line in request.lines], panels
        )
    else:
        dot_plot(folder / picture, title, [line.name for line in request.lines], panels)
    remark = "A value is to be chosen by valid AUC, the mean over seeds of the best epochs; test figures choose nothing."
    return Report({"table": Table(_COLUMNS, rows)}, [remark], [picture])


def _valid_auc(outcome: Outcome, line: Line) -> float | None:
    runs = outcome.of_line(line)
    return (
        sum(run["best_valid"]["auc"] for run in runs) / len(runs)
        if outcome.complete(line)
        else None
    )
