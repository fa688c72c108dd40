"""Fig. 4: where the intents of one trained model lie."""

from __future__ import annotations

from pathlib import Path

from recbole_genci.evaluation.intents import intent_vectors, plot_intents, spread
from recbole_genci.experiments.outcome import Outcome, Report
from recbole_genci.experiments.tables import Column, Table
from recbole_genci.saved import load

PICTURE = "intents.png"


def report(outcome: Outcome, folder: Path) -> Report:
    """Write the picture and return the table; without a trained model, the table says why."""
    request = outcome.request
    (line,) = request.lines
    if not outcome.complete(line):
        return Report({"table": Table((Column("model"), Column("runs")), [[line.name, outcome.status(line)]])})
    (record,) = outcome.of_line(line)
    vectors = intent_vectors(load(outcome.store.run_folder(record)), request.definition.rows, record["seed"])
    plot_intents(vectors, folder / PICTURE, record["seed"])
    numbers = spread(vectors)
    names = list(dict.fromkeys(name for each in numbers.values() for name in each))
    rows = [[kind, *(None if name not in each else float(each[name]) for name in names)] for kind, each in numbers.items()]
    table = Table((Column("what"), *(Column(name, ".4g") for name in names)), rows)
    size = len(next(iter(vectors.values())))
    return Report({"table": table}, [f"{size:,} test rows of {line.name}, seed {record['seed']}."], [PICTURE])
