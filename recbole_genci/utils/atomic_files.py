"""Read RecBole's atomic files: ``field:type`` headers, one separator, no quoting.

Every reader of ``.inter``, ``.user`` and ``.item`` files goes through here, so that all agree on
what a line and a cell is. ``\\n``, ``\\r\\n`` and ``\\r`` end a line, and blank lines do not count.
A quotation mark is an ordinary character. A byte order mark is no part of the first name.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import mmap
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

CHUNK_ROWS = 2**22  # rows whose cells are in memory as texts at a time

FIELD_TYPES = ("token", "float", "token_seq", "float_seq")

#: Models read numbers as float32, in which a larger one is infinite.
LARGEST_NUMBER = float(np.finfo(np.float32).max)

# Separators that other tables have; a fault names the one that would fit.
_OTHER_SEPARATORS = ("\t", ",", ";", "|", "::", " ")
# Separators that stand in sequences of other tables.
_OTHER_SEQ_SEPARATORS = ("|", ";", ",")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
_FIRST_BYTES = {
    b"\xff\xfe": "Its first bytes are those of UTF-16: set encoding: utf-16",
    b"\xfe\xff": "Its first bytes are those of UTF-16: set encoding: utf-16",
    b"\x1f\x8b": "It is compressed: unpack it with gunzip",
    b"PK\x03\x04": "It is a zip archive (a spreadsheet is one): save or unpack it as a text file",
}


def read_header(file: Path, field_separator: str = "\t", encoding: str = "utf-8") -> dict[str, str]:
    """Return ``{field: type}`` of an atomic file, in column order.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a header cell is not ``field:type``, a field stands there twice, or the file has
            another encoding.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist. Put the dataset's atomic files into {file.parent}."
        )
    try:
        lines = _lines(file, encoding)
        first, second = next(lines, None), next(lines, "")
    except (UnicodeError, LookupError) as error:
        _refuse_encoding(file, encoding, error)
    if first is None:
        raise ValueError(
            f"{file} is empty. Its first line must name its columns as field:type; rows follow."
        )
    if "\0" in first:
        raise ValueError(f"{file}: {_nul(1, encoding)}")
    header: dict[str, str] = {}
    for cell in first.split(field_separator):
        field, _, kind = cell.rpartition(":")
        if not field or ":" in field or kind not in FIELD_TYPES:
            fault = _fault_of_header(first, second, cell, field_separator)
            raise ValueError(f"{file}: {fault}.")
        if not cell.isprintable():
            raise ValueError(
                f"{file}: header cell {cell!r} holds a character that is not shown. Remove it; "
                "columns are found by their names."
            )
        if field in header:
            raise ValueError(f"{file}: the header names field '{field}' twice. Rename one.")
        header[field] = kind
    return header


def read_atomic_file(
    file: Path,
    fields: Sequence[str],
    header: Mapping[str, str],
    field_separator: str = "\t",
    encoding: str = "utf-8",
    numbers: bool = True,
    categories: bool = False,
) -> pd.DataFrame:
    """Read ``fields`` of an atomic file: str for token, float64 for float, one str per row for
    sequences.

    Only an empty cell is a missing value, so that items called ``NA`` or ``None`` keep their rows;
    RecBole's reader drops them. A quotation mark is an ordinary character; RecBole's reader fails
    on it.

    Args:
        file: the file.
        fields: columns to return, in this order.
        header: all columns of the file, from `read_header`.
        field_separator: separator of the columns.
        encoding: the file's encoding.
        numbers: whether to read float columns as numbers; else their cells are str too.
        categories: whether to give columns of tokens as categoricals of str, which take a fraction
            of the memory; their categories stand in the order of first appearance.

    Raises:
        ValueError: a line has another number of cells, a float cell holds no finite number, or the
            file has another encoding; names file, line and cell.
    """
    names = [f"{field}:{kind}" for field, kind in header.items()]
    floats = [f"{field}:float" for field in fields if numbers and header[field] == "float"]
    tokens = [f"{field}:token" for field in fields if categories and header[field] == "token"]
    try:
        _refuse_nul(file, encoding)
        frame = _read_cells(file, names, floats, field_separator, encoding, tokens)
    except (UnicodeError, LookupError) as error:
        _refuse_encoding(file, encoding, error)
    except ValueError as error:  # pandas.errors.ParserError is one
        fault = _first_ragged_line(file, len(names), field_separator, encoding)
        fault = fault or _first_word_for_a_number(file, names, floats, field_separator, encoding)
        raise ValueError(f"{file} could not be read: {fault or error}.") from error
    if any((np.abs(frame[column].to_numpy()) > LARGEST_NUMBER).any() for column in floats):
        fault = _first_word_for_a_number(file, names, floats, field_separator, encoding)
        raise ValueError(f"{file} could not be read: {fault}.")
    if frame.empty:
        raise ValueError(f"{file} has a header but no rows.")
    frame = frame[[f"{field}:{header[field]}" for field in fields]]
    frame.columns = list(fields)
    return frame


