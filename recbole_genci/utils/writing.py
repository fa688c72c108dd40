"""Write files atomically: a file is complete or absent."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from safetensors import SafetensorError

from recbole_genci.utils import interrupts

# Read once, as it can only be read by setting it, for all threads.
_UMASK = os.umask(0)
os.umask(_UMASK)


class WriteError(OSError):
    """A file could not be written: the disk is full, the folder is gone, or the like."""

    def __str__(self) -> str:
        remedy = (
            "Free some room on its disk"
            if self.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            else "Look after its folder and its disk"
        )
        return f"{self.filename} could not be written ({self.strerror}). {remedy}."


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn errors of writing inside the block into a ``WriteError`` that names the file."""
    try:
        yield
    except WriteError:
        raise
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        # safetensors tells the system's error only in words.
        if number is None and (told := re.search(r"(?:os error|code:) (\d+)", str(error))):
            number = int(told[1])
        reason = os.strerror(number) if number else " ".join(str(error).split())
        raise WriteError(number, reason, str(path)) from error


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a temporary file beside ``path``, then rename it to ``path``.

    A reader sees the old file or the new one, never a part of it.

    Raises:
        WriteError: the file could not be written; the old one is still there.
    """
    with interrupts.deferred(), naming(path):  # Ctrl-C waits until the file is written
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        os.close(handle)
        try:
            write(Path(temporary))
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            give_usual_permissions(Path(temporary))
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as JSON atomically. NaN raises ValueError, since JSON has no NaN."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def give_usual_permissions(path: Path) -> None:
    """Give a file or folder, which ``tempfile`` makes private, what others of this user have."""
    path.chmod((0o777 if path.is_dir() else 0o666) & ~_UMASK)


def remove_leftovers(folder: Path, names: Sequence[str]) -> None:
    """Remove temporary files of ``write_atomically`` that a killed process has left behind.

    Call it only while no process writes the files ``names``.
    """
    for name in names:
        for temporary in folder.glob(f".{glob.escape(name)}-*"):
            temporary.unlink()
