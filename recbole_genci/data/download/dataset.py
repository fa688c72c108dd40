"""Find a dataset's folder on the disk, or download it from the first host with the right file."""

from __future__ import annotations

import contextlib
import errno
import glob
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from recbole_genci.config import Config
from recbole_genci.data.download.convert import from_atomic, from_movielens
from recbole_genci.data.download.http import Expected, SourceError, fetch, readable
from recbole_genci.data.download.sources import Download, Source, known_downloads
from recbole_genci.utils.disk import check_writable
from recbole_genci.utils.value_checks import nearest

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Number of tries for each host, and seconds between two.
TRIES, PAUSE = 2, 1.0

_ENDINGS = (".inter", ".user", ".item")  # of files, which some give for the dataset's name

#: The archive with its unpacked, atomic and scratch files needs at most this times its size.
SPACE_RATIO = 12


def check_dataset(config: Config) -> None:
    """Refuse an unknown dataset before any work.

    Raises:
        ValueError: neither a folder under ``data_path`` nor a name that can be downloaded.
    """
    folder, name = Path(config["data_path"]), config["dataset"]
    if folder.is_dir():
        return
    with config.pointing_to_keys():  # they may say where the dataset is
        _check_is_known(folder, name)


def _check_is_known(folder: Path, name: str) -> None:
    """Refuse a folder that is not there, if the dataset cannot be downloaded into it."""
    _check_data_path(folder.parent, name)
    if name in known_downloads():
        return
    if folder.parent.is_file():
        raise ValueError(
            f"data_path: {folder.parent} is a file. Give the folder that holds {name}/."
        )
    here = sorted({file.parent.name for file in folder.parent.glob("*/*.inter")})
    stem = next((name.removesuffix(end) for end in _ENDINGS if name.endswith(end)), name)
    meant = nearest(stem, here) or nearest(stem, known_downloads())
    raise ValueError(
        f"dataset: there is no folder {folder}, and '{name}' is no name that can be downloaded."
        f"{meant} Put {stem}.inter (and .user, .item) into "
        f"that folder or point --data_path at the folder that holds {stem}/; "
        "python -m recbole_genci.data.prepare makes them from published files, such as those of "
        f"MovieLens. Found there: {', '.join(here) or 'nothing'}. Relative paths start at "
        f"{Path.cwd()}."
    )


def _check_data_path(folder: Path, name: str) -> None:
    """Refuse a ``data_path`` that is the folder of the dataset itself."""
    if any(folder.glob(f"{glob.escape(name)}*.inter")):
        above = folder.absolute().parent
        rename = "" if folder.absolute().name == name else f", and call this one {above / name}"
        raise ValueError(
            f"data_path: {folder} is the folder of the dataset itself. Give the folder above it, "
            f"--data_path={above}{rename}."
        )


def find_or_download(dataset: Dataset, folder: Path) -> None:
    """Make sure that ``folder`` holds the dataset's atomic files; download them if it is missing.

    Raises:
        ConnectionError: no host has the right file.
        OSError, ValueError: the folder cannot be written, or the disk is full.
    """
    if folder.is_dir():
        return
    check_dataset(dataset.config)
    if os.path.lexists(folder):
        raise FileExistsError(
            f"dataset: {folder} is not a folder. Move it away, or give another folder by "
            "--data_path."
        )
    known = known_downloads()[dataset.dataset_name]
    check_writable(folder.parent, "data_path")
    _check_space(known, folder)
    try:
        with workplace(folder) as work:
            _try_sources(known, folder, work, dataset.config["show_progress"] is not False)
    except ConnectionError:
        raise
    except OSError as error:
        if not folder.is_dir():
            raise OSError(_disk_words(error, known, folder)) from error
        _logger.info(f"{folder} is there now: another process was faster.")


