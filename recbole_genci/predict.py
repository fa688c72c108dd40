"""``python -m recbole_genci.predict``: score a file of rows with the model of a finished run."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_genci.serving.run_command import RUN_OPTIONS, options_of, ranker_of
from recbole_genci.utils.answers import Work, answering
from recbole_genci.utils.value_checks import is_whole, shortened

USAGE = """\
usage: python -m recbole_genci.predict --run=FOLDER --input=FILE --output=FILE [--key=value ...]

Writes the click probability of each row, in the order of the input. If the input has labels, it
also prints the run's metrics for them, and warns of rows that the run was trained on. Memory does
not grow with the number of rows.

  --run           the folder of a finished run, saved/<model>-<dataset>-<time>, or hf:user/name of
                  one on the Hugging Face hub
  --input         rows: an atomic .inter file, .csv or .parquet, with columns named as in the run's
                  .inter file. Needed: every feature of rows; user and item, if the run has them.
                  Optional: time, and label (or the column that threshold makes labels of). A row's
                  history is its cell in item_id_list, else its user's clicks in the run before its
                  time or, without a time, all of them, later ones and its own included: a warning
                  says so, and no metrics are printed. Other columns are not read, and named
  --output        .parquet or .csv: user, item, time and label, as far as the input has them, score
  --items         new items: a .item, .csv or .parquet file, as for Ranker.with_items; without it
                  an unknown item ends the command
  --users         features of users: a .user, .csv or .parquet file; it may hold users that the run
                  does not know
  --unseen        embedding of users that the run does not know: mean (default) or padding
  --batch_rows    rows in memory at a time (default 131072)
  --model, --trust_code
                  for a model of your own: its module:Class, or True to import what the run names
"""
_NEEDED = {
    "run": "--run=saved/GenCI-ml-100k-<time>",
    "input": "--input=rows.csv",
    "output": "--output=scores.csv",
}
_OTHERS = (*RUN_OPTIONS, "users", "batch_rows")


@answering
def main(argv: Sequence[str]) -> Work:
    """Check a request, all rows of the input too, and return the work of scoring them.

    A wrong request is one sentence on stderr and exit status 2.
    """
    values = options_of(argv, USAGE, _NEEDED, _OTHERS, (*_NEEDED, "items", "users"))
    return _prepared(values) if values is not None else lambda: 0


def _prepared(values: dict) -> Work:
    from recbole_genci.serving.prediction import check_rows, predict_file
    from recbole_genci.serving.row_files import ROWS_AT_ONCE, check_output, read_table
    from recbole_genci.utils.logs import start_console

    start_console(None)
    size = values.get("batch_rows", ROWS_AT_ONCE)
    if not is_whole(size):
        raise ValueError(f"batch_rows: {shortened(size)} is not a whole number of at least 1.")
    file, output = Path(values["input"]), Path(values["output"])
    check_output(output)
    for key in ("input", "users", "items"):
        other = Path(values.get(key) or "")
        if output.exists() and other.exists() and output.samefile(other):
            raise ValueError(f"output: it is the file of --{key}; name another file.")
    ranker = ranker_of(values)
    users = read_table(Path(values["users"]), ranker.run.config) if "users" in values else None
    rows = check_rows(ranker, file, users, size)

    def predict() -> int:
        measured = predict_file(ranker, file, output, users, size)
        # JSON has no NaN, which the AUC of rows of one class is.
        metrics = {name: None if value != value else value for name, value in measured.items()}
        print(f"{rows} scores in {output}" + (f": {json.dumps(metrics)}" if metrics else ""))
        return 0

    return predict


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
