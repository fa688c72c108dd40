"""``python -m recbole_genci.tokenizer --help``: its usage, and the tokenizer's keys as the properties files explain them."""

from __future__ import annotations

from recbole_genci.config import properties_folder
from recbole_genci.config.help import DATASET_USAGE, entries_of, section
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS

_USAGE = f"""\
usage: python -m recbole_genci.tokenizer --dataset=NAME [--key=value ...]
       python -m recbole_genci.tokenizer --dataset=NAME --append_to=FOLDER --output=FOLDER [--key=value ...]
       python -m recbole_genci.tokenizer --help [--dataset=NAME]

Builds the semantic IDs of a dataset's items, the very ones that a run of the same keys trains with, and prints a report.

{DATASET_USAGE}
  --append_to     a published artifact: the items of the dataset that it lacks are added, the published ones never move
  --output        where the artifact with the added items goes; a run uses it with --semantic_id_path

Keys of the dataset (filters, load_col, ...) work as in run_recbole_genci.py, whose --help lists them.
"""


def usage(dataset: str | None = None) -> str:
    """The text of ``--help``, with a dataset's defaults if it is given."""
    folder = properties_folder()
    entries = entries_of([folder / "overall.yaml", *([folder / f"dataset/{dataset}.yaml"] if dataset else [])])
    keys = TOKENIZER_KEYS | {"semantic_id_dir"}
    return "\n".join([_USAGE, section("Items to semantic IDs", {key: entries[key] for key in entries if key in keys})])
