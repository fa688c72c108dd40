"""Where a dataset's folder comes from: the disk, or the first of its hosts that has the right file."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from recbole.utils.url import rename_atomic_files

import recbole_genci
from recbole_genci.data.download.archive import unpack
from recbole_genci.data.download.http import Expected, SourceError, fetch, readable
from recbole_genci.data.download.sources import Download, Source, known_downloads
from recbole_genci.data.prepare.build import build_dataset
from recbole_genci.data.prepare.movielens import EDITION_FILES, MovieLens
from recbole_genci.data.prepare.output import PROVENANCE_FILE, whole_folder
from recbole_genci.files import check_writable, write_json
from recbole_genci.registry import nearest

#: How often each host is asked, and seconds between.
TRIES, PAUSE = 2, 1.0

#: Archive, unpacked files, atomic files and scratch files together have at most so many times the archive's size.
SPACE_RATIO = 12

_ATOMIC = (".inter", ".user", ".item", ".kg", ".link", ".net")
#: MovieLens' published files have no malformed line.
_MAX_MALFORMED = 0.001

_logger = logging.getLogger()


def check_dataset(config) -> None:
    """Refuse an unknown dataset before any work.

    Raises:
        ValueError: neither a folder under ``data_path`` nor a name that can be downloaded.
    """
    folder, name = Path(config["data_path"]), config["dataset"]
    if folder.is_dir() or name in known_downloads():
        return
    here = sorted({file.parent.name for file in folder.parent.glob("*/*.inter")})
    raise ValueError(
        f"dataset: there is no folder {folder}, and '{name}' is no name that can be downloaded."
        f"{nearest(name, [*here, *known_downloads()])} Put {name}.inter (and .user, .item) into that folder or point "
        f"--data_path at the folder that holds {name}/; python -m recbole_genci.data.prepare makes them from MovieLens' and "
        f"Amazon's published files. Found there: {', '.join(here) or 'nothing'}. Relative "
        f"paths start at {Path.cwd()}."
    )


def find_or_download(dataset, folder: Path) -> None:
    """Make sure ``folder`` holds the dataset's atomic files, downloading them whole or not at all.

    Raises:
        ConnectionError: no host gives the right file.
        OSError, ValueError: the folder cannot be written, or the disk is full.
    """
    if folder.is_dir():
        return
    check_dataset(dataset.config)
    if os.path.lexists(folder):
        raise FileExistsError(f"dataset: {folder} is not a folder. Move it away, or give another folder by --data_path.")
    known = known_downloads()[dataset.dataset_name]
    check_writable(folder.parent, "data_path")
    _check_space(known, folder)
    try:
        with _workplace(folder) as work:
            _try_sources(known, folder, work, shows_progress=dataset.config["show_progress"] is not False)
    except ConnectionError:
        raise
    except OSError as error:
        if not folder.is_dir():
            raise OSError(_disk_words(error, known, folder)) from error
        _logger.info(f"{folder} is there now: another process was faster.")


def _check_space(known: Download, folder: Path) -> None:
    """Refuse, before anything is asked for, a disk that cannot hold what is known to come."""
    place = next(path for path in folder.absolute().parents if path.exists())
    needed, free = SPACE_RATIO * (known.size or 0), shutil.disk_usage(place).free
    if free < needed:
        raise ValueError(f"dataset: {folder} needs about {readable(needed)} while {known.archive} is prepared, and the disk of "
                         f"{place} has {readable(free)} left. Free some space, or give a folder on another disk by "
                         "--data_path.")  # fmt: skip


@contextlib.contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A hidden sibling of ``folder`` for the block; what was made for it goes with it, empty folders above it included."""
    made = [path for path in folder.parents if not path.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-download-", dir=folder.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # it holds the dataset now
                parent.rmdir()


def _try_sources(known: Download, folder: Path, work: Path, shows_progress: bool) -> None:
    said = []
    for source in known.sources:
        for left in reversed(range(TRIES)):
            try:
                _from_source(known, source, folder, work, shows_progress)
                return
            except SourceError as error:
                reason = error
            for path in work.iterdir():  # nothing of this try reaches the next
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if left:
                _logger.info(f"{source.name}: {reason}. Trying once more.")
                time.sleep(PAUSE)
        _logger.info(f"{source.name}: {reason}.")
        said.append(f"{source.name} ({source.url}): {reason}")
    raise ConnectionError(_no_source(known, folder, said))


def _from_source(known: Download, source: Source, folder: Path, work: Path, shows_progress: bool) -> None:
    """Download, check, unpack and convert; ``folder`` appears as the last step.

    Raises:
        SourceError: this source does not have the right file.
        OSError: something cannot be written.
    """
    expected = Expected(known.max_bytes) if source.is_atomic else Expected(known.max_bytes, known.size, known.hashes)
    archive = work / PurePosixPath(source.url).name
    size = f" ({readable(expected.size)})" if expected.size else ""
    _logger.info(f"Downloading {archive.name}{size} from {source.name}, {source.url}")
    origin = {"source": source.name} | fetch(source.url, archive, expected, shows_progress)
    _logger.info(f"{archive.name}: {readable(origin['bytes'])} received; making {folder}")
    (unpacked := work / "unpacked").mkdir()
    if source.is_atomic:
        files = unpack(archive, unpacked, lambda name: name.suffix in _ATOMIC)
        _take_atomic(known, files, archive.stem, folder, origin)
    else:
        unpack(archive, unpacked, lambda name: name.name in EDITION_FILES and str(name.parent) == known.folder)
        _convert(known, unpacked / known.folder, folder, origin)


def _convert(known: Download, raw: Path, folder: Path, origin: dict) -> None:
    try:
        build_dataset(MovieLens(raw, _MAX_MALFORMED), "movielens", folder, download=origin)
    except (ValueError, FileNotFoundError) as error:
        raise SourceError(f"a zip file that does not hold {known.dataset} ({error})") from error


def _take_atomic(known: Download, files: list[Path], old_name: str, folder: Path, origin: dict) -> None:
    """Move RecBole's atomic files into ``folder``, under the dataset's name."""
    interactions = next((file for file in files if file.suffix == ".inter"), None)
    if interactions is None:
        raise SourceError("a zip file without a .inter file")
    rename_atomic_files(str(interactions.parent), old_name, known.dataset)
    if not (interactions.parent / f"{known.dataset}.inter").is_file():
        raise SourceError(f"a zip file whose {interactions.name} is not named after {old_name}")
    if known.counts:
        _check_counts(interactions.parent / f"{known.dataset}.inter", known.counts)
    with whole_folder(folder) as temporary:
        for file in interactions.parent.iterdir():
            if file.suffix in _ATOMIC and file.is_file():
                file.rename(temporary / file.name)
        write_json(temporary / PROVENANCE_FILE, {"dataset": known.dataset, "format": "atomic",
                                                 "recbole_genci": recbole_genci.__version__, "download": origin})  # fmt: skip


def _check_counts(interactions: Path, counts: dict[str, int]) -> None:
    """Compare rows, users and items of a ``.inter`` file with the published ones: it has no published hash."""
    users, items, rows = set(), set(), 0
    with interactions.open(encoding="utf-8", errors="replace") as lines:
        next(lines, None)
        for line in lines:
            user, _, rest = line.partition("\t")
            users.add(user)
            items.add(rest.partition("\t")[0])
            rows += 1
    found = {"rows": rows, "users": len(users), "items": len(items)}
    if found != dict(counts):
        raise SourceError(f"a dataset with {_words(found)}, not {_words(counts)}")


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())


def _no_source(known: Download, folder: Path, said: list[str]) -> str:
    by_hand = f"put {known.dataset}.inter (and .user, .item) into {folder}"
    if known.archive:
        output = "" if str(folder.parent) == "dataset" else f" --output={folder.parent}"
        by_hand = (f"unpack {known.archive} from elsewhere and run python -m recbole_genci.data.prepare --format=movielens "
                   f"--input=<unpacked folder> --dataset={known.dataset}{output}")  # fmt: skip
    return (f"dataset: {folder} does not exist and {known.dataset} could not be downloaded: {'; '.join(said)}. Either {by_hand}, "
            f"or point --data_path at the folder that holds {known.dataset}/.")  # fmt: skip


def _disk_words(error: OSError, known: Download, folder: Path) -> str:
    advice = "Give another folder by --data_path."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        needed = f" ({known.dataset} needs about {readable(SPACE_RATIO * known.size)})" if known.size else ""
        advice = f"Free some space{needed}, or give a folder on another disk by --data_path."
    return f"dataset: {folder} could not be written ({os.strerror(error.errno) if error.errno else error}). {advice}"
