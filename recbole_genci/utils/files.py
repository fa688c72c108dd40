"""Read files, and write them atomically: a file is complete or absent."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError

from recbole_genci.utils import interrupts
from recbole_genci.utils.layout import CONFIG_FILE, LOG_FILE

# Read once, as it can only be read by setting it, for all threads.
_UMASK = os.umask(0)
os.umask(_UMASK)

_DEPTH = 3  # results/compare-shop holds runs/<hash>/<run>


def what_it_is(path: str | Path) -> str:
    """What a path is instead of the file or folder that was asked for, to end a sentence."""
    if Path(path).is_dir():
        return "is a folder, not a file"
    return "is a file, not a folder" if Path(path).exists() else "does not exist"


def no_folder_of(what: str, folder: Path, file: str) -> str:
    """Say that a path is not the folder of a run or a search, and why.

    Args:
        what: what its folder was asked for.
        folder: the path.
        file: name of a file that such a folder has.
    """
    reason = f"has no {file}"
    if not folder.is_dir():
        reason = what_it_is(folder)
        if (folder.parent / file).is_file() and folder.exists():
            reason += f" (its folder is {folder.parent})"
    return f"{folder} is not the folder of a {what}: it {reason}.{newest_below(what, folder, file)}"


def newest_below(what: str, folder: Path, file: str) -> str:
    """A sentence that names the newest such folder below another; empty if none is there.

    Arguments are those of ``no_folder_of``.
    """
    for depth in range(1, _DEPTH + 1):
        found = [
            each
            for each in folder.glob("/".join([*["*"] * depth, file]))
            # A search and other programs have a config.yaml too.
            if file != CONFIG_FILE or (each.parent / LOG_FILE).is_file()
        ]
        if found:
            newest = max(found, key=lambda each: (each.stat().st_mtime, each)).parent
            return f" The newest {what} below it is {newest}."
    return ""


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


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as JSON atomically. NaN raises ValueError, since JSON has no NaN."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_mapping(file: Path, needed: Sequence[str], remedy: str, key: str = "") -> dict:
    """Return the content of a ``.json`` or ``.yaml`` file that holds one mapping.

    Args:
        needed: keys that the mapping must have; name at least one.
        remedy: a sentence that tells a person what to do, for the error.
        key: the setting that named the file, for the error.

    Raises:
        ValueError: the file cannot be read or parsed, is no mapping or lacks a key.
    """
    where = f"{key}: {file}" if key else str(file)
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text) if file.suffix == ".json" else parse_yaml(text)
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error.strerror}). {remedy}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is damaged ({yaml_fault(error, text)}). {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where} is damaged ({' '.join(str(error).split())}). {remedy}"
        ) from error
    lacks = [name for name in needed if not isinstance(content, dict) or name not in content]
    if lacks:
        raise ValueError(f"{where} is damaged: it has no '{lacks[0]}'. {remedy}")
    return content


#: PyYAML's parser in C, ten times as fast, where this PyYAML has it.
FastLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(text: str) -> Any:
    """What ``yaml.safe_load`` returns, sooner."""
    try:
        return yaml.load(text, Loader=FastLoader)
    except yaml.YAMLError:
        return yaml.safe_load(text)  # whose words for a fault are plainer


def yaml_fault(error: yaml.YAMLError, text: str) -> str:
    """What is wrong with a YAML text, with line and column, but without a copy of the line."""
    if isinstance(error, yaml.MarkedYAMLError):
        found = [(error.context, error.context_mark), (error.problem, error.problem_mark)]
        return ", ".join(
            words if mark is None else f"{words} (line {mark.line + 1}, column {mark.column + 1})"
            for words, mark in found
            if words
        )
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        code = ord(text[error.position])
        return f"{error.reason}, found #x{code:04x} (line {line}, column {column})"
    return " ".join(str(error).split())


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
    """Return the values of a journal, a file with one JSON value per line; [] if there is no file.

    Args:
        wrong_with: says what is wrong with the value of a line; None if it is right.

    Raises:
        ValueError: a line is damaged; names ``key``, the file and the line, and the ``remedy``.
    """
    values = []
    for number, line in enumerate(
        file.read_bytes().splitlines() if file.is_file() else [], start=1
    ):
        where = f"{key}: {file}, line {number} is damaged"
        try:
            values.append(json.loads(line.decode("utf-8")))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} ({error}). {remedy}") from error
        if wrong := wrong_with(values[-1]):
            raise ValueError(f"{where}: {wrong}. {remedy}")
    return values
