"""Values as people give them: names, numbers and sequences, each checked."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Hashable, Iterable, Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from recbole.utils import FeatureType

from recbole_genci.utils.atomic_files import split_sequences
from recbole_genci.utils.atomic_files.faults import TIMES_ARE_NUMBERS, mend_of_number
from recbole_genci.utils.atomic_files.lines import LARGEST_NUMBER
from recbole_genci.utils.value_checks import closest, shortened
from recbole_genci.utils.words import listed as listed_words

_logger = logging.getLogger(__name__)

_MOST_NAMES = 5  # of columns that are not read
_TYPES = {kind.value for kind in FeatureType}


class CellError(ValueError):
    """A value among several is wrong.

    Attributes:
        cell: the number of the value among those that were given, from 0.
    """

    def __init__(self, words: str, cell: int | np.integer) -> None:
        super().__init__(words)
        self.cell = int(cell)


def listed(names: Iterable, field: str) -> list:
    """A collection of names as a list; raises ValueError for a single name or another value."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(
            f"{field}: {shortened(names)} is not a list of names, as [{shortened(str(names))}] "
            "would be."
        )
    return list(names)


def untyped_hint(columns: Iterable) -> str:
    """`` Columns of ... have no types ...`` if some are named as in atomic files; else ""."""
    parts = [name.rpartition(":") for name in columns if isinstance(name, str)]
    names = [name for name, _, kind in parts if name and kind in _TYPES]
    if not names:
        return ""
    told = ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])
    return f" Columns of a DataFrame, a .csv or a .parquet file have no types: name them {told}."


def is_missing(cells: pd.Series) -> np.ndarray:
    """Which cells ``[R]`` are None, NaN or an empty text."""
    missing = cells.isna().to_numpy(dtype=bool)
    if pd.api.types.is_numeric_dtype(cells.dtype):
        return missing
    empty = (isinstance(cell, str) and not cell for cell in cells)
    return missing | np.fromiter(empty, dtype=bool, count=len(cells))


@contextlib.contextmanager
def naming_rows(lengths: np.ndarray) -> Iterator[None]:
    """Make a `CellError` about an entry of sequences, inside the block, one about its row.

    Args:
        lengths: ``[R]`` number of entries of each row.
    """
    try:
        yield
    except CellError as error:
        row = np.searchsorted(np.cumsum(lengths), error.cell, side="right")
        raise CellError(str(error), row) from error


def as_names(cells: pd.Series, field: str) -> np.ndarray:
    """Names ``[R]`` as texts, "" where missing. Whole numbers are written as in atomic files.

    Raises:
        CellError: a name is neither a text nor a whole number, or a floating-point number so
            large that its last digits are lost.
    """
    if pd.api.types.is_float_dtype(cells.dtype):
        numbers = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        kind = np.dtype(getattr(cells.dtype, "numpy_dtype", cells.dtype))
        _check_exact(numbers, field, np.finfo(kind).nmant + 1)
        cells = pd.Series(pd.array(numbers, dtype="Float64")).astype("Int64")
    if not pd.api.types.is_integer_dtype(cells.dtype):
        values, missing = cells.to_numpy(dtype=object), cells.isna().to_numpy()
        kinds = {type(value) for value in values[~missing]}
        allowed = (str, Integral, float)
        wrong = [kind for kind in kinds if not issubclass(kind, allowed) or kind is bool]
        if wrong:
            cell = next(n for n in np.flatnonzero(~missing) if type(values[n]) in wrong)
            raise CellError(
                f"{field}: {shortened(values[cell])} is no name. Names are strings, as in the "
                "atomic files.",
                cell,
            )
        if any(issubclass(kind, float) for kind in kinds):
            is_float = ~missing & np.array([isinstance(value, float) for value in values])
            numbers = np.full(len(values), np.nan)
            numbers[is_float] = values[is_float].astype(np.float64)
            _check_exact(numbers, field)
            values = values.copy()
            values[is_float] = [int(value) for value in values[is_float]]
            cells = pd.Series(values, dtype=object)
    names = cells.astype(object).where(~cells.isna(), "")
    return np.array([str(name) for name in names], dtype=object)


def distinct_names(names: pd.Series | Sequence, field: str) -> tuple[np.ndarray, np.ndarray]:
    """The distinct names as `as_names` writes them, and which of them each of ``names`` is.

    Returns:
        codes ``[R]``, -1 for a missing name, and the distinct names.

    Raises:
        CellError: as for `as_names`.
    """
    try:
        codes, found = pd.factorize(pd.Series(names))
    except TypeError as error:  # a list, for example, which cannot be looked up
        cell, wrong = next(
            (number, name) for number, name in enumerate(names) if not isinstance(name, Hashable)
        )
        raise CellError(
            f"{field}: {shortened(wrong)} is no name. Names are strings, as in the atomic files.",
            cell,
        ) from error
    try:
        return codes, as_names(pd.Series(found), field)
    except CellError as error:
        raise CellError(str(error), (codes == error.cell).argmax()) from error


