"""Unpack a zip file that is not trusted: only into one folder, and with a limit on its size."""

from __future__ import annotations

import lzma
import re
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from recbole_genci.data.download.http import SourceError, readable

#: Limits of the unpacked size: times the size of the archive, and bytes; and of the number of
#: files. Zipped rating files have a fourth to a tenth of their size.
MAX_RATIO, MAX_BYTES, MAX_MEMBERS = 50, 50 * 10**9, 10_000

_CHUNK = 1 << 20


def unpack(archive: Path, folder: Path, wanted: Callable[[PurePosixPath], bool]) -> list[Path]:
    """Write the wanted members of ``archive`` below ``folder``, with their folders.

    Args:
        archive: a zip file.
        folder: an existing empty folder.
        wanted: whether a member is unpacked; all members are checked.

    Returns:
        list of Path: the files.

    Raises:
        SourceError: the zip is damaged, or a member would leave the folder, is a link or is too
            large.
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
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise SourceError(f"a damaged zip file ({error or type(error).__name__})") from error
    return files


def _check_members(members: list[zipfile.ZipInfo], limit: int) -> None:
    """Check the archive's table of contents before anything is written."""
    if len(members) > MAX_MEMBERS:
        raise SourceError(f"a zip file with {len(members):,} members, of at most {MAX_MEMBERS:,}")
    names = set()
    for member in members:
        # The stored name: zipfile's filename is cut at a NUL, and has slashes for the system's own
        # separator.
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
    """Write one member and count its bytes, because its header may state a wrong size."""
    written = 0
    with zipped.open(member) as source, target.open("xb") as output:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > limit:
                raise SourceError(f"a zip file that unpacks to more than {readable(limit)}")
            output.write(chunk)
    return written
