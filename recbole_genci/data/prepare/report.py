"""The report after a preparation: counts, rows that were left out, and the next command."""

from __future__ import annotations

from pathlib import Path

import yaml

from recbole_genci.config import properties_folder
from recbole_genci.utils.scripts import TRAIN, command_line
from recbole_genci.utils.words import counted


def describe(provenance: dict, folder: Path) -> str:
    """The counts in a few lines of text."""
    counts = provenance["counts"]
    rows = counts["rows"]
    lines = [
        f"{folder}: {counted(rows, 'row')}, {counted(counts['users'], 'user')}, "
        f"{counted(counts['items'], 'item')}; "
        + (
            f"{counts['clicks'] / rows:.1%} are clicks."
            if "clicks" in counts
            else f"{counts['rows_rated_above_3'] / rows:.1%} rated above 3, "
            f"{counted(counts['rows_rated_3'], 'row')} rated 3."
        )
    ]
    for source in provenance["sources"]:
        lines.append(
            f"  {source['file']}: {counted(source['lines'], 'line')}, "
            f"{source['malformed_lines']:,} malformed and left out"
        )
        lines += [f"    {reason}" for reason in source["first_malformed"]]
        if source["lines_not_utf8"]:
            lines.append(
                f"    not UTF-8, and read as {source['read_as']}: "
                f"{counted(source['lines_not_utf8'], 'line')}"
            )
    if counts["exact_repeats_left_out"]:
        lines.append(
            "  left out, as they repeat another exactly: "
            f"{counted(counts['exact_repeats_left_out'], 'row')}"
        )
    if counts["repeated_user_item_pairs_kept"]:
        lines.append(
            "  kept, as they repeat a user and item at another time or with another value: "
            f"{counted(counts['repeated_user_item_pairs_kept'], 'row')}; a run's "
            "--rm_dup_inter=first (or last) keeps one of them"
        )
    return "\n".join([*lines, *undescribed(counts)])


def undescribed(counts: dict) -> list[str]:
    """A line for each table of users or items that lacks some, or describes some twice."""
    lines = []
    for kind in ("item", "user"):
        table = counts.get(f"{kind}_file", {})
        if table.get("without_description"):
            lines.append(
                f"  not described, so that they have their id only: "
                f"{counted(table['without_description'], kind)} of the rows"
            )
        if table.get("repeated_ids"):
            lines.append(
                f"  left out: {counted(table['repeated_ids'], 'more description')} of the same "
                f"{kind}s"
            )
    return lines


def next_command(folder: Path, properties: str, models: str) -> str:
    """The command that trains on the prepared folder by the properties of a published dataset.

    ``models`` is its word ``--model=...``.
    """
    own = properties_folder() / "dataset"
    is_known = (own / f"{folder.name}.yaml").is_file()
    return train_command(folder, models, None if is_known else own / f"{properties}.yaml")


def is_tuned(dataset: str, model: str) -> bool:
    """Whether ``--recipe=tuned`` knows a model on a dataset."""
    return (properties_folder() / f"tuned/{dataset}/{model}.yaml").is_file()


def train_command(folder: Path, models: str, keys: Path | None) -> str:
    """The command that trains on a prepared folder, with a file of keys if there is one."""
    words = [models, f"--dataset={folder.name}"]
    if folder.parent != Path("dataset"):
        words.append(f"--data_path={folder.parent}")
    if keys is not None:
        words.append(f"--config_files={keys}")
    return command_line(TRAIN, *words)


def fitting_model(provenance: dict, properties: str) -> str:
    """The word that names GenCI if items have the texts that the properties name; else DIN."""
    file = properties_folder() / f"dataset/{properties}.yaml"
    texts = yaml.safe_load(file.read_text(encoding="utf-8")).get("item_text_fields") or ()
    items = provenance["counts"]["item_file"]
    has_fields = not provenance["fields"]["item"].keys().isdisjoint(texts)
    has_texts = has_fields and items["without_description"] < items["lines"]
    return "--model=GenCI" if has_texts else "--model=DIN"
