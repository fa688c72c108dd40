"""Files of rows, users or items: atomic, CSV or Parquet, read and written a chunk at a time."""

from __future__ import annotations

import csv
import itertools
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from recbole_genci.config import Config
from recbole_genci.serving.given_cells import check_distinct
from recbole_genci.utils.atomic_files import encoding_of, read_header
from recbole_genci.utils.atomic_files.faults import first_ragged_line, refuse_encoding, refuse_nul
from recbole_genci.utils.atomic_files.lines import codec, line_of_row
from recbole_genci.utils.disk import check_writable
from recbole_genci.utils.parquet import PARQUET, pyarrow_for
from recbole_genci.utils.writing import naming, write_atomically

ROWS_AT_ONCE = 2**17

_CSV = (".csv",)


def read_table(file: Path, config: Config) -> pd.DataFrame:
    """The whole of a file; see `chunks_of`."""
    return pd.concat(chunks_of(file, config), ignore_index=True)


def chunks_of(
    file: Path, config: Config, rows_at_once: int = ROWS_AT_ONCE
) -> Iterator[pd.DataFrame]:
    """The rows of a file, ``rows_at_once`` at a time, with columns named as its header says.

    ``.parquet`` and ``.csv`` are read as such; every other file is RecBole's atomic file, whose
    header has ``field:type`` and whose separators are the run's. Cells of text files are texts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is malformed or has no rows; names it.
        ImportError: pyarrow, which reads Parquet, is not installed.
    """
    if file.is_dir():
        raise ValueError(f"{file} is a folder; name a file.")
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist.")
    reads = (
        _parquet(file, rows_at_once)
        if file.suffix in PARQUET
        else _text(file, config, rows_at_once)
    )
    rows = 0
    for chunk in reads:
        rows += len(chunk)
        yield chunk
    if not rows:
        raise ValueError(f"{file} has a header but no rows.")


def place_of_row(file: Path, config: Config, row: int) -> str:
    """Where a row stands in a file that `chunks_of` reads: ``line 7``, or ``row 6`` of Parquet.

    Args:
        file: the file.
        config: the run's.
        row: the number of the row, from 0.
    """
    if file.suffix in PARQUET:
        return f"row {row + 1}"
    encoding = encoding_of(config)
    if file.suffix not in _CSV:
        return f"line {line_of_row(file, row, config['field_separator'], encoding)}"
    with file.open(encoding=codec(encoding), newline="") as stream:
        return f"line {next(itertools.islice(_csv_lines(stream), row + 1, None))}"


def _csv_lines(stream: TextIO) -> Iterator[int]:
    """The line on which the header begins and each row does; a cell may have several lines."""
    lines, begin = csv.reader(stream), 1
    for cells in lines:
        if cells:  # pandas leaves blank lines out
            yield begin
        begin = lines.line_num + 1


def _parquet(file: Path, rows_at_once: int) -> Iterator[pd.DataFrame]:
    arrow = pyarrow_for(file)
    try:
        with arrow.parquet.ParquetFile(file) as stored:
            for batch in stored.iter_batches(rows_at_once):
                yield batch.to_pandas()
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{file} is no Parquet file, or damaged ({error}).") from error


def _text(file: Path, config: Config, rows_at_once: int) -> Iterator[pd.DataFrame]:
    is_csv, encoding = file.suffix in _CSV, encoding_of(config)
    separator = "," if is_csv else config["field_separator"]
    names = None if is_csv else list(read_header(file, separator, encoding))
    if is_csv:
        _check_csv(file, encoding)
    options: dict[str, Any] = {} if is_csv else {"quoting": csv.QUOTE_NONE, "header": 0}
    try:
        refuse_nul(file, encoding)
        is_plain = len(separator.encode()) == 1  # pandas takes others for regular expressions
        chunks = pd.read_csv(
            file,
            sep=separator if is_plain else re.escape(separator),
            names=names,
            dtype=object,
            encoding=codec(encoding),
            keep_default_na=False,
            na_values=[""],
            chunksize=rows_at_once,
            engine="c" if is_plain else "python",
            **options,
        )
        with chunks:
            for chunk in chunks:
                if not isinstance(chunk.index, pd.RangeIndex):
                    raise ValueError(
                        f"{file} could not be read: its lines have more cells than its header."
                    )
                if not is_csv and chunk.iloc[:, -1].isna().any():
                    _refuse_ragged(file, len(chunk.columns), separator, encoding)
                yield chunk.reset_index(drop=True)
    except (UnicodeError, LookupError) as error:
        refuse_encoding(file, encoding, error, has_key=False)
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{file} is empty. Its first line must name its columns.") from error
    except pd.errors.ParserError as error:
        if names is not None:
            _refuse_ragged(file, len(names), separator, encoding)
        raise ValueError(f"{file} could not be read: {error}.") from error