def _check_exact(numbers: np.ndarray, field: str, bits: int = 53) -> None:
    """Refuse floating-point numbers ``[R]`` that cannot be names.

    Args:
        numbers: float64; NaN is no number.
        field: for the error.
        bits: of the significand that they came with; above 2**bits, digits are lost.
    """
    broken = ~np.isnan(numbers) & (numbers != np.floor(numbers))
    if broken.any():
        cell = broken.argmax()
        raise CellError(
            f"{field}: {numbers[cell]} is no name. Names are strings, as in the atomic files.", cell
        )
    large = np.abs(numbers) >= 2.0**bits
    if large.any():
        cell = large.argmax()
        raise CellError(
            f"{field}: {numbers[cell]} is no name: floating-point numbers from {2**bits} on "
            "lose digits. Give names as strings, as in the atomic files.",
            cell,
        )


def check_distinct(columns: Sequence[object], what: str) -> None:
    """Raise ValueError if a table has two columns of one name."""
    for name in columns:
        if list(columns).count(name) > 1:
            raise ValueError(f"{what}: two columns are called '{name}'; name each once.")


def tell_unread(what: str, columns: Iterable[object], read: Iterable[str | None]) -> None:
    """Log which columns are not read, first those whose name is close to one that is.

    Args:
        what: whose columns they are, for the message.
        columns: those that were given.
        read: those that are read if they are there; None is no column.
    """
    there, known = list(columns), set(read) - {None}
    lacking = sorted(str(name) for name in known if name not in there)
    meant = {name: closest(str(name), lacking) for name in there if name not in known}
    if meant:
        words = [
            shortened(name) + (f" (did you mean '{meant[name]}'?)" if meant[name] else "")
            for name in sorted(meant, key=lambda name: meant[name] is None)
        ]
        _logger.log(
            logging.WARNING if any(meant.values()) else logging.INFO,
            f"{what}: not read: {listed_words(words, _MOST_NAMES)}.",
        )


def numbers_of(cells: pd.Series, where: str) -> np.ndarray:
    """float64 ``[R]``, NaN where missing; raises CellError for what is no finite float32."""
    if cells.dtype.kind in "mMc":  # pandas would count nanoseconds since 1970
        raise ValueError(
            f"{where} is of type {cells.dtype}; give numbers, a time as in the .inter file."
        )
    missing = is_missing(cells)
    if cells.dtype.kind == "O":  # of pyarrow's decimals, pandas would lose the missing ones
        cells = cells.astype(object)
    given = cells.where(~missing, np.nan)
    try:
        numbers = pd.to_numeric(given, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    except OverflowError:  # a whole number beyond all floats
        too_large = [isinstance(cell, int) and abs(cell) >= 2**1000 for cell in given]
        numbers = pd.to_numeric(given.mask(too_large, np.inf), errors="coerce").to_numpy(np.float64)
    bad = ~missing & ~(np.abs(numbers) <= LARGEST_NUMBER)
    if bad.any():
        cell = int(bad.argmax())
        value: Any = cells.iloc[cell]
        words = f"{where} is {shortened(value)}, {no_number_words(numbers[cell])}."
        mend = mend_of_number(value) if isinstance(value, str) else ""
        if mend.startswith(TIMES_ARE_NUMBERS):
            words = f"{words} {mend}."
        raise CellError(words, cell)
    return numbers


def no_number_words(number: float) -> str:
    """Why a number is none that models read."""
    if np.isfinite(number):
        return f"and models read numbers up to {LARGEST_NUMBER:.2g}"
    return "which is no finite number"


def entries_of(
    cells: pd.Series, separator: str, where: str, of_numbers: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Entries ``[T]`` and lengths ``[R]`` of sequences: lists, or texts with a separator.

    Args:
        cells: ``[R]`` sequences.
        separator: stands between the entries of a text.
        where: begins the message of an error.
        of_numbers: whether entries are numbers. Models read the first, second, ... of them apart:
            none may move up to the place of a missing one.

    Raises:
        CellError: a cell is something else, a set, for example, which has no order; or a list of
            numbers lacks one before another.
    """
    cells = cells.astype(object).where(~is_missing(cells), "")
    if all(isinstance(cell, str) for cell in cells):
        return split_sequences(cells, separator)
    for number, cell in enumerate(cells):
        if not isinstance(cell, (str, list, tuple)) and np.ndim(cell) != 1:
            raise CellError(
                f"{where} is {shortened(cell)}, which is neither a list nor a text with "
                f"{separator!r} between entries.",
                number,
            )
    given = [cell.split(separator) if isinstance(cell, str) else list(cell) for cell in cells]
    rows = [[entry for entry in row if not _is_empty(entry)] for row in given]
    for number, (row, whole) in enumerate(zip(rows, given) if of_numbers else ()):
        first = next((place for place, entry in enumerate(whole) if _is_empty(entry)), len(whole))
        if first < len(row) and not isinstance(cells.iloc[number], str):
            raise CellError(
                f"{where} is a list in which number {first + 1} is missing. Write a number there.",
                number,
            )
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    every = (entry for row in rows for entry in row)  # one may be an array, which stays an entry
    return np.fromiter(every, dtype=object, count=int(lengths.sum())), lengths


def _is_empty(entry: Any) -> bool:
    """Whether an entry of a list says nothing; an array, which is no entry, is refused later."""
    return entry is None or (isinstance(entry, str) and not entry)
