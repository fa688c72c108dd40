"""What the short-term intent of trained models reads: the target item, the cohorts, the history.

    python benchmarks/intent_shares.py [--rows=1000] [--output=FILE.csv] <run of GenCI> [...]

A line for each run: how widely the intent spreads where it enters the prediction MLP (`radius`,
target items = 1), how far it is arranged as they are (`alignment`), and the share of its variance
that comes from the target item, the generated cohorts and the history: how much changes when a row
gets another row's. These are the numbers of `--experiment=intents`, for runs that are there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from recbole_genci import load
from recbole_genci.comparison.text_tables import markdown_table
from recbole_genci.evaluation.intent_sensitivity import short_term_sensitivity
from recbole_genci.evaluation.intents import SHORT_TERM, intent_vectors, spread
from recbole_genci.serving.saved_run import SavedRun

SEED = 2020  # of the choice of rows, and of the exchange
KEYS = ("dataset", "seed", "cohort_scale", "cohort_gradient", "weight_decay")


def shares(run: SavedRun, rows: int) -> dict[str, object]:
    """The line of a run, over ``rows`` of its test rows.

    Raises:
        ValueError: the run is of another model, lacks one of the intents, or has too few rows.
    """
    spreads = spread(intent_vectors(run, rows, SEED))[SHORT_TERM]
    found = {
        "valid AUC": run.evaluate("valid")["auc"],
        "radius": spreads["relative_radius"],
        "alignment": spreads["target_alignment"],
    }
    return {key: run.config[key] for key in KEYS} | found | short_term_sensitivity(run, rows, SEED)


def main() -> None:
    """Print the table, and write it if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--output", type=Path)
    words = parser.parse_args()
    table = pd.DataFrame([shares(load(run), words.rows) for run in words.runs]).round(4)
    print(markdown_table(list(table), table.astype(str).values.tolist()))
    if words.output:
        table.to_csv(words.output, index=False)


if __name__ == "__main__":
    main()