def line_of_row(file: Path, row: int, field_separator: str, encoding: str) -> int:
    """The line, from 1 on, that row ``row``, from 0 on, of a file has; it reads the file again."""
    rows = _rows(file, field_separator, encoding)
    return next(itertools.islice(rows, row, None))[0]


def split_sequences(cells: pd.Series, seq_separator: str) -> tuple[np.ndarray, np.ndarray]:
    """Divide the cells of a sequence column; nothing, or nothing between two separators, is no
    entry.

    Returns:
        entries: ``[T]`` str (object), those of the first cell first.
        lengths: ``[R]`` number of entries of each cell.
    """
    parts = [cell.split(seq_separator) for cell in cells.fillna("")]
    counts = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
    entries = np.empty(int(counts.sum()), dtype=object)
    entries[:] = list(itertools.chain.from_iterable(parts))
    kept = entries != ""
    row = np.repeat(np.arange(len(parts)), counts)[kept]
    return entries[kept], np.bincount(row, minlength=len(parts))


def read_sequences(
    file: Path,
    field: str,
    kind: str,
    cells: pd.Series,
    seq_separator: str,
    field_separator: str = "\t",
    encoding: str = "utf-8",
) -> tuple[np.ndarray, np.ndarray]:
    """Entries ``[T]`` and lengths ``[R]`` of a sequence column; float64 entries for float_seq.

    Args:
        file, field_separator, encoding: where the cells stand, for the message.
        field, kind: name and type of the column.
        cells: the column, from `read_atomic_file`.
        seq_separator: stands between the entries of a cell.

    Raises:
        ValueError: an entry of a float_seq column is no finite number; names line and entry.
    """
    entries, lengths = split_sequences(cells, seq_separator)
    if kind != "float_seq":
        return entries, lengths
    values, is_bad = _numbers(pd.Series(entries, dtype=object))
    if is_bad.any():
        row = int(np.searchsorted(np.cumsum(lengths), int(is_bad.argmax()), side="right"))
        line = line_of_row(file, row, field_separator, encoding)
        word = entries[int(is_bad.argmax())]
        raise ValueError(
            f"{file} could not be read: line {line} has {word!r} for {field}:{kind}, one of "
            f"{is_bad.sum()} entries that are no finite number. "
            f"{_mend_of_number(word, seq_separator)}."
        )
    return values, lengths


def other_seq_separator(cells: pd.Series, seq_separator: str) -> tuple[str, int, str] | None:
    """A separator that a sequence column seems to have instead of ``seq_separator``.

    Returns:
        (separator, number of cells that have it, one of them); None if a cell has
        ``seq_separator``, or none has another.
    """
    texts = cells.dropna()
    if texts.str.contains(seq_separator, regex=False).any():
        return None
    found = {}
    for other in _OTHER_SEQ_SEPARATORS:
        has = texts.str.contains(other, regex=False).to_numpy(dtype=bool)
        if has.any():
            found[other] = (int(has.sum()), texts.iloc[int(has.argmax())])
    if not found:
        return None
    other = max(found, key=lambda each: found[each][0])
    return other, *found[other]


