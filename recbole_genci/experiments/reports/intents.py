"""Fig. 4: the intents of one trained model, as a picture and as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from recbole_genci.data.dataset import CTRDataset
from recbole_genci.evaluation.intent_sensitivity import short_term_sensitivity
from recbole_genci.evaluation.intents import check_intents, intent_vectors, plot_intents, spread
from recbole_genci.experiments.outcome import Outcome, Report
from recbole_genci.experiments.request import Request
from recbole_genci.experiments.tables import Column, Table
from recbole_genci.serving.saved_run import load

PICTURE = "intents.png"
OPTIONAL = ("intents", "sources")  # tables and pictures of some requests


def check(request: Request, parts: Sequence[CTRDataset]) -> None:
    """Raise ValueError if the model lacks one of the intents, or if there are too few rows."""
    check_intents(request.config, min(_sample(request), len(parts[2])))


def _sample(request: Request) -> int:
    """How many test rows are looked at."""
    assert request.definition.rows is not None
    return request.definition.rows


def report(outcome: Outcome, folder: Path) -> Report:
    """Write the picture and return the table; if the run failed, the table gives the error."""
    request = outcome.request
    (variant,) = request.variants
    if not outcome.complete(variant):
        return Report(
            {
                "table": Table(
                    (Column("model"), Column("runs")), [[variant.name, outcome.status(variant)]]
                )
            }
        )
    (record,) = outcome.of_variant(variant)
    saved = load(outcome.store.run_folder(record))
    vectors = intent_vectors(saved, _sample(request), record["seed"])
    plot_intents(vectors, folder / PICTURE, record["seed"])
    numbers = spread(vectors)
    names = list(dict.fromkeys(name for each in numbers.values() for name in each))
    # A set without variation has no dimension and no direction; its values are NaN.
    rows = [
        [
            kind,
            *(
                float(each[name]) if math.isfinite(each.get(name, math.nan)) else None
                for name in names
            ),
        ]
        for kind, each in numbers.items()
    ]
    table = Table((Column("what"), *(Column(name, ".4g") for name in names)), rows)
    shares = short_term_sensitivity(saved, _sample(request), record["seed"])
    columns = Column("input"), Column("share of the short-term intent's variance", ".3f")
    sources = Table(columns, [list(each) for each in shares.items()])
    size = len(next(iter(vectors.values())))
    remarks = [
        f"{size:,} test rows of {variant.name}, seed {record['seed']}.",
        "Shares: how much H_STI changes when one input is taken from another row and the others "
        "stay (Sobol's total index).",
    ]
    return Report({"table": table, "sources": sources}, remarks, [PICTURE])
