"""One process at a time in a folder of a run, a search or an experiment: two would train into the same files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows, where nobody is kept out
    fcntl = None

LOCK_FILE = ".lock"


@contextlib.contextmanager
def only_process(folder: Path):
    """Hold ``folder`` for this process, inside the block only; the system lets go of it when the process dies. The file that
    is locked goes with the block.

    Raises:
        RuntimeError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    path = folder / LOCK_FILE
    with open(path, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:  # whoever held it has just left and taken the file along
                raise BlockingIOError("the lock file was removed meanwhile")
        except OSError as error:
            raise RuntimeError(f"another process is at work in {folder}/; wait for it, or end it.") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
