"""The list of the files that were pushed, each with its SHA-256: ``hub.json`` beside them.

What it does not list is never fetched, so that a repository may have a README and more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from recbole_genci.utils.digests import read_sealed, sealed

FORMAT = 1
#: What a run or semantic IDs consist of. All are read without executing anything: no pickle, and no
#: NumPy array of objects.
SUFFIXES = frozenset({".json", ".yaml", ".safetensors", ".npy", ".txt", ".tsv"})
_FILES = "files"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REMEDY = "Push the folder again."
_DAMAGED = "Delete the file, so that it is fetched again, or push the folder again."


def manifest_of(digests: Mapping[str, str]) -> dict:
    """The content of a manifest, sealed.

    Args:
        digests: SHA-256 by the file's name, relative and with ``/``.
    """
    return sealed({"format": FORMAT, _FILES: dict(digests)})


def read_manifest(file: Path, where: str) -> dict[str, str]:
    """The digests that a manifest lists, by name.

    Args:
        file: the manifest.
        where: the folder on the hub, for the error.

    Raises:
        ValueError: it is damaged, of a later version, or lists what no such folder has.
    """
    content = read_sealed(file, ["format", _FILES], _DAMAGED, where)
    if content["format"] != FORMAT:
        raise ValueError(
            f"{where}: it was pushed by a later version of recbole_genci (format "
            f"{content['format']!r}; this version reads {FORMAT}). Update this package."
        )
    files = content[_FILES]
    if not isinstance(files, dict) or not all(
        isinstance(digest, str) and _SHA256.fullmatch(digest) for digest in files.values()
    ):
        raise ValueError(f"{where}: {file.name} does not list files by their SHA-256. {_REMEDY}")
    for name in files:
        if not _is_harmless(name):
            raise ValueError(
                f"{where}: {file.name} lists '{name}', and a run or semantic IDs have no such "
                f"file: only {', '.join(sorted(SUFFIXES))} are fetched, and never a pickle."
            )
    return files


def _is_harmless(name: str) -> bool:
    path = PurePosixPath(name)
    parts = name.split("/")
    return (
        path.suffix in SUFFIXES
        and "\\" not in name
        and ":" not in name
        and not any(part in ("", ".", "..") for part in parts)
    )
