"""One process at a time in a folder of a run, a search or an experiment: two would train into the same files."""

from __future__ import annotations

import contextlib
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows, where nobody is kept out
    fcntl = None

LOCK_FILE = ".lock"


@contextlib.contextmanager
def only_process(folder: Path):
    """Hold ``folder`` for this process, inside the block only; the system lets go of it when the process dies.

    Raises:
        RuntimeError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK_FILE, "w", encoding="utf-8") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RuntimeError(f"another process is at work in {folder}/; wait for it, or end it.") from error
        yield
