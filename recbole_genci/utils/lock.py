"""A lock that keeps a second process out of the folder of a run, a search or an experiment.

Two processes would train into the same files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_FILE = ".lock"  # filelock leaves it behind, because another process may wait for it


@contextlib.contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Lock ``folder`` for this process, inside the block only.

    The system releases the lock when the process dies.

    Raises:
        RuntimeError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RuntimeError(
            f"another process is at work in {folder}/. Wait for it, or end it."
        ) from error
    try:
        yield
    finally:
        lock.release()


def refuse_if_busy(folder: Path) -> None:
    """Refuse a folder in which another process is at work.

    Raises:
        RuntimeError: as ``only_process``.
    """
    with only_process(folder):
        pass
