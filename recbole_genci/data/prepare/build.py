"""Turn a published dataset into a folder of atomic files; each of its files is read once."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import recbole_genci
from recbole_genci.data.prepare.output import (
    PROVENANCE_FILE,
    whole_folder,
    write_interactions,
    write_table,
)
from recbole_genci.data.prepare.source import SourceFile
from recbole_genci.utils.writing import write_json


class RawDataset(Protocol):
    """The interface of a published format, which ``MovieLens``, ``Amazon`` and others implement.

    Attributes:
        sources: its files, in the order in which they are read.
        inter_fields: ``{field: type}`` of interactions: user, item, the number that tells a click,
            time, and others.
        click_from: the number from which on a row counts as a click; None if it is a rating.
        item_fields: ``{field: type}`` of items, id first.
        user_fields: the same for users; if the format does not describe users it is None, and
            ``users`` is not called.
        properties: the dataset under ``properties/dataset/`` whose protocol fits.
    """

    sources: list[SourceFile]
    inter_fields: dict[str, str]
    click_from: float | None
    item_fields: dict[str, str]
    user_fields: dict[str, str] | None
    properties: str

    def interactions(self) -> Iterable[tuple]: ...

    def items(self, wanted: Container[str]) -> Iterator[dict[str, str]]: ...

    def users(self, wanted: Container[str]) -> Iterator[dict[str, str]]: ...


def build_dataset(
    raw: RawDataset,
    format_name: str,
    folder: Path,
    overwrite: bool = False,
    download: dict | None = None,
) -> dict:
    """Write ``folder/<name>.inter``, ``.item``, ``.user`` and ``provenance.json``, all or none.

    Args:
        raw: the published files.
        format_name: name of the format on the command line, for the provenance.
        folder: the dataset's folder; its last part is the dataset's name.
        overwrite: whether to replace an existing folder.
        download: where the files came from, for the provenance; None if the user had them.

    Returns:
        dict: the content of ``provenance.json``: sources with sizes and hashes, and counts.

    Raises:
        FileExistsError: the folder exists and ``overwrite`` is not set.
        ValueError: a file is malformed.
    """
    name = folder.name
    with whole_folder(folder, overwrite) as temporary:
        counts, users, items = write_interactions(
            temporary / f"{name}.inter", raw.interactions(), raw.inter_fields, raw.click_from
        )
        fields = {"inter": raw.inter_fields, "item": raw.item_fields}
        counts["item_file"] = write_table(
            temporary / f"{name}.item", raw.item_fields, raw.items(items), items
        )
        if raw.user_fields:
            fields["user"] = raw.user_fields
            counts["user_file"] = write_table(
                temporary / f"{name}.user", raw.user_fields, raw.users(users), users
            )
        provenance = {
            "dataset": name,
            "format": format_name,
            "recbole_genci": recbole_genci.__version__,
            **({"download": download} if download else {}),
            "sources": [source.describe() for source in raw.sources],
            "counts": counts,
            "fields": fields,
        }
        write_json(temporary / PROVENANCE_FILE, provenance)
    return provenance