def _check_csv(file: Path, encoding: str) -> None:
    """Refuse a column named twice, which pandas renames, a short line, which it fills, and a quote
    that is not closed, whose cell it makes of the next lines.
    """
    begin = 1
    try:
        with file.open(encoding=codec(encoding), newline="") as stream:
            lines = csv.reader(stream, strict=True)
            header = next(lines, [])
            _refuse_other_separator(file, header)
            check_distinct([name.removeprefix("\ufeff") for name in header], str(file))
            begin = lines.line_num + 1
            for cells in lines:
                begin = lines.line_num + 1
                if cells and len(cells) != len(header):
                    raise ValueError(
                        f"{file} could not be read: line {lines.line_num} has {len(cells)} of "
                        f"{len(header)} cells."
                    )
    except csv.Error as error:
        raise ValueError(
            f"{file} could not be read: the row that begins in line {begin} is no CSV ({error}). "
            "Is each quote closed, and each one within a cell doubled?"
        ) from error
    except (UnicodeError, LookupError) as error:
        refuse_encoding(file, encoding, error, has_key=False)


def _refuse_other_separator(file: Path, header: list[str]) -> None:
    """Refuse a table whose one column is all of its columns, divided by something else."""
    for other, spelled in {"\t": "a tab", ";": "';'", "|": "'|'"}.items():
        if len(header) == 1 and other in header[0]:
            raise ValueError(
                f"{file}: its columns are divided by {spelled}, and those of a .csv file by a "
                "comma. Write it with commas."
            )


def _refuse_ragged(file: Path, cells: int, separator: str, encoding: str) -> None:
    if fault := first_ragged_line(file, cells, separator, encoding):
        raise ValueError(f"{file} could not be read: {fault}.")


class TableWriter:
    """Writes a table chunk by chunk; as Parquet or CSV, by the file's name.

    Args:
        file: where to write.
    """

    def __init__(self, file: Path, suffix: str) -> None:
        self._file, self._is_parquet = file, suffix in PARQUET
        self._writer: Any = None
        self._stream: Any = None if self._is_parquet else file.open("w", encoding="utf-8")

    def write(self, chunk: pd.DataFrame) -> None:
        """Add rows with the columns of the first chunk."""
        with naming(self._file):
            if not self._is_parquet:
                chunk.to_csv(self._stream, index=False, header=self._stream.tell() == 0)
                return
            arrow = pyarrow_for(self._file)
            schema = self._writer and self._writer.schema
            table = arrow.Table.from_pandas(chunk, schema=schema, preserve_index=False)
            if self._writer is None:
                self._writer = arrow.parquet.ParquetWriter(self._file, table.schema)
            self._writer.write_table(table)

    def close(self) -> None:
        """Finish the file."""
        with naming(self._file):
            for each in (self._writer, self._stream):
                if each is not None:
                    each.close()


def check_output(file: Path) -> None:
    """Refuse a file that cannot be written, before long work.

    Raises:
        ValueError: its name says no format, or its folder takes no file.
        ImportError: pyarrow, which writes Parquet, is not installed.
    """
    if file.suffix not in (*PARQUET, *_CSV):
        raise ValueError(
            f"output: '{file}' ends with neither .parquet nor .csv, which are what can be written."
        )
    if file.suffix in PARQUET:
        pyarrow_for(file)
    if file.is_dir():
        raise ValueError(f"output: '{file}' is a folder; name a file.")
    check_writable(file.parent, "output")


@contextmanager
def written_table(file: Path) -> Iterator[TableWriter]:
    """A writer of ``file``, which appears complete at the end, or not at all."""
    with naming(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.parent)
    with folder as name:
        temporary = Path(name) / file.name
        writer = TableWriter(temporary, file.suffix)
        try:
            yield writer
        finally:
            writer.close()
        write_atomically(file, lambda path: temporary.replace(path))
