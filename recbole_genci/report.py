"""The command ``python -m recbole_genci.report``: one table of runs started separately."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_genci.comparison.files import PAGE
from recbole_genci.comparison.notes import notes
from recbole_genci.comparison.published_scores import published_scores, with_published
from recbole_genci.comparison.table import comparison_table
from recbole_genci.comparison.text import as_text, entries
from recbole_genci.comparison.text_tables import markdown_table
from recbole_genci.config.command_line import HELP
from recbole_genci.training.saved_files import read_metrics
from recbole_genci.utils.answers import Work, answering
from recbole_genci.utils.layout import METRICS_FILE

_PUBLISHED = "--published="
USAGE = """\
usage: python -m recbole_genci.report saved/*/metrics.json [--published=FILE]

Prints one table of runs that were started separately, all on the same rows: a line per model, with
mean and standard deviation over seeds. It leaves out their times, because they were measured under
different loads.

  saved/*/metrics.json
                  the files of finished runs, or their folders. Runs of one dataset:
                  saved/*-ml-100k-*/metrics.json
  --published     a CSV file with the columns model, AUC and LogLoss, which sets scores that others
                  have published for the same rows beside yours: the .bars.csv of a dataset of BARS
"""
#: Entries of ``metrics.json`` that the table needs.
_READ = (
    "model",
    "dataset",
    "seed",
    "test",
    "best_valid",
    "best_epoch",
    "latency_s",
    "training_s",
    "data_fingerprint",
    "rows_fingerprint",
    "semantic_ids",
    "model_revision",
    "model_source",
    "config",
    "folder",
)


@answering
def main(files: Sequence[str]) -> Work:
    """Print one table of the runs whose ``metrics.json`` files are given."""
    if set(HELP) & set(files):
        print(USAGE, end="")
        return lambda: 0
    given = [word.removeprefix(_PUBLISHED) for word in files if word.startswith(_PUBLISHED)]
    files = [word for word in files if not word.startswith(_PUBLISHED)]
    if unknown := [word for word in files if word.startswith("--")]:
        raise ValueError(
            f"command line: {unknown[0]} is no option of this command; give --published=FILE and "
            "the metrics.json files of runs. --help says more."
        )
    if len(given) > 1:
        raise ValueError(f"published: give one file, not {' and '.join(given)}.")
    if not files:
        raise ValueError(
            "give the metrics.json files of the runs, for example saved/*/metrics.json"
        )
    paths = [Path(file) / METRICS_FILE if Path(file).is_dir() else Path(file) for file in files]
    remedy = "Give the metrics.json of runs as they wrote them, saved/*/metrics.json."
    for path in paths:
        if not path.exists() and (path.parent / PAGE).is_file():
            raise ValueError(
                f"{path.parent} holds the table of several runs already, {path.parent / PAGE}. "
                + remedy
            )
    runs = [read_metrics(path, remedy, _READ) for path in paths]
    table = comparison_table(runs).sort_values("AUC")
    shown = as_text(table, times=False)
    for file in given:
        shown = with_published(shown, published_scores(Path(file)))
    print(markdown_table(*entries(shown)))
    for each in notes(runs, table):
        print(f"\n{each}")
    return lambda: 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
