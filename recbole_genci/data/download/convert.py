"""Turn a downloaded archive into a dataset's folder of atomic files, complete or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recbole.utils.url import rename_atomic_files

import recbole_genci
from recbole_genci.data.download.archive import unpack
from recbole_genci.data.download.http import SourceError
from recbole_genci.data.download.sources import Download
from recbole_genci.data.prepare.build import build_dataset
from recbole_genci.data.prepare.movielens import EDITION_FILES, MovieLens
from recbole_genci.data.prepare.output import PROVENANCE_FILE, whole_folder
from recbole_genci.utils.writing import write_json

_ATOMIC_FILES = (".inter", ".user", ".item", ".kg", ".link", ".net")
#: The default of ``data.prepare``; the published files have no malformed line.
_MAX_MALFORMED = 0.001


def from_movielens(known: Download, archive: Path, work: Path, folder: Path, origin: dict) -> None:
    """Prepare MovieLens' own files, as ``data.prepare`` does.

    Args:
        known: the dataset's entry in the list of downloads.
        archive: the zip.
        work: an empty folder to unpack into, on the same disk as ``folder``.
        folder: the dataset's folder, which this function makes.
        origin: where the archive came from, for the provenance.

    Raises:
        SourceError: the zip is damaged, unsafe or holds something else.
        OSError: something cannot be written.
    """
    unpack(
        archive,
        work,
        lambda name: name.name in EDITION_FILES and str(name.parent) == known.folder,
    )
    try:
        raw = MovieLens(work / known.folder, _MAX_MALFORMED)
        build_dataset(raw, "movielens", folder, download=origin)
    except (ValueError, FileNotFoundError) as error:
        raise SourceError(f"a zip file that does not hold {known.dataset} ({error})") from error


def from_atomic(known: Download, archive: Path, work: Path, folder: Path, origin: dict) -> None:
    """Move RecBole's atomic files into the dataset's folder, under the dataset's name.

    Arguments and errors are those of ``from_movielens``.
    """
    files = unpack(archive, work, lambda name: name.suffix in _ATOMIC_FILES)
    unpacked = next((file for file in files if file.suffix == ".inter"), None)
    if unpacked is None:
        raise SourceError("a zip file without a .inter file")
    rename_atomic_files(str(unpacked.parent), archive.stem, known.dataset)
    interactions = unpacked.with_name(f"{known.dataset}.inter")
    if not interactions.is_file():
        raise SourceError(f"a zip file whose {unpacked.name} is not named after {archive.stem}")
    if known.counts:
        _check_counts(interactions, known.counts)
    provenance = {
        "dataset": known.dataset,
        "format": "atomic",
        "recbole_genci": recbole_genci.__version__,
        "download": origin,
    }
    with whole_folder(folder) as temporary:
        for file in interactions.parent.iterdir():
            if file.is_file():
                file.rename(temporary / file.name)
        write_json(temporary / PROVENANCE_FILE, provenance)


def _check_counts(interactions: Path, counts: Mapping[str, int]) -> None:
    """Compare a ``.inter`` file with the published counts, because RecBole publishes no hash."""
    users, items, rows = set(), set(), 0
    with interactions.open(encoding="utf-8", errors="replace") as lines:
        next(lines, None)
        for line in lines:
            user, _, rest = line.partition("\t")
            users.add(user)
            items.add(rest.partition("\t")[0])
            rows += 1
    actual = {"rows": rows, "users": len(users), "items": len(items)}
    if actual != dict(counts):
        raise SourceError(f"a dataset with {_words(actual)}, not {_words(counts)}")


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[name]:,} {name}" for name in ("rows", "users", "items"))