# ---------------------------------------------------------------- lines and cells


def _codec(encoding: str) -> str:
    """The codec to read with: in UTF-8 it skips the byte order mark that some editors write."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def _lines(file: Path, encoding: str) -> Iterator[str]:
    """The lines of a file without their ends, blank ones too."""
    with file.open(encoding=_codec(encoding)) as lines:
        for line in lines:
            yield line.removesuffix("\n")


def _rows(file: Path, field_separator: str, encoding: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line after the header that is not blank, as pandas counts them."""
    blank = " \t".replace(field_separator, "")
    for number, line in enumerate(_lines(file, encoding), start=1):
        if number > 1 and line.strip(blank):
            yield number, line


def _read_cells(
    file: Path,
    names: list[str],
    floats: Sequence[str],
    field_separator: str,
    encoding: str,
    tokens: Sequence[str] = (),
) -> pd.DataFrame:
    """All columns of a file, by their whole header cell; ``tokens`` as categoricals.

    Raises:
        ValueError: what pandas says, or nothing of use to a person; `_first_ragged_line` and
            `_first_word_for_a_number` then find the fault.
    """
    dtype = {name: np.float64 if name in floats else object for name in names}
    if len(field_separator.encode()) > 1:  # pandas takes it for a regular expression
        cells = [line.split(field_separator) for _, line in _rows(file, field_separator, encoding)]
        if any(len(row) != len(names) for row in cells):
            raise ValueError("its lines have other numbers of cells than its header")
        frame = pd.DataFrame(cells, columns=names, dtype=object)
        frame = frame.mask(frame == "")
        for name in floats:
            frame[name], is_bad = _numbers(frame[name])
            if is_bad.any():
                raise ValueError("a cell is no number")
        return _joined([frame], tokens)
    # Without low_memory equal texts of a chunk are one object, which is quick to recognise.
    chunks = pd.read_csv(
        file,
        sep=field_separator,
        dtype=dtype,
        encoding=_codec(encoding),
        engine="c",
        quoting=csv.QUOTE_NONE,
        keep_default_na=False,
        na_values=[""],
        chunksize=CHUNK_ROWS,
        low_memory=False,
    )
    with chunks:
        frame = _joined(chunks, tokens)
    # The reader silently fills a line that lacks cells; an empty last cell is allowed.
    if frame.iloc[:, -1].isna().any() and _first_ragged_line(
        file, len(names), field_separator, encoding
    ):
        raise ValueError("its lines have fewer cells than its header")
    return frame


def _joined(chunks: Iterable[pd.DataFrame], tokens: Sequence[str]) -> pd.DataFrame:
    """The rows of all chunks, columns ``tokens`` as categoricals.

    The text of every such cell never is in memory at one time.
    """
    columns: dict[str, list[np.ndarray]] = {}
    known: dict[str, dict[str, int]] = {name: {} for name in tokens}
    for chunk in chunks:
        if not isinstance(chunk.index, pd.RangeIndex):
            raise ValueError("its lines have more cells than its header")
        for name in chunk:
            column = chunk[name].to_numpy()
            if name in known:
                codes, found = pd.factorize(column)
                numbers = [known[name].setdefault(token, len(known[name])) for token in found]
                column = np.array([*numbers, -1], dtype=np.int32)[codes]  # -1: a missing token
            columns.setdefault(name, []).append(column)
    frame = {}
    for name in list(columns):
        column = np.concatenate(columns.pop(name))
        if name in known:
            kind = pd.CategoricalDtype(pd.Index(list(known[name]), dtype=object))
            frame[name] = pd.Categorical.from_codes(column, dtype=kind)
        else:
            frame[name] = pd.Series(column)
    return pd.DataFrame(frame, copy=False)


