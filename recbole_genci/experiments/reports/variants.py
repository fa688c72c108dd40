"""Table 4 and Fig. 3: variants of one model, each against the full one with the same seed."""

from __future__ import annotations

from pathlib import Path

from recbole_genci.evaluation.calibration import DEFINITION
from recbole_genci.experiments import paper
from recbole_genci.experiments.definition import Line
from recbole_genci.experiments.outcome import CALIBRATION, Outcome, Report
from recbole_genci.experiments.plots import Panel, Series, dot_plot
from recbole_genci.experiments.tables import Column, Estimate, Table

_PAPER_TABLE = 4
_COLUMNS = (
    Column("variant"),
    Column("AUC", error="sd"),
    Column("LogLoss", error="sd"),
    Column("AUC - full", "+.4f", error="se"),
    Column("LogLoss - full", "+.4f", error="se"),
    *CALIBRATION,
    Column("paper AUC"),
    Column("paper LogLoss"),
    Column("paper AUC - full", "+.4f"),
    Column("runs"),
)


def report(outcome: Outcome, folder: Path) -> Report:
    """Write the picture and return the table; the first line is the full model."""
    request = outcome.request
    dataset, full = request.config["dataset"], request.lines[0]
    rows = [_row(outcome, line, full, dataset) for line in request.lines]
    remarks = [
        f"Differences to {full.name} are paired: mean over seeds of the difference with the same "
        "seed, ± its standard error.",
        DEFINITION,
        paper.remark(_PAPER_TABLE, dataset),
    ]
    picture = f"{request.definition.name}.png"
    panels = [
        Panel(
            outcome.axis(label),
            [
                Series("ours", [outcome.mean(line, metric) for line in request.lines]),
                Series(
                    "paper",
                    [_printed(dataset, line, full, label) for line in request.lines],
                    hollow=True,
                ),
            ],
        )
        for label, metric in (("AUC", "auc"), ("LogLoss", "logloss"))
    ]
    title = f"{full.model} on {dataset}: {request.definition.name}"
    dot_plot(folder / picture, title, [line.name for line in request.lines], panels)
    return Report({"table": Table(_COLUMNS, rows).without_empty_columns()}, remarks, [picture])


def _row(outcome: Outcome, line: Line, full: Line, dataset: str) -> list:
    auc, logloss = (_printed(dataset, line, full, name) for name in ("AUC", "LogLoss"))
    whole = _printed(dataset, full, full, "AUC")
    return [
        line.name,
        outcome.mean(line, "auc"),
        outcome.mean(line, "logloss"),
        *(_difference(outcome, line, full, metric) for metric in ("auc", "logloss")),
        *outcome.calibration(line),
        auc,
        logloss,
        auc - whole if line != full and auc is not None and whole is not None else None,
        outcome.status(line),
    ]


def _difference(outcome: Outcome, line: Line, full: Line, metric: str) -> Estimate | None:
    if line == full or not (outcome.complete(line) and outcome.complete(full)):
        return None
    return Estimate.mean_difference(outcome.values(line, metric) - outcome.values(full, metric))


def _printed(dataset: str, line: Line, full: Line, column: str) -> float | None:
    """The paper's figure; the full model goes by its own name there."""
    return paper.figure(_PAPER_TABLE, dataset, full.model if line == full else line.name, column)
