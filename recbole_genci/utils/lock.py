"""One process at a time in a folder of a run, a search or an experiment: two would train into the
same files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_FILE = ".lock"  # stays: filelock never takes away a file that somebody may be waiting for


@contextlib.contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process, inside the block only; the system lets go of it when the
    process dies.

    Raises:
        RuntimeError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RuntimeError(
            f"another process is at work in {folder}/; wait for it, or end it."
        ) from error
    try:
        yield
    finally:
        lock.release()
