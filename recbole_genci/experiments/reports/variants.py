"""Table 4 and Fig. 3: variants of one model, each against the full model with the same seed."""

from __future__ import annotations

from pathlib import Path

from recbole_genci.config.metric_names import SMALLER_IS_BETTER
from recbole_genci.evaluation.calibration import DEFINITION
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
from recbole_genci.experiments.tables import Column, Estimate, Table

OPTIONAL = ("differences",)  # tables and pictures of some requests
_PAPER_TABLE = 4
_COLUMNS = (
    Column("variant"),
    Column("AUC", error="sd"),
    Column("LogLoss", error="sd"),
    Column("GAUC", error="sd"),
    Column("AUC - full", "+.4f", error="se"),
    Column("LogLoss - full", "+.4f", error="se"),
    Column("GAUC - full", "+.4f", error="se"),
    Column("valid AUC"),
    *AVERAGED,
    *CALIBRATION,
    Column("paper AUC"),
    Column("paper LogLoss"),
    Column("paper AUC - full", "+.4f"),
    Column("runs"),
)


def report(outcome: Outcome, folder: Path) -> Report:
    """Write the picture and return the table; the first variant is the full model."""
    request = outcome.request
    dataset, full = request.config["dataset"], request.variants[0]
    rows = [_row(outcome, variant, full, dataset) for variant in request.variants]
    remarks = [
        f"Differences to {full.name} are paired: mean over seeds of the difference with the same "
        "seed, ± its standard error.",
        DEFINITION,
        paper.remark(_PAPER_TABLE, dataset),
    ]
    if len(request.seeds) > 1:
        remarks.insert(1, AVERAGED_DEFINITION)
    tables = {"table": Table(_COLUMNS, rows).without_empty_columns()}
    pictures = [f"{request.definition.name}.png"]
    controls = request.definition.against or (full.name,)
    if found := differences.against_each(outcome, controls):
        tables["differences"] = differences.table(found)
        pictures.append(differences.draw(folder, outcome, found))
        remarks.append(differences.reading(outcome))
    panels = [
        Panel(
            outcome.axis(label),
            [
                Series(MEASURED, [outcome.mean(variant, metric) for variant in request.variants]),
                Series(
                    PAPER,
                    [_printed(dataset, variant, full, label) for variant in request.variants],
                    hollow=True,
                ),
            ],
            smaller_is_better=metric in SMALLER_IS_BETTER,
        )
        for label, metric in (("AUC", "auc"), ("LogLoss", "logloss"))
    ]
    title = f"{full.model} on {dataset}: {request.definition.name}"
    names = [variant.name for variant in request.variants]
    dot_plot(folder / pictures[0], title, names, panels, highlighted=[full.name])
    captions = {differences.PICTURE: differences.caption(outcome)}
    return Report(tables, remarks, pictures, captions)


def _row(outcome: Outcome, variant: Variant, full: Variant, dataset: str) -> list:
    auc, logloss = (_printed(dataset, variant, full, name) for name in ("AUC", "LogLoss"))
    whole = _printed(dataset, full, full, "AUC")
    return [
        variant.name,
        outcome.mean(variant, "auc"),
        outcome.mean(variant, "logloss"),
        outcome.mean(variant, "gauc"),
        *(_difference(outcome, variant, full, metric) for metric in ("auc", "logloss", "gauc")),
        outcome.valid_auc(variant),
        *outcome.averaged(variant),
        *outcome.calibration(variant),
        auc,
        logloss,
        auc - whole if variant != full and auc is not None and whole is not None else None,
        outcome.status(variant),
    ]


def _difference(outcome: Outcome, variant: Variant, full: Variant, metric: str) -> Estimate | None:
    if variant == full or not (outcome.complete(variant) and outcome.complete(full)):
        return None
    return Estimate.mean_difference(outcome.values(variant, metric) - outcome.values(full, metric))


def _printed(dataset: str, variant: Variant, full: Variant, column: str) -> float | None:
    """The paper's figure; the paper lists the full model under the model's name."""
    return paper.figure(
        _PAPER_TABLE, dataset, full.model if variant == full else variant.name, column
    )
