"""The .item file of a dataset, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_genci.utils.atomic_files import encoding_of, read_header


@dataclass(frozen=True)
class ItemFile:
    """An atomic .item file, whose header is ``item_id:token<sep>movie_title:token_seq<sep>...``.

    Attributes:
        path: the file.
        id_field: the column of raw item ids.
        separator: stands between the columns.
        encoding: the file's encoding.
        seq_separator: stands between the entries of a sequence.
    """

    path: Path
    id_field: str
    separator: str = "\t"
    encoding: str = "utf-8"
    seq_separator: str = " "

    @classmethod
    def of(cls, config: Mapping[str, Any], path: Path | str) -> ItemFile:
        """The file at ``path``, read as the configuration says."""
        return cls(
            Path(path),
            config["ITEM_ID_FIELD"],
            config["field_separator"],
            encoding_of(config),
            config["seq_separator"],
        )

    def header(self) -> dict[str, str]:
        """``{field: type}`` in the order of columns; errors as for `atomic_files.read_header`."""
        return read_header(self.path, self.separator, self.encoding)
