"""Files of rows, users or items: atomic, CSV or Parquet, read and written a chunk at a time."""

from __future__ import annotations

import csv
import itertools
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import numpy as np
import pandas as pd

from recbole_genci.config import Config
from recbole_genci.data.prepare.atomic_cells import entry_cell
from recbole_genci.serving.given_cells import check_distinct
from recbole_genci.utils.arrow_texts import arrow_texts, is_list
from recbole_genci.utils.atomic_files import encoding_of, read_header
from recbole_genci.utils.atomic_files.faults import first_ragged_line, refuse_encoding, refuse_nul
from recbole_genci.utils.atomic_files.lines import codec, line_of_row
from recbole_genci.utils.csv_rows import csv_reader
from recbole_genci.utils.disk import check_writable
from recbole_genci.utils.parquet import PARQUET, pyarrow_for
from recbole_genci.utils.writing import naming, write_atomically

ROWS_AT_ONCE = 2**17

_CSV = (".csv",)
_WHOLE_NUMBERS = (
    *(pd.Int8Dtype(), pd.Int16Dtype(), pd.Int32Dtype(), pd.Int64Dtype()),
    *(pd.UInt8Dtype(), pd.UInt16Dtype(), pd.UInt32Dtype(), pd.UInt64Dtype()),
)


def read_table(file: Path, config: Config) -> pd.DataFrame:
    """The whole of a file; see `chunks_of`."""
    return pd.concat(chunks_of(file, config), ignore_index=True)


def chunks_of(
    file: Path, config: Config, rows_at_once: int = ROWS_AT_ONCE
) -> Iterator[pd.DataFrame]:
    """The rows of a file, ``rows_at_once`` at a time, with columns named as its header says.

    ``.parquet`` and ``.csv`` are read as such; every other file is RecBole's atomic file, whose
    header has ``field:type`` and whose separators are the run's. Cells of text files are texts;
    those of Parquet become what `prepare --format=table` makes of them: True is 1, numbers with a
    fraction are texts, and so are the entries of lists. Times stay times, and are refused later.

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
        _parquet(file, config, rows_at_once)
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
    lines, begin = csv_reader(stream), 1
    for cells in lines:
        if cells:  # pandas leaves blank lines out
            yield begin
        begin = lines.line_num + 1


def _parquet(file: Path, config: Config, rows_at_once: int) -> Iterator[pd.DataFrame]:
    arrow = pyarrow_for(file)
    history_field = f"{config['ITEM_ID_FIELD']}{config['LIST_SUFFIX']}"
    # In a history stand ids, which may have white space, as may all entries with another separator.
    has_spaces = config["seq_separator"] != " "
    # A missing cell makes no floating-point numbers of whole ones.
    whole = {getattr(arrow, kind.name.lower())(): kind for kind in _WHOLE_NUMBERS}
    try:
        with arrow.parquet.ParquetFile(file) as stored:
            for batch in stored.iter_batches(rows_at_once):
                names = batch.schema.names
                columns = [
                    _as_prepared(arrow, cells, has_spaces or name == history_field)
                    for name, cells in zip(names, batch.columns)
                ]
                table = arrow.Table.from_arrays(columns, names)
                yield table.to_pandas(ignore_metadata=True, types_mapper=whole.get)
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{file} is no Parquet file, or damaged ({error}).") from error


def _as_prepared(arrow: ModuleType, cells: Any, has_spaces: bool) -> Any:
    """An Arrow array with the cells that `prepare` writes; types that it refuses stay.

    Args:
        arrow: pyarrow.
        cells: an Arrow array.
        has_spaces: whether entries of lists keep white space.
    """
    types = arrow.types
    if types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    kind = cells.type
    if types.is_boolean(kind):
        return cells.cast(arrow.int8())
    if _has_fractions(types, kind):
        return arrow.array(arrow_texts(arrow, cells), arrow.string())
    if not is_list(types, kind) or not _is_plain(types, kind.value_type):
        return cells
    entries = arrow_texts(arrow, cells.flatten())
    if not has_spaces:
        entries = [entry_cell(entry) for entry in entries]
    is_null = cells.is_null().to_numpy(zero_copy_only=False)
    lengths = cells.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.cumsum([0, *np.where(is_null, 0, lengths)])
    starts = arrow.array(ends, arrow.int32(), mask=np.append(is_null, False))
    return arrow.ListArray.from_arrays(starts, arrow.array(entries, arrow.string()))


def _has_fractions(types: ModuleType, kind: Any) -> bool:
    return types.is_float32(kind) or types.is_float64(kind) or types.is_decimal(kind)


def _is_plain(types: ModuleType, kind: Any) -> bool:
    """Whether ``kind`` is text, truth or number, or a dictionary of them."""
    if types.is_dictionary(kind):
        return _is_plain(types, kind.value_type)
    is_text = types.is_string(kind) or types.is_large_string(kind)
    is_whole = types.is_boolean(kind) or types.is_integer(kind)
    return is_text or is_whole or _has_fractions(types, kind)


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
            lines = csv_reader(stream, strict=True)
            header: list[str] = next(lines, [])
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
