"""Check before long work that a folder can be written into, and has room."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


def check_writable(folder: Path, key: str) -> None:
    """Check before long work that files can be written into ``folder``, which need not exist yet.

    The check leaves nothing behind.

    Raises:
        ValueError: they cannot; names the key of the folder.
    """
    try:
        there = next(
            path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
        )
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise ValueError(
            f"{key}: nothing can be written into {folder} ({error.strerror}). Name another folder."
        ) from error


def check_room(folder: Path, key: str, needed: int, what: str) -> None:
    """Check before long work that the disk of ``folder`` has room; the folder need not exist yet.

    Args:
        folder: the folder.
        key: the key that names it, for the error.
        needed: bytes that will be written, about.
        what: what they are, for the error.

    Raises:
        ValueError: there is too little room.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ValueError(
            f"{key}: the disk of {folder} has {_size(free)} free, and about {_size(needed)} are "
            f"needed for {what}. Free some room, or name another folder."
        )


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
