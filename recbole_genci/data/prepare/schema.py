"""A schema: which columns of a person's tables become which columns of atomic files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_genci.config.yaml_files import read_yaml
from recbole_genci.utils.atomic_files import FIELD_TYPES
from recbole_genci.utils.value_checks import nearest

USER, ITEM, TIME, LABEL = "user_id", "item_id", "timestamp", "label"
#: Fields of which no row may lack a value, and the types of fields that RecBole gives a meaning.
NEEDED = (USER, ITEM, TIME, LABEL)
_TYPES = {USER: "token", ITEM: "token", TIME: "float", LABEL: "float", "rating": "float"}
TIMES = ("seconds", "milliseconds", "microseconds", "iso")
_SPEC = ("column", "type", "separator", "time")
_TABLES = {"rows": None, "users": USER, "items": ITEM}
_EXAMPLE = (
    "Write for example rows: {user_id: token, item_id: {column: video, type: token}, "
    "label: float, timestamp: {column: when, type: float, time: iso}}."
)


#: Takes a column as messages spell it, and its texts; returns other texts.
Change = Callable[[str, list[str]], list[str]]


@dataclass(frozen=True)
class Column:
    """One column of an atomic file.

    Attributes:
        field: its name there.
        source: its name in the table that it is read from.
        kind: RecBole's type: ``token``, ``float``, ``token_seq`` or ``float_seq``.
        separator: what stands between the entries of a sequence in a text; None for white space.
        time: how the table writes times: one of ``TIMES`` or a pattern as for ``strptime``; None
            for other columns.
        change: makes other texts of the table's first; used by published datasets only.
    """

    field: str
    source: str
    kind: str
    separator: str | None = None
    time: str | None = None
    change: Change | None = None

    @property
    def spelled(self) -> str:
        """For messages: ``timestamp:float (column 'when')``."""
        source = f" (column '{self.source}')" if self.source != self.field else ""
        return f"{self.field}:{self.kind}{source}"


@dataclass(frozen=True)
class Schema:
    """What is read from tables of rows, users and items.

    Attributes:
        rows: the columns of the ``.inter`` file.
        users: those of the ``.user`` file, ``user_id`` first; empty if there is none.
        items: those of the ``.item`` file, ``item_id`` first; empty if there is none.
        header: names of the columns of text files of rows that have no header line.
        delimiter: what stands between the columns of text files; None for what the name says.
        encoding: encoding of lines of text files that are not UTF-8; None refuses them.
    """

    rows: tuple[Column, ...]
    users: tuple[Column, ...] = ()
    items: tuple[Column, ...] = ()
    header: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str | None = None


@dataclass
class _Reader:
    """Reads a schema; ``where`` begins each message."""

    where: str

    def refuse(self, fault: str) -> ValueError:
        return ValueError(f"{self.where}: {fault}")

    def schema(self, content: Mapping[str, Any]) -> Schema:
        known = (*_TABLES, "header", "delimiter", "encoding")
        for key in content:
            if key not in known:
                raise self.refuse(
                    f"'{key}' is no part of a schema, which has {', '.join(known)}."
                    f"{nearest(str(key), known)} {_EXAMPLE}"
                )
        if "rows" not in content:
            raise self.refuse(f"it has no 'rows'. {_EXAMPLE}")
        tables = {name: self.columns(name, content[name]) for name in _TABLES if name in content}
        rows = {column.field for column in tables["rows"]}
        for table, first in _TABLES.items():
            if table in tables and first is not None and first not in rows:
                raise self.refuse(
                    f"{table}: the rows have no '{first}'. Add it, or leave this out."
                )
        self.refuse_shared(tables)
        header = content.get("header") or ()
        if not isinstance(header, (list, tuple)) or not all(isinstance(n, str) for n in header):
            raise self.refuse(
                f"header: {header!r} is no list of names. Write the names of all columns of a file "
                "without a header line, or leave it out."
            )
        delimiter, encoding = content.get("delimiter"), content.get("encoding")
        if delimiter is not None and (
            not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n'
        ):
            raise self.refuse(f"delimiter: {delimiter!r} is not one letter, such as ';'.")
        try:
            "".encode(encoding or "utf-8")
        except (LookupError, TypeError) as error:
            raise self.refuse(
                f"encoding: {encoding!r} is no encoding of text. Write one such as latin-1."
            ) from error
        return Schema(**tables, header=tuple(header), delimiter=delimiter, encoding=encoding)

    def refuse_shared(self, tables: Mapping[str, tuple[Column, ...]]) -> None:
        """Refuse a column of two tables: a row would get the value of its user or item."""
        of: dict[str, str] = {}
        for table, columns in tables.items():
            for field in (column.field for column in columns):
                if field in of and field != _TABLES[table]:
                    raise self.refuse(
                        f"{table}: '{field}' is a column of {of[field]} too. Rename one of them, "
                        "or leave it out."
                    )
                of.setdefault(field, table)

    def columns(self, table: str, content: Any) -> tuple[Column, ...]:
        if not isinstance(content, Mapping) or not content:
            raise self.refuse(f"{table}: it names no columns. {_EXAMPLE}")
        columns = [self.column(table, str(name), spec) for name, spec in content.items()]
        first = _TABLES[table]
        if first is not None:
            if first not in content:
                raise self.refuse(f"{table}: it has no '{first}', which says whom a line is about.")
            columns.sort(key=lambda column: column.field != first)
        elif (USER in content) != (ITEM in content):
            there, gone = (USER, ITEM) if USER in content else (ITEM, USER)
            raise self.refuse(
                f"{table}: it has '{there}' but no '{gone}'. RecBole reads both or none: give "
                f"both, or rename '{there}'."
            )
        return tuple(columns)

    def column(self, table: str, name: str, spec: Any) -> Column:
        where = f"{table}: '{name}'"
        if not name.isprintable() or not name.strip() or ":" in name:
            raise self.refuse(f"{where} is no name of a column: leave out colons and white space.")
        spec = {"type": spec} if isinstance(spec, str) else spec
        if not isinstance(spec, Mapping):
            raise self.refuse(f"{where} is {spec!r}, not a type among {', '.join(FIELD_TYPES)}.")
        for key in spec:
            if key not in _SPEC:
                raise self.refuse(
                    f"{where}: '{key}' is unknown; a column has {', '.join(_SPEC)}."
                    f"{nearest(str(key), _SPEC)}"
                )
        kind = spec.get("type")
        if kind not in FIELD_TYPES:
            raise self.refuse(
                f"{where}: the type {kind!r} is none of {', '.join(FIELD_TYPES)}."
                f"{nearest(str(kind), FIELD_TYPES)}"
            )
        if kind != _TYPES.get(name, kind):
            raise self.refuse(f"{where}: its type is {_TYPES[name]} for RecBole, not {kind}.")
        separator, time = spec.get("separator"), spec.get("time")
        if separator is not None and (not kind.endswith("_seq") or not str(separator)):
            raise self.refuse(
                f"{where}: separator is for what stands between entries of a token_seq or "
                "float_seq. Leave it out."
            )
        if time is not None and kind != "float":
            raise self.refuse(f"{where}: time is for columns of type float. Leave it out.")
        if time is not None and time not in TIMES and "%" not in str(time):
            raise self.refuse(
                f"{where}: time {time!r} is none of {', '.join(TIMES)}, nor a pattern such as "
                f"'%d/%m/%Y %H:%M'.{nearest(str(time), TIMES)}"
            )
        if time is not None and time not in TIMES:
            try:
                pd.to_datetime(["no time"], format=str(time), utc=True, errors="coerce")
            except (ValueError, re.error) as error:
                raise self.refuse(
                    f"{where}: time {str(time)!r} is no pattern of times ({error}). Write one such "
                    "as '%d/%m/%Y %H:%M'."
                ) from error
        return Column(
            field=name,
            source=str(spec.get("column", name)),
            kind=kind,
            separator=None if separator is None or not str(separator).strip() else str(separator),
            time=None if time is None else str(time),
        )


def read_schema(value: Any) -> Schema:
    """The schema of ``--schema``: the name of a YAML file, or the mapping itself.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no schema; names the column and what is wrong.
    """
    if isinstance(value, Mapping):
        return _Reader("schema").schema(value)
    file = Path(str(value))
    if not file.is_file():
        raise FileNotFoundError(f"schema: {file} does not exist or is not a file. {_EXAMPLE}")
    return _Reader(f"schema: {file}").schema(read_yaml(file, "schema"))


def columns_of(content: Mapping[str, Any], where: str) -> tuple[Column, ...]:
    """The columns of a table of rows that this package declares, such as a published dataset's."""
    return _Reader(where).columns("rows", content)
