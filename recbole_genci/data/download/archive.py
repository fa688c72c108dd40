"""Unpacking a zip of a stranger: nothing outside the folder, and no more than is sensible."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from recbole_genci.data.download.http import SourceError, readable

#: What an archive may unpack to: so many times its own size, and never more bytes than this.
#: Rating files shrink to a fourth to a tenth.
MAX_RATIO, MAX_BYTES, MAX_MEMBERS = 50, 50 * 10**9, 10_000

_CHUNK = 1 << 20


def unpack(archive: Path, folder: Path, wanted: Callable[[PurePosixPath], bool]) -> list[Path]:
    """Write the wanted members of ``archive`` below ``folder``, with their folders.

    Args:
        archive: a zip file.
        folder: exists and is empty.
        wanted: whether a member is unpacked; all of them are checked.

    Returns:
        list of Path: the files.

    Raises:
        SourceError: a damaged zip, or one whose members would leave the folder, are links or are
            too large.
        OSError: a file cannot be written.
    """
    limit = min(MAX_RATIO * archive.stat().st_size, MAX_BYTES)
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            _check_members(members, limit)
            written, files = 0, []
            for member in members:
                name = PurePosixPath(member.filename)
                if member.is_dir() or not wanted(name):
                    continue
                target = folder.joinpath(*name.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                written += _write_member(zipped, member, target, limit - written)
                files.append(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise SourceError(f"a damaged zip file ({error or type(error).__name__})") from error
    return files


def _check_members(members: list[zipfile.ZipInfo], limit: int) -> None:
    """Refuse the archive by its table of contents, before anything is written."""
    if len(members) > MAX_MEMBERS:
        raise SourceError(f"a zip file with {len(members):,} members, of at most {MAX_MEMBERS:,}")
    names = set()
    for member in members:
        # As stored: zipfile cuts it at a NUL and turns the system's own separator into a slash.
        name = member.orig_filename
        parts = name.split("/")
        leaves = name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in parts
        if leaves or "\\" in name or "\0" in name:
            raise SourceError(
                f"a zip file with the member {name!r}, which would be written outside its folder"
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise SourceError(f"a zip file with the link {name!r}")
        if name in names:
            raise SourceError(f"a zip file that has {name!r} twice")
        names.add(name)
    total = sum(member.file_size for member in members)
    if total > limit:
        raise SourceError(
            f"a zip file that would unpack to {readable(total)}, of at most {readable(limit)}"
        )


def _write_member(
    zipped: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, limit: int
) -> int:
    """Write one member and count its bytes: what its header says need not be true."""
    written = 0
    with zipped.open(member) as source, target.open("xb") as output:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > limit:
                raise SourceError(f"a zip file that unpacks to more than {readable(limit)}")
            output.write(chunk)
    return written
