"""``python -m recbole_genci.tokenizer --help``: its usage, and the tokenizer's keys as the properties files explain them."""

from __future__ import annotations

from recbole_genci.key_help import DATASET_USAGE, section
from recbole_genci.keys import key_table
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS

_USAGE = f"""\
usage: python -m recbole_genci.tokenizer --dataset=NAME [--key=value ...]
       python -m recbole_genci.tokenizer --dataset=NAME --append_to=FOLDER --output=FOLDER [--key=value ...]
       python -m recbole_genci.tokenizer --help [--dataset=NAME]

Builds the semantic IDs of a dataset's items by the keys below, and prints a report. A run that is given one of these keys
trains with the very same IDs; without any, it takes published IDs where there are some for its items (ml-100k, ml-1m).

{DATASET_USAGE}
  --append_to     a published artifact: the items of the dataset that it lacks are added, the published ones never move
  --output        where the artifact with the added items goes; a run uses it with --semantic_id_path

Keys of the dataset (filters, load_col, ...) work as in run_recbole_genci.py, whose --help lists them.
"""


def usage(dataset: str | None = None) -> str:
    """The text of ``--help``, with a dataset's defaults if it is given."""
    table, keys = key_table(dataset=dataset), TOKENIZER_KEYS | {"semantic_id_dir"}
    return "\n".join([_USAGE, section("Items to semantic IDs", {name: table[name] for name in table if name in keys})])