def _check_space(known: Download, folder: Path) -> None:
    """Check before any download that the disk has enough space, if the size is known."""
    place = next(path for path in folder.absolute().parents if path.exists())
    needed, free = SPACE_RATIO * (known.size or 0), shutil.disk_usage(place).free
    if free < needed:
        raise ValueError(
            f"dataset: {folder} needs about {readable(needed)} while {known.archive} is prepared, "
            f"and the disk of {place} has {readable(free)} left. Free some space, or give a folder "
            "on another disk by --data_path."
        )


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """A hidden folder beside ``folder``, removed after the block with empty parents made for it."""
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
    def named(source: Source) -> str:
        size = f" ({readable(known.size)})" if known.size and not source.is_atomic else ""
        return f"{_archive_name(source)}{size}"

    try_sources(
        known.sources,
        work,
        named,
        lambda source: _from_source(known, source, folder, work, shows_progress),
        lambda reasons: _no_source(known, folder, reasons),
    )


def try_sources(
    sources: Iterable[Source],
    work: Path,
    named: Callable[[Source], str],
    attempt: Callable[[Source], _T],
    refusal: Callable[[str], str],
) -> _T:
    """What ``attempt`` returns for the first source that gives the right file.

    Args:
        sources: in the order in which they are tried, ``TRIES`` times each.
        work: the folder that attempts write into; emptied after each that fails.
        named: what is downloaded from a source, for the log.
        attempt: downloads from a source; raises SourceError if this is not the right file.
        refusal: the error's sentence, from the reasons why no source gave it.

    Raises:
        ConnectionError: no source gave the right file.
    """
    reasons = []
    for source in sources:
        _logger.info(f"Downloading {named(source)} from {source.name}, {source.url}")
        for left in reversed(range(TRIES)):
            try:
                return attempt(source)
            except SourceError as error:
                reason = error
            for path in work.iterdir():  # the next try starts with an empty folder
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            _logger.info(f"{source.name}: {reason}.{' Trying once more.' if left else ''}")
            if left:
                time.sleep(PAUSE)
        reasons.append(f"{source.name} ({source.url}): {reason}")
    raise ConnectionError(refusal("; ".join(reasons)))


def _archive_name(source: Source) -> str:
    return PurePosixPath(source.url).name


def _from_source(
    known: Download, source: Source, folder: Path, work: Path, shows_progress: bool
) -> None:
    """Download, check, unpack and convert; ``folder`` appears as the last step.

    Raises:
        SourceError: this source does not have the right file.
        OSError: something cannot be written.
    """
    if source.is_atomic:  # RecBole publishes neither size nor hash
        expected, convert = Expected(known.max_bytes), from_atomic
    else:
        expected = Expected(known.max_bytes, known.size, known.hashes)
        convert = from_movielens
    archive = work / _archive_name(source)
    origin = {"source": source.name} | fetch(source.url, archive, expected, shows_progress)
    _logger.info(f"{archive.name}: {readable(origin['bytes'])} received; making {folder}")
    (unpacked := work / "unpacked").mkdir()
    convert(known, archive, unpacked, folder, origin)


def _no_source(known: Download, folder: Path, reasons: str) -> str:
    by_hand = f"put {known.dataset}.inter (and .user, .item) into {folder}"
    if known.archive:
        output = "" if str(folder.parent) == "dataset" else f" --output={folder.parent}"
        by_hand = (
            f"get {known.archive} from elsewhere, unpack it and run "
            "python -m recbole_genci.data.prepare --format=movielens --input=<unpacked folder> "
            f"--dataset={known.dataset}{output}"
        )
    return (
        f"dataset: {folder} does not exist and {known.dataset} could not be downloaded: "
        f"{reasons}. Either {by_hand}, or point --data_path at the folder that holds "
        f"{known.dataset}/."
    )


def _disk_words(error: OSError, known: Download, folder: Path) -> str:
    advice = "Give another folder by --data_path."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        needed = ""
        if known.size:
            needed = f" ({known.dataset} needs about {readable(SPACE_RATIO * known.size)})"
        advice = f"Free some space{needed}, or give a folder on another disk by --data_path."
    reason = os.strerror(error.errno) if error.errno else error
    return f"dataset: {folder} could not be written ({reason}). {advice}"
