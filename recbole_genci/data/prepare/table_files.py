"""Tables that people have, CSV or Parquet, read as texts a chunk at a time."""

from __future__ import annotations

import csv
import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from recbole_genci.data.prepare.atomic_cells import CellFault, atomic_cells
from recbole_genci.data.prepare.schema import Column
from recbole_genci.data.prepare.source import SourceFile
from recbole_genci.utils.arrow_texts import arrow_texts, is_list, is_time
from recbole_genci.utils.atomic_files.faults import shortened
from recbole_genci.utils.csv_rows import csv_reader
from recbole_genci.utils.parquet import PARQUET, pyarrow_for
from recbole_genci.utils.sha256 import sha256_of
from recbole_genci.utils.value_checks import nearest

ROWS_AT_ONCE = 2**14
_TABS = (".tsv", ".txt")


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table.

    Attributes:
        texts: the texts of each column that was asked for; an empty one is a missing value.
        places: the line (or row, from 1 on) of each of the rows.
    """

    texts: dict[str, list[str]]
    places: Sequence[int]


class Table(Protocol):
    """One file.

    Attributes:
        path: the file.
        noun: what ``Chunk.places`` counts, ``line`` or ``row``.
    """

    path: Path
    noun: str

    def columns(self) -> list[str]: ...

    def fault_of(self, column: Column) -> str | None: ...

    def hint_of(self, names: Sequence[str]) -> str: ...

    def chunks(self, wanted: Sequence[str]) -> Iterator[Chunk]: ...

    def describe(self) -> dict: ...


class CsvTable:
    """A text file, gzipped or not, with cells that may be quoted.

    Args:
        path: the file.
        delimiter: what stands between its columns; by default a comma, in ``.tsv`` and ``.txt`` a
            tab.
        header: names of its columns if it has no header line.
        encoding: encoding of lines that are not UTF-8; None refuses them.
    """

    noun = "line"

    def __init__(
        self,
        path: Path,
        delimiter: str | None = None,
        header: Sequence[str] = (),
        encoding: str | None = None,
    ) -> None:
        self.path, self._header, self._encoding = path, list(header), encoding
        name = path.name.removesuffix(".gz")
        self._delimiter = delimiter or ("\t" if name.endswith(_TABS) else ",")
        self._source = SourceFile(path, 0.0, encoding, remedy="write or download it again")

    def columns(self) -> list[str]:
        if self._header:
            return self._header
        with_quotes = csv_reader([self._source.first_line], delimiter=self._delimiter)
        try:
            return [name.strip() for name in next(with_quotes)]
        except csv.Error as error:
            raise ValueError(
                f"{self.path}: its first line is no line of a table ({error}). Its lines must end "
                "with a line feed."
            ) from error

    def fault_of(self, column: Column) -> str | None:
        """Nothing: texts may be anything."""
        return None

    def hint_of(self, names: Sequence[str]) -> str:
        """What may be wrong if a column is missing."""
        if len(names) > 1:
            return ""
        return f" Is {self._delimiter!r} what stands between columns (schema: delimiter)?"

    def chunks(self, wanted: Sequence[str]) -> Iterator[Chunk]:
        names = self.columns()
        places = [names.index(name) for name in wanted]
        rows: list[list[str]] = []
        numbers: list[int] = []
        for number, cells in self._rows(len(names)):
            rows.append(cells)
            numbers.append(number)
            if len(rows) == ROWS_AT_ONCE:
                yield _chunk(rows, numbers, wanted, places)
                rows, numbers = [], []
        if rows:
            yield _chunk(rows, numbers, wanted, places)

    def _rows(self, width: int) -> Iterator[tuple[int, list[str]]]:
        """The line on which each row begins, and its cells."""
        # Without strict, rows behind a quote that is not closed would be one cell of its row.
        lines = csv_reader(self._source.texts(), delimiter=self._delimiter, strict=True)
        begin, is_header = 1, not self._header
        try:
            for cells in lines:
                number, begin = begin, lines.line_num + 1
                if not cells or is_header:
                    is_header = is_header and not cells
                    continue
                self._source.lines += 1
                if len(cells) != width:
                    raise ValueError(
                        f"{self.path}: line {number} has {len(cells)} cells, but "
                        f"{'the schema names' if self._header else 'the header has'} {width}. Is "
                        f"{self._delimiter!r} what stands between columns (schema: delimiter), "
                        "and is each quote closed?"
                    )
                if self._source.not_utf8 and self._encoding is None:
                    raise ValueError(
                        f"{self.path}: line {number} is not UTF-8. Set encoding in the schema "
                        "(latin-1?), or convert the file."
                    )
                yield number, cells
        except csv.Error as error:
            raise ValueError(
                f"{self.path}: the row that begins in line {begin} could not be read ({error}). Is "
                "each quote closed, and each one within a cell doubled?"
            ) from error

    def describe(self) -> dict:
        facts = self._source.describe()
        return {name: facts[name] for name in ("file", "bytes", "sha256", "lines")}


def _chunk(
    rows: list[list[str]], numbers: list[int], wanted: Sequence[str], places: Sequence[int]
) -> Chunk:
    columns = list(zip(*rows))
    return Chunk({name: list(columns[place]) for name, place in zip(wanted, places)}, numbers)


class ParquetTable:
    """A Parquet file; its numbers, times and lists become texts.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: it is no Parquet file.
    """

    noun = "row"

    def __init__(self, path: Path) -> None:
        self.path, self._arrow, self._rows = path, pyarrow_for(path), 0
        with self._opened() as stored:
            self._schema = stored.schema_arrow

    def columns(self) -> list[str]:
        return list(self._schema.names)

    def fault_of(self, column: Column) -> str | None:
        """Why the type of a column in the file does not fit the schema; None if it does."""
        kind, types = self._schema.field(column.source).type, self._arrow.types
        what = f"column '{column.source}' holds"
        if column.time is not None and is_time(types, kind):
            return (
                f"{what} times ({kind}), which become seconds by themselves. Leave time out of the "
                "schema."
            )
        if not is_list(types, kind):
            return None
        if not column.kind.endswith("_seq"):
            return (
                f"{what} lists ({kind}), and the schema has one {column.kind} a row for it. Write "
                f"{column.kind}_seq there."
            )
        if is_list(types, kind.value_type):
            return f"{what} lists of lists ({kind}). Flatten them, or leave it out of the schema."
        return None

    def hint_of(self, names: Sequence[str]) -> str:
        """Nothing: the file says what its columns are."""
        return ""

    def chunks(self, wanted: Sequence[str]) -> Iterator[Chunk]:
        self._rows = 0
        with self._opened() as stored:
            try:
                for batch in stored.iter_batches(ROWS_AT_ONCE, columns=list(dict.fromkeys(wanted))):
                    start, self._rows = self._rows + 1, self._rows + batch.num_rows
                    texts = {name: self._texts(name, batch.column(name)) for name in wanted}
                    yield Chunk(texts, range(start, self._rows + 1))
            except (self._arrow.ArrowException, OSError) as error:
                raise ValueError(f"{self.path} is damaged ({error}).") from error

    def _opened(self) -> Any:
        try:
            return self._arrow.parquet.ParquetFile(self.path)
        except (self._arrow.ArrowException, OSError) as error:
            raise ValueError(f"{self.path} is no Parquet file, or damaged ({error}).") from error

    def _texts(self, name: str, cells: Any) -> list[str]:
        try:
            return arrow_texts(self._arrow, cells)
        except self._arrow.ArrowException as error:
            raise ValueError(
                f"{self.path}: column '{name}' has the type {cells.type}, which is neither text, "
                "number, time nor a list of them. Leave it out of the schema."
            ) from error

    def describe(self) -> dict:
        return {
            "file": self.path.name,
            "bytes": self.path.stat().st_size,
            "sha256": sha256_of(self.path),
            "lines": self._rows,
        }


def open_tables(
    path: Path,
    key: str,
    pattern: str | None = None,
    delimiter: str | None = None,
    header: Sequence[str] = (),
    encoding: str | None = None,
) -> list[Table]:
    """The table ``path``, or all tables below the folder ``path`` in the order of their names.

    Args:
        path: a file or folder.
        key: the argument that names it, for errors.
        pattern: which files of a folder are read; by default as `chosen_files` chooses.
        delimiter, header, encoding: see ``CsvTable``.

    Raises:
        FileNotFoundError: there is no such file, or none in the folder.
        ValueError: a file is malformed.
        ImportError: pyarrow is not installed.
    """
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        names = {file.relative_to(path).as_posix(): file for file in files}
        chosen = chosen_files(list(names), pattern)
        if not chosen:
            raise FileNotFoundError(none_chosen(f"{key}: {path}", list(names), pattern))
        files = [names[name] for name in chosen]
    else:
        name = path.name.removesuffix(".gz")
        if delimiter is None and not name.endswith((".csv", *_TABS, *PARQUET)):
            raise ValueError(
                f"{key}: {path} ends with none of .csv, .tsv, .txt (or these with .gz) and "
                ".parquet. If it is a table of text, set delimiter in the schema."
            )
        files = [path]
    return [
        ParquetTable(file)
        if file.suffix in PARQUET
        else CsvTable(file, delimiter, header, encoding)
        for file in files
    ]


def chosen_files(names: Sequence[str], pattern: str | None) -> list[str]:
    """Those that ``pattern`` names; without one all ``.parquet``, else ``.csv``, else ``.tsv``.

    Hidden ones are copies that editors and systems keep, and chosen by a pattern only.
    """
    if pattern is not None:
        return [name for name in names if fnmatch.fnmatch(name, pattern)]
    names = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    endings: tuple[tuple[str, ...], ...] = (PARQUET, (".csv", ".csv.gz"), (".tsv", ".tsv.gz"))
    found = ([name for name in names if name.endswith(each)] for each in endings)
    return next(filter(None, found), [])


def none_chosen(where: str, names: Sequence[str], pattern: str | None) -> str:
    """The sentence for a folder, ``where``, of which ``chosen_files`` chooses nothing."""
    what = f"no file that --files={pattern} names" if pattern else "no .parquet, .csv or .tsv file"
    some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{where} holds {what}; it holds {some or 'nothing'}. Give --files=<pattern of names>."


def check_columns(table: Table, columns: Sequence[Column]) -> None:
    """Refuse a table that lacks a column or has two of one name.

    Raises:
        ValueError: names the file and the column.
    """
    names = table.columns()
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{table.path}: two columns are called '{name}'; name each once.")
    for column in columns:
        if column.source not in names:
            shown = shortened(", ".join(names[:12]), 400) + (", ..." if len(names) > 12 else "")
            raise ValueError(
                f"{table.path} has no column '{column.source}', which the schema names for "
                f"{column.field}:{column.kind}.{nearest(column.source, names)} It has {shown}."
                f"{table.hint_of(names)}"
            )
        if fault := table.fault_of(column):
            raise ValueError(f"{table.path}: {fault}")


def cells_of(table: Table, columns: Sequence[Column]) -> Iterator[list[list[str]]]:
    """The cells of the columns of an atomic file, some rows at a time.

    Raises:
        ValueError: a cell is no value of its column; names file, line and cell.
    """
    wanted = list(dict.fromkeys(column.source for column in columns))
    for chunk in table.chunks(wanted):
        cells = []
        for column in columns:
            texts = chunk.texts[column.source]
            try:
                cells.append(atomic_cells(column, texts))
            except CellFault as fault:
                place = chunk.places[fault.row]
                raise ValueError(f"{table.path}: {table.noun} {place} {fault}") from fault
        yield cells
