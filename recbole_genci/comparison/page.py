"""The page of a comparison, for a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from recbole_genci.comparison.text import as_text, entries
from recbole_genci.webpage.charts import looks_of
from recbole_genci.webpage.learning_curves import learning_curves
from recbole_genci.webpage.page import Section, absent, page, paragraph, text
from recbole_genci.webpage.table import Cell, sortable_table

_HIGHLIGHTED = ("GenCI",)  # stands out on the page
_EXPERIMENT = "--experiment=compare with the same models"


def comparison_page(
    runs: Sequence[Mapping],
    table: pd.DataFrame,
    note: str,
    beside: Sequence[str],
    command: str,
    cohorts: Section | None,
) -> str:
    """``report.html`` of a comparison."""
    heads, rows = entries(as_text(table))
    cells = [[Cell(entry, _leading_number(entry), entry == "-") for entry in row] for row in rows]
    folders = {(run["model"], run["seed"]): Path(run["folder"]) for run in runs}
    metric = str(runs[0].get("valid_metric", "score"))
    curves = learning_curves(folders, metric, looks_of(table.index, _HIGHLIGHTED))
    scores = f"a comparison keeps no scores of test rows. Run {_EXPERIMENT} for this section."
    results = sortable_table(heads, cells, _HIGHLIGHTED, "AUC")
    if "GAUC" in table and table["GAUC"].isna().any():
        results += paragraph("GAUC is undefined: no user has test rows of both classes.")
    results += "".join(map(paragraph, beside))
    sections = [
        Section("results", "Results", results),
        absent("pairs", "All pairs of models", scores),
        absent("calibration", "Calibration curves", scores),
        absent("groups", "Groups of users", scores),
        curves,
        cohorts or absent("cohorts", "Cohorts", "no model of this comparison reads semantic IDs."),
        Section("origin", "Origin", f"<p>Command:</p><pre>{text(command)}</pre>"),
    ]
    return page(f"Models on {runs[0]['dataset']}", note.partition("\n")[0], sections)


def _leading_number(entry: str) -> float | None:
    try:
        return float(entry.split(" ")[0])
    except ValueError:
        return None
