"""Fig. 4: where the intents of one trained model lie."""

from __future__ import annotations

from pathlib import Path

from recbole_genci.evaluation.intents import intent_vectors, plot_intents, spread
from recbole_genci.evaluation.sources import short_term_sources
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
    saved = load(outcome.store.run_folder(record))
    vectors = intent_vectors(saved, request.definition.rows, record["seed"])
    plot_intents(vectors, folder / PICTURE, record["seed"])
    numbers = spread(vectors)
    names = list(dict.fromkeys(name for each in numbers.values() for name in each))
    rows = [[kind, *(None if name not in each else float(each[name]) for name in names)] for kind, each in numbers.items()]
    table = Table((Column("what"), *(Column(name, ".4g") for name in names)), rows)
    shares = short_term_sources(saved, request.definition.rows, record["seed"])
    columns = Column("input"), Column("share of the short-term intent's variance", ".3f")
    sources = Table(columns, [list(each) for each in shares.items()])
    size = len(next(iter(vectors.values())))
    remarks = [f"{size:,} test rows of {line.name}, seed {record['seed']}.",
               "Shares: how far H_STI moves when the input is another row's, the others kept (Sobol's total index)."]  # fmt: skip
    return Report({"table": table, "sources": sources}, remarks, [PICTURE])