# ---------------------------------------------------------------- faults, and how to mend them


def _refuse_nul(file: Path, encoding: str) -> None:
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
            raise _NulError(f"{file}: {_nul(line, encoding)}")


def _nul(line: int, encoding: str) -> str:
    return (
        f"line {line} holds a NUL character, which no text has. The file is damaged, or it is not "
        f"{encoding}: set encoding (utf-16?), or copy it again."
    )


class _NulError(UnicodeError):
    """A NUL character; its message is complete."""


def _line_of_byte(before: bytes) -> int:
    return 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")


def _refuse_encoding(file: Path, encoding: str, error: Exception) -> NoReturn:
    """Say which line is not in the file's encoding, and which key names it.

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
    mend = next(
        (mend for first, mend in _FIRST_BYTES.items() if content.startswith(first)),
        "Set the config key `encoding` to the file's encoding (latin-1?), or convert the file",
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


def _fault_of_header(first: str, second: str, cell: str, separator: str) -> str:
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


def _first_ragged_line(file: Path, cells: int, field_separator: str, encoding: str) -> str | None:
    """Say which line is the first with another number of cells than the header; None if none is."""
    for number, line in _rows(file, field_separator, encoding):
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


def _numbers(cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Cells as float64, and which hold something that is no finite number (as float32)."""
    values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
    is_empty = (cells.isna() | (cells == "")).to_numpy()
    return values, ~(np.abs(values) <= LARGEST_NUMBER) & ~is_empty


def _first_word_for_a_number(
    file: Path,
    names: list[str],
    floats: Sequence[str],
    field_separator: str,
    encoding: str,
) -> str | None:
    """Say where a float column holds no finite number; the reader's own error does not."""
    frame = _read_cells(file, names, (), field_separator, encoding)
    for column in floats:
        _, is_bad = _numbers(frame[column])
        if is_bad.any():
            row = int(is_bad.argmax())
            line = line_of_row(file, row, field_separator, encoding)
            word = frame[column].iloc[row]
            return (
                f"line {line} has {shortened(word)!r} for {column}, one of {is_bad.sum()} lines "
                f"without a number. {_mend_of_number(word)}"
            )
    return None


def _mend_of_number(word: str, seq_separator: str | None = None) -> str:
    """How to mend a cell that should be a finite number."""
    bare = word.strip().strip("\"'")
    if bare != word.strip() and _is_number(bare):
        return f"Write it without quotation marks: {bare}"
    if seq_separator is not None:
        for other in _OTHER_SEQ_SEPARATORS:
            if other != seq_separator and all(map(_is_number, word.split(other))) and other in word:
                return (
                    f"Its entries seem to be divided by {_spell(other)}, not by "
                    f"{_spell(seq_separator)}: set seq_separator: {other!r}"
                )
    if word.count(",") == 1 and _is_number(word.replace(",", ".")):
        return f"Write a point for the decimal comma: {word.replace(',', '.')}"
    if _DATE.match(bare):
        return f"Write times as numbers, such as seconds since 1970{_seconds(bare)}"
    if bare.lower().lstrip("+-") in ("nan", "inf", "infinity", "na", "null", "none", "n/a"):
        return (
            "Leave the cell empty where a feature is not known, and leave a row without a time or "
            "label out"
        )
    try:
        float(word)
    except ValueError:
        return "Write a number, or leave the cell of a feature that is not known empty"
    return f"Write a number of at most {LARGEST_NUMBER:.2g}, or leave the cell empty"


def _seconds(word: str) -> str:
    """The seconds of a date that is written as ISO 8601 says, for a message."""
    try:
        time = datetime.fromisoformat(word)
    except ValueError:
        return ""
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return f": here {time.timestamp():.0f}"
