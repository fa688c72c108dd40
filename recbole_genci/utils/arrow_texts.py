"""Cells of Arrow arrays, which Parquet files are read as, as texts."""

from __future__ import annotations

from types import ModuleType
from typing import Any

#: Ends each entry of a list that a table itself divides, as Parquet does; no text has it.
ENTRY_END = "\x1f"


def arrow_texts(arrow: ModuleType, cells: Any) -> list[str]:
    """The cells of an Arrow array as texts: times and durations in seconds, True as 1, missing
    ones empty.

    Each entry of a list ends with ``ENTRY_END``.
    """
    types = arrow.types
    if types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    kind = cells.type
    if is_list(types, kind):
        inner = arrow_texts(arrow, cells.flatten())
        lengths = [0 if row is None else row for row in cells.value_lengths().to_pylist()]
        texts, start = [], 0
        for length in lengths:
            texts.append("".join(entry + ENTRY_END for entry in inner[start : start + length]))
            start += length
        return texts
    if is_time(types, kind):
        texts = [repr(second).removesuffix(".0") for second in _seconds(arrow, cells)]
    elif types.is_boolean(kind):
        texts = cells.cast(arrow.int8()).cast(arrow.string()).to_pylist()
    else:
        texts = cells.cast(arrow.string()).to_pylist()
        if types.is_floating(kind) and any(text and "e+" in text for text in texts):
            texts = [_without_exponent(*both) for both in zip(texts, cells.to_pylist())]
    # NaN is a missing number, and True for is_null.
    nulls = cells.is_null(nan_is_null=types.is_floating(kind)).to_pylist()
    return ["" if null else text for text, null in zip(texts, nulls)]


def _without_exponent(text: str, number: float | None) -> str:
    """The digits of a whole number, as ids in other files have them: 2e+10 is 20000000000."""
    if number is None or "e+" not in text or abs(number) >= 2**53 or number != int(number):
        return text
    return str(int(number))


def _seconds(arrow: ModuleType, cells: Any) -> list[float]:
    """Times or durations in seconds, missing ones as 0."""
    kind = cells.type
    if arrow.types.is_date32(kind):
        return [day * 86_400.0 for day in cells.cast(arrow.int32()).fill_null(0).to_pylist()]
    whole = cells.cast(arrow.int64()).fill_null(0).to_pylist()
    unit = "ms" if arrow.types.is_date64(kind) else kind.unit
    if unit == "ns":  # float64 has no more places than microseconds for the times of this century
        return [each // 1000 / 1e6 for each in whole]
    return [each / {"s": 1, "ms": 1e3, "us": 1e6}[unit] for each in whole]


def is_list(types: ModuleType, kind: Any) -> bool:
    """Whether ``kind`` is a type of lists; ``types`` is pyarrow's module."""
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def is_time(types: ModuleType, kind: Any) -> bool:
    """Whether ``kind`` is a type of times or durations; ``types`` is pyarrow's module."""
    return types.is_timestamp(kind) or types.is_date(kind) or types.is_duration(kind)
