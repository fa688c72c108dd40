"""Reading files, and writing them so that they are whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from recbole_genci.utils import interrupts


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a temporary sibling of ``path`` and rename it: a reader sees the old file
    or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with interrupts.deferred():  # Ctrl-C comes before the file or after it
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        os.close(handle)
        try:
            write(Path(temporary))
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            # mkstemp makes files private; give them the permissions any other file of this user
            # gets.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)


def remove_leftovers(folder: Path, names: Sequence[str]) -> None:
    """Remove what ``write_atomically`` of a process that was killed has left of these files; no
    process may be writing them.
    """
    for name in names:
        for temporary in folder.glob(f".{name}-*"):
            temporary.unlink()


def check_writable(folder: Path, key: str) -> None:
    """Make sure, before long work, that its results can be written into ``folder``, or that it can
    be made; leaves nothing.

    Raises:
        ValueError: names the key that says where.
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


def write_text(path: Path, text: str) -> None:
    """Write ``text`` whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as JSON whole or not at all; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_mapping(file: Path, needed: Sequence[str], remedy: str, key: str = "") -> dict:
    """The content of a ``.json`` or ``.yaml`` file that holds one mapping.

    Args:
        needed: keys that it must hold, at least one.
        remedy, key: what a person can do, and the setting that named the file, for the sentence of
            an error.

    Raises:
        ValueError: the file cannot be read or parsed, is no mapping or lacks something.
    """
    where = f"{key}: {file}" if key else str(file)
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error.strerror}). {remedy}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f"{where} is damaged ({' '.join(str(error).split())}). {remedy}"
        ) from error
    lacks = [name for name in needed if not isinstance(content, dict) or name not in content]
    if lacks:
        raise ValueError(f"{where} is damaged: it has no '{lacks[0]}'. {remedy}")
    return content


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json_lines(
    file: Path,
    key: str,
    remedy: str,
    wrong_with: Callable[[object], str | None] = lambda value: None,
) -> list[dict]:
    """The values of a journal of one JSON value a line; none where there is no such file yet.

    Args:
        wrong_with: says what is wrong with a line's value, None if nothing is.

    Raises:
        ValueError: a damaged line; names ``key``, the file and the line, and says the ``remedy``.
    """
    values = []
    for number, line in enumerate(
        file.read_bytes().splitlines() if file.is_file() else [], start=1
    ):
        where = f"{key}: {file}, line {number} is damaged"
        try:
            values.append(json.loads(line.decode("utf-8")))
        except ValueError as error:
            raise ValueError(f"{where} ({error}). {remedy}") from error
        if wrong := wrong_with(values[-1]):
            raise ValueError(f"{where}: {wrong}. {remedy}")
    return values
