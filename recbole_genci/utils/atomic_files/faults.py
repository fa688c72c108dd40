"""What is wrong with an atomic file, and how to mend it."""

from __future__ import annotations

import codecs
import itertools
import mmap
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import numpy as np

from recbole_genci.utils.atomic_files.lines import FIELD_TYPES, LARGEST_NUMBER, rows_of

# Separators that other tables have; a fault names the one that would fit.
_OTHER_SEPARATORS = ("\t", ",", ";", "|", "::", " ")
# Separators that stand in sequences of other tables.
OTHER_SEQ_SEPARATORS = ("|", ";", ",")
#: Begins the sentence about a date where a number should be.
TIMES_ARE_NUMBERS = "Write times as numbers"
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
_FIRST_BYTES = {
    b"\x1f\x8b": "It is compressed: unpack it with gunzip",
    b"PK\x03\x04": "It is a zip archive (a spreadsheet is one): save or unpack it as a text file",
}


def marked_encoding(content: bytes) -> str | None:
    """The encoding that the byte order mark at the beginning says; None without one, or UTF-8's."""
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # begin as UTF-16's do
        return "UTF-32"
    return "UTF-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None


def refuse_nul(file: Path, encoding: str) -> None:
    """Refuse a file with a NUL character, which no text has: it is damaged, or of two-byte letters.

    Raises:
        ValueError: names the line.
    """
    if "\n".encode(encoding) != b"\n" or file.stat().st_size == 0:
        return  # letters of two bytes have NUL bytes
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as all_:
        place = all_.find(b"\0")
        if place >= 0:
            line = _line_of_byte(all_[:place])
            raise _NulError(f"{file}: {nul_fault(line, encoding)}")


def nul_fault(line: int, encoding: str) -> str:
    return (
        f"line {line} holds a NUL character, which no text has. The file is damaged, or it is not "
        f"{encoding}: set encoding (utf-16?), convert it, or copy it again."
    )


class _NulError(UnicodeError):
    """A NUL character; its message is complete."""


def _line_of_byte(before: bytes) -> int:
    return 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")


def refuse_encoding(file: Path, encoding: str, error: Exception, has_key: bool = True) -> NoReturn:
    """Say which line is not in the file's encoding, and which key names it.

    Args:
        has_key: whether whoever gives the file can set the key; else it is a saved run's.

    Raises:
        ValueError: always.
    """
    if isinstance(error, _NulError):
        raise ValueError(str(error)) from None
    if isinstance(error, LookupError):
        raise ValueError(
            f"encoding: {encoding!r} is no encoding of text. Write one such as utf-8, latin-1 or "
            "utf-16."
        ) from error
    content, where = file.read_bytes(), ""
    try:
        content.decode(encoding)
    except UnicodeDecodeError as fault:
        line = _line_of_byte(content[: fault.start])
        where = f" (line {line} has the byte 0x{content[fault.start]:02x})"
    except UnicodeError as fault:
        where = f" ({fault})"
    mend = next((mend for first, mend in _FIRST_BYTES.items() if content.startswith(first)), None)
    marked = marked_encoding(content)
    if mend is None and not has_key:
        found = marked.lower() if marked else "<its encoding>"
        mend = f"Convert it to that of the run's own files: iconv -f {found} -t {encoding}"
    elif mend is None and marked:
        mend = f"Its first bytes are those of {marked}: set encoding: {marked.lower()}"
    elif mend is None:
        mend = (
            "Set the config key `encoding` to the file's encoding (latin-1?), or convert the file"
        )
    raise ValueError(f"{file} is not valid {encoding}{where}. {mend}.") from error


def _spell(separator: str) -> str:
    """A separator as a message names it."""
    return {"\t": "a tab", " ": "a space"}.get(separator, repr(separator))


def _is_header(line: str, separator: str) -> bool:
    return all(
        cell.rpartition(":")[0] and cell.rpartition(":")[2] in FIELD_TYPES
        for cell in line.split(separator)
    )


def _is_number(word: str) -> bool:
    try:
        return np.isfinite(float(word))
    except ValueError:
        return False


