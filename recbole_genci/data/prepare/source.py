"""Read a published file once, line by line, and decompress, decode, count and hash it meanwhile."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import shlex
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from tqdm import tqdm

from recbole_genci.data.prepare.cleaning import MalformedLine
from recbole_genci.utils.atomic_files.faults import marked_encoding

Row = TypeVar("Row")

#: How many malformed lines are described.
SHOWN = 5
#: After this many lines, a file whose lines are mostly malformed is refused without reading on.
EARLY_LINES = 1000

_BUFFER = 1 << 20
_BYTE_ORDER_MARK = "\ufeff"
_GZIP = b"\x1f\x8b"  # the first bytes of a compressed file
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)


def _wide_encoding(line: bytes) -> str | None:
    """The encoding of a first line whose letters have two bytes or more; None for others."""
    if marked := marked_encoding(line):
        return marked
    has_nul = tuple(byte == 0 for byte in line[:4])  # in a letter that ASCII has
    if has_nul == (False, True, True, True):
        return "UTF-32LE"
    if has_nul == (True, True, True, False):
        return "UTF-32BE"
    if has_nul[:2] == (True, False):
        return "UTF-16BE"
    return "UTF-16LE" if has_nul[:2] == (False, True) else None


class _Metered(io.RawIOBase):
    """A raw file whose bytes also go into a hash and a progress bar."""

    def __init__(self, raw: io.RawIOBase, digest: hashlib._Hash, progress: tqdm) -> None:
        self._raw, self._digest, self._progress = raw, digest, progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._raw.readinto(buffer)
        self._digest.update(memoryview(buffer)[:count])
        self._progress.update(count)
        return count


class SourceFile:
    """A text file, gzipped or not; the first bytes tell which, not the name.

    Args:
        path: the file.
        max_malformed: share of lines that may be malformed. These lines are left out, counted and
            described.
        other_encoding: encoding of lines that are not UTF-8. Without one, bytes that cannot be
            decoded become U+FFFD.
        remedy: what to do about a file that is empty or broken, for errors.

    Attributes:
        lines: number of lines read, without blank lines and the header.
        malformed: number of malformed lines.
        first_malformed: the first of them, as ``"line 7: no rating"``.
        not_utf8: number of lines that are not UTF-8.
        sha256: hash of the file on the disk; None until it has been read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, or its letters have two bytes or more.
    """

    def __init__(
        self,
        path: Path,
        max_malformed: float,
        other_encoding: str | None = None,
        remedy: str = "download it again",
    ) -> None:
        self.path, self.max_malformed = Path(path), max_malformed
        self._other_encoding, self._remedy = other_encoding, remedy
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} does not exist or is not a file; check the path.")
        self.size = self.path.stat().st_size
        self.lines = self.malformed = self.not_utf8 = 0
        self.first_malformed: list[str] = []
        self.sha256: str | None = None
        self.first_line = next((line for _, line in self._decoded(shows_progress=False)), "")
        self.not_utf8 = 0
        if not self.first_line:
            raise ValueError(f"{self.path} is empty; {self._remedy}.")

    def rows(self, parse: Callable[[str], Row], has_header: bool = False) -> Iterator[Row]:
        """Yield ``parse(line)`` for each line; a line for which it raises ``MalformedLine`` is left
        out.

        Raises:
            ValueError: more lines are malformed than ``max_malformed`` allows, there is no row at
                all, or a gzip file breaks off.
        """
        for number, line in self._decoded(shows_progress=True):
            if has_header:
                has_header = False
                continue
            self.lines += 1
            try:
                row = parse(line)
            except MalformedLine as reason:
                self._note(number, str(reason))
            else:
                yield row
        if self.lines == 0:
            raise ValueError(f"{self.path} has a header but no rows; {self._remedy}.")
        self._check(self.max_malformed)

    def texts(self) -> Iterator[str]:
        """Yield each line with its end, blank ones too: a cell of a CSV file may have several.

        Raises:
            ValueError: a gzip file breaks off, or a line is not in the other encoding either.
        """
        number = 0
        try:
            with self._opened(shows_progress=True) as lines:
                for number, line in enumerate(lines, start=1):
                    text = self._decode(line)
                    yield text.removeprefix(_BYTE_ORDER_MARK) if number == 1 else text
        except _BROKEN as error:
            raise self._broken_off(number, error) from error
        except UnicodeError as error:
            raise self._undecodable(number, error) from error

    def describe(self) -> dict:
        """Facts about the file for the dataset's provenance."""
        return {
            "file": self.path.name,
            "bytes": self.size,
            "sha256": self.sha256,
            "lines": self.lines,
            "malformed_lines": self.malformed,
            "first_malformed": self.first_malformed,
            "lines_not_utf8": self.not_utf8,
            "read_as": self._other_encoding or "UTF-8 with U+FFFD",
        }

    def _note(self, number: int, reason: str) -> None:
        self.malformed += 1
        if len(self.first_malformed) < SHOWN:
            self.first_malformed.append(f"line {number}: {reason}")
        if self.lines >= EARLY_LINES:
            self._check(max(0.5, self.max_malformed))

    def _check(self, allowed: float) -> None:
        if self.malformed > allowed * self.lines:
            raise ValueError(
                f"{self.path}: {self.malformed} of {self.lines} lines are malformed "
                f"({self.malformed / self.lines:.2%}), more than "
                f"max_malformed={self.max_malformed} allows. {'; '.join(self.first_malformed)}. Is "
                "this the right file for the format? If so, repair these lines, or leave them out "
                "by a larger --max_malformed."
            )

    def _decoded(self, shows_progress: bool) -> Iterator[tuple[int, str]]:
        """Yield number and text of every line that is not blank."""
        number = 0
        try:
            with self._opened(shows_progress) as lines:
                for number, line in enumerate(lines, start=1):
                    if number == 1 and (wide := _wide_encoding(line)):
                        raise ValueError(self._wide_words(wide))
                    text = self._decode(line).rstrip("\r\n")
                    if number == 1:
                        text = text.removeprefix(_BYTE_ORDER_MARK)
                    if text.strip():
                        yield number, text
        except _BROKEN as error:
            raise self._broken_off(number, error) from error
        except UnicodeError as error:
            raise self._undecodable(number, error) from error

    def _wide_words(self, encoding: str) -> str:
        file = shlex.quote(str(self.path))
        name = shlex.quote(f"utf8-{self.path.name.removesuffix('.gz')}")
        command = f"iconv -f {encoding} -t UTF-8"
        with self.path.open("rb") as stored:
            is_packed = stored.read(2) == _GZIP
        command = f"gunzip -c < {file} | {command}" if is_packed else f"{command} {file}"
        return (
            f"{self.path} is {encoding}, and only letters of one byte or UTF-8 are read; convert "
            f"it: {command} > {name}"
        )

    def _broken_off(self, number: int, error: Exception) -> ValueError:
        return ValueError(
            f"{self.path} breaks off or is damaged after line {number} ({error}); {self._remedy}."
        )

    def _undecodable(self, number: int, error: UnicodeError) -> ValueError:
        return ValueError(
            f"{self.path}: line {number} is neither UTF-8 nor {self._other_encoding} "
            f"({getattr(error, 'reason', error)}). Set encoding to that of the file, or convert it."
        )

    def _decode(self, line: bytes) -> str:
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            self.not_utf8 += 1
            return (
                line.decode(self._other_encoding)
                if self._other_encoding
                else line.decode("utf-8", "replace")
            )

    @contextlib.contextmanager
    def _opened(self, shows_progress: bool) -> Iterator[IO]:
        digest = hashlib.sha256()
        # disable=None: no bar if stderr is a file or a pipe.
        with (
            self.path.open("rb", buffering=0) as raw,
            tqdm(
                total=self.size,
                desc=self.path.name,
                unit="B",
                unit_scale=True,
                disable=None if shows_progress else True,
            ) as progress,
            io.BufferedReader(_Metered(raw, digest, progress), _BUFFER) as stored,
        ):
            if stored.peek(2)[:2] == _GZIP:
                with (
                    gzip.GzipFile(fileobj=stored) as expanded,
                    io.BufferedReader(expanded, _BUFFER) as lines,
                ):
                    yield lines
            else:
                yield stored
            self.sha256 = digest.hexdigest()
