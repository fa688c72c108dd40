"""Which runs may stand in one comparison table, and in one line of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recbole_genci.config.added_keys import ADDED_KEYS
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS
from recbole_genci.training.saved_files import PLACE_KEYS
from recbole_genci.utils.words import listed

#: Entries of ``metrics.json`` that the seeds of one line share, with words for them.
_OF_A_LINE = {
    "rows_fingerprint": "features or histories of the rows",
    "semantic_ids": "semantic IDs",
    "model_revision": "revision of the model",
    "model_source": "source of the model",
}
#: Keys in which they may differ: a recipe's own keys count, and semantic IDs have a digest.
_FREE_IN_A_LINE = PLACE_KEYS | TOKENIZER_KEYS | {"seed", "recipe", "metrics", "semantic_id_path"}
_SHOWN = 3  # so many differing keys are named


def check_lines(runs: Sequence[Mapping]) -> None:
    """Refuse runs that cannot stand in one table.

    Args:
        runs: the contents of their ``metrics.json``.

    Raises:
        ValueError: the runs saw different rows, two have the same model and seed, or two of a model
            had other settings, features or code.
    """
    fingerprints = {r["data_fingerprint"]: r for r in runs}
    if len(fingerprints) > 1:
        (one, a), (other, b), *_ = fingerprints.items()
        raise ValueError(
            f"These runs cannot stand in one table: {a['folder']} saw rows {one[:12]} of "
            f"{a['dataset']}, {b['folder']} rows {other[:12]} of {b['dataset']}. Run all models "
            "with the same data and protocol."
        )
    keys = [(r["model"], r["seed"]) for r in runs]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        one, other, *_ = [r["folder"] for r in runs if (r["model"], r["seed"]) == twice]
        raise ValueError(
            f"{twice[0]} with seed {twice[1]} is given twice, by {one} and by {other}. A line of "
            "the table is one model, the mean over its seeds: leave one of the two out, or train "
            "it with another --seed."
        )
    for model in dict.fromkeys(r["model"] for r in runs):
        _check_line([r for r in runs if r["model"] == model])


def _check_line(runs: Sequence[Mapping]) -> None:
    """Refuse runs of one model that are no seeds of the same run."""
    first, *others = runs
    for other in others:
        if differing := _differing(first, other):
            raise ValueError(
                f"{first['folder']} and {other['folder']} are no seeds of one line: of "
                f"{first['model']} they differ in {listed(differing, _SHOWN)}. A line of the table "
                "is one model with the same settings, the mean over its seeds: leave one of the "
                "two out, or train it with the settings of the other."
            )


def _differing(one: Mapping, other: Mapping) -> list[str]:
    """In what two runs of a model differ besides their seeds."""
    found = [words for entry, words in _OF_A_LINE.items() if one[entry] != other[entry]]
    mine, theirs = one["config"], other["config"]
    for key in sorted((mine.keys() | theirs.keys()) - _FREE_IN_A_LINE):
        usual = ADDED_KEYS.get(key)
        values = mine.get(key, usual), theirs.get(key, usual)
        # Beside other models a run may have keys of theirs.
        known = key in ADDED_KEYS or key in mine and key in theirs
        if known and values[0] != values[1]:
            found.append(f"{key} ({values[0]!r} and {values[1]!r})")
    return found