def fault_of_header(first: str, second: str, cell: str, separator: str) -> str:
    """What is wrong with a header, of which ``cell`` is not field:type, and how to mend it."""
    types = ", ".join(FIELD_TYPES)
    if not first.strip():
        return "its first line is blank. It must name the columns as field:type; remove blank lines"
    if separator == "\\t":
        return (
            "field_separator is a backslash and a t. For a tab leave the key out, or write it in "
            'double quotes in a YAML file: field_separator: "\\t"'
        )
    if '"' in first and _is_header(first.replace('"', ""), separator):
        return (
            f"header cell {cell!r} is quoted. In an atomic file a quotation mark is a part of the "
            "text; write the file without them (pandas: quoting=csv.QUOTE_NONE)"
        )
    other = [each for each in _OTHER_SEPARATORS if each != separator and each in first]
    for each in other:
        if _is_header(first, each):
            key = repr(each) if each != "\t" else '"\\t"'
            return (
                f"its columns are divided by {_spell(each)}, not by {_spell(separator)}. Set "
                f"field_separator: {key} (all files of a dataset have the same)"
            )
    divided = ""
    if separator not in first and other:
        divided = f", and divided by {_spell(other[0])} (key: field_separator)"
        separator = other[0]
    cells, values = first.split(separator), second.split(separator)
    example = _spelled_header(cells, values)
    if any(_is_number(each) for each in cells):
        return (
            f"its first line is a row ({shortened(first)!r}), not a header. Write a line above it "
            "that names the columns as field:type, such as "
            "user_id:token<tab>item_id:token<tab>rating:float<tab>timestamp:float"
        )
    if not any(":" in each for each in cells):
        return (
            f"its header names columns ({', '.join(cells[:6])}) without types{divided}. "
            f"Write each as field:type with a type among {types}: for example {example}"
        )
    if not cell.strip():
        return "a cell of its header is empty. Remove the separator too many, or name the column"
    return (
        f"header cell {cell!r} is not field:type with a type among {types}. Write it so, and see "
        f"that field_separator ({separator!r}) is what divides the columns"
    )


def shortened(text: str, most: int = 60) -> str:
    """The text, cut if it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _spelled_header(cells: Sequence[str], values: Sequence[str]) -> str:
    """A header with types, as far as names and the first row tell them."""
    typed = []
    for name, value in itertools.zip_longest(cells[:6], values[: len(cells[:6])], fillvalue=""):
        kind = "float" if _is_number(value) else "token_seq" if " " in value else "token"
        typed.append(f"{name}:{'token' if name.lower().endswith('id') else kind}")
    return "<tab>".join(typed) + ("<tab>..." if len(cells) > 6 else "")


def first_ragged_line(file: Path, cells: int, field_separator: str, encoding: str) -> str | None:
    """Say which line is the first with another number of cells than the header; None if none is."""
    for number, line in rows_of(file, field_separator, encoding):
        present = line.count(field_separator) + 1
        if present == cells:
            continue
        fault = f"line {number} has {present} of {cells} cells"
        if present > cells:
            fault = f"line {number} has {present} cells, but the header {cells}"
        for other in _OTHER_SEPARATORS:
            if other != field_separator and line.count(other) + 1 == cells > 1:
                return (
                    f"{fault}. It seems to be divided by {_spell(other)}; the header is divided by "
                    f"{_spell(field_separator)} (key: field_separator). Write both alike"
                )
        if present > cells:
            return (
                f"{fault}. Every line needs {cells} cells; a text within a cell may hold no "
                f"{_spell(field_separator).removeprefix('a ')}"
            )
        return f"{fault}. Every line needs {cells} cells; one may be empty, but it must be there"
    return None


def mend_of_number(word: str, seq_separator: str | None = None) -> str:
    """How to mend a cell that should be a finite number."""
    bare = word.strip().strip("\"'")
    if bare != word.strip() and _is_number(bare):
        return f"Write it without quotation marks: {bare}"
    if seq_separator is not None:
        for other in OTHER_SEQ_SEPARATORS:
            if other != seq_separator and all(map(_is_number, word.split(other))) and other in word:
                return (
                    f"Its entries seem to be divided by {_spell(other)}, not by "
                    f"{_spell(seq_separator)}: set seq_separator: {other!r}"
                )
    if word.count(",") == 1 and _is_number(word.replace(",", ".")):
        return f"Write a point for the decimal comma: {word.replace(',', '.')}"
    if "_" in bare and _is_number(bare.replace("_", "")):
        return f"Write it without underscores: {bare.replace('_', '')}"
    if _DATE.match(bare):
        return f"{TIMES_ARE_NUMBERS}, such as seconds since 1970{_seconds(bare)}"
    if bare.lower().lstrip("+-") in ("nan", "inf", "infinity", "na", "null", "none", "n/a"):
        return (
            "Leave the cell empty where a feature is not known, and leave a row without a time or "
            "label out"
        )
    try:
        float(word)
    except ValueError:
        return (
            "Write a number; a feature that is not known may be an empty cell, a label or time not"
        )
    return f"Write a number of at most {LARGEST_NUMBER:.2g}, or leave the cell empty"


def _seconds(word: str) -> str:
    """The seconds of a date that is written as ISO 8601 says, for a message."""
    try:
        time = datetime.fromisoformat(word)
    except ValueError:
        return ""
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return f": here {time.timestamp():.0f}"
