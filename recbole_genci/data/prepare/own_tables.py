"""``--format=table``: a person's own CSV or Parquet files, with a schema, as atomic files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

import recbole_genci
from recbole_genci.config.fitted import MINMAX, OTHERS
from recbole_genci.data.download.hub import hub_files
from recbole_genci.data.prepare.output import PROVENANCE_FILE, whole_folder, write_table
from recbole_genci.data.prepare.report import train_command, undescribed
from recbole_genci.data.prepare.schema import ITEM, LABEL, TIME, USER, Column, Schema, read_schema
from recbole_genci.data.prepare.table_files import Table, cells_of, check_columns, open_tables
from recbole_genci.utils.hub.name import is_hub_name
from recbole_genci.utils.words import counted
from recbole_genci.utils.writing import write_json, write_text

_RATING = "rating"
_RATING_HINT = "# threshold: {rating: 4}   # the least rating that is a click\n"
_ENCODER_HINT = "# text_encoder: lsa   # makes semantic IDs of texts without a download\n"
_LEAK_HINT = """\
# A column known only after the row was shown (seconds watched, a purchase, the rating itself)
# is no feature: leave it out of load_col and numerical_features. (load_col must name it only
# if threshold makes the label of it.)
"""


def prepare_table(words: Mapping[str, Any], folder: Path) -> str:
    """Make the dataset's folder from the arguments of a command line.

    Args:
        words: ``input``, ``schema``, ``users``, ``items``, ``files``, ``overwrite``.
        folder: the folder to make; its name is the dataset's.

    Returns:
        str: the counts and the next command.

    Raises:
        ValueError, OSError: a file, the schema or a cell is wrong; names file, line and column.
        ImportError: a Parquet file, and pyarrow is not installed.
    """
    schema = read_schema(words["schema"])
    for key, columns in (("users", schema.users), ("items", schema.items)):
        if bool(words.get(key)) != bool(columns):
            raise ValueError(
                f"{key}: --{key} names a table, and the schema has no '{key}'. Add it."
                if words.get(key)
                else f"schema: it has '{key}', and no table is given. Add --{key}=<file>."
            )
    pattern = None if words.get("files") is None else str(words["files"])
    origin, rows = _tables_of_rows(str(words["input"]), pattern, schema)
    described = {
        key: _described(Path(str(words[key])), key, rows, schema)
        for key in ("users", "items")
        if words.get(key)
    }
    provenance = build_table(rows, described, schema, folder, words["overwrite"], origin)
    return _report(provenance, folder)


def _tables_of_rows(
    name: str, pattern: str | None, schema: Schema
) -> tuple[dict | None, list[Table]]:
    """Where the rows' files came from, if from a hub; and the files."""
    read = partial(
        open_tables,
        key="input",
        delimiter=schema.delimiter,
        header=schema.header,
        encoding=schema.encoding,
    )
    if not is_hub_name(name):
        return None, read(Path(name), pattern=pattern)
    origin, files = hub_files(name, "input", pattern)
    return origin, [table for file in files for table in read(file)]


def _described(path: Path, key: str, rows: Sequence[Table], schema: Schema) -> list[Table]:
    """The tables of users or items; ``header`` of the schema is that of the rows' files alone."""
    is_of_rows = any(table.path.resolve() == path.resolve() for table in rows)
    header = schema.header if is_of_rows else ()
    return open_tables(path, key, None, schema.delimiter, header, schema.encoding)


def build_table(
    rows: Sequence[Table],
    described: Mapping[str, Sequence[Table]],
    schema: Schema,
    folder: Path,
    overwrite: bool,
    origin: dict | None = None,
) -> dict:
    """Write the atomic files, ``<name>.yaml`` with their keys, and ``provenance.json``.

    Memory grows with the number of users and items, not with that of rows.

    Args:
        rows: the tables of rows, in their order.
        described: the tables ``users`` and ``items``.
        schema: what is read from them.
        folder: the dataset's folder, which appears complete or not at all.
        overwrite: whether to replace an existing folder.
        origin: where the files came from, for the provenance.

    Returns:
        dict: the content of ``provenance.json``.

    Raises:
        ValueError: a table or a cell is wrong; names file, line and column.
    """
    columns = {"users": schema.users, "items": schema.items}
    for tables, of in [(rows, schema.rows), *((described[key], columns[key]) for key in described)]:
        for table in tables:
            check_columns(table, of)
    name = folder.name
    with whole_folder(folder, overwrite) as temporary:
        number, seen = _write_all_rows(temporary / f"{name}.inter", rows, schema.rows)
        counts: dict[str, Any] = {"rows": number}
        counts |= {"users": len(seen[USER]), "items": len(seen[ITEM])} if seen else {}
        fields = {"inter": _fields(schema.rows)}
        for key, suffix, id_field in (("users", "user", USER), ("items", "item", ITEM)):
            if key in described:
                fields[suffix] = _fields(columns[key])
                counts[f"{suffix}_file"] = write_table(
                    temporary / f"{name}.{suffix}",
                    fields[suffix],
                    _lines(described[key], columns[key]),
                    seen.get(id_field, {}),
                )
        write_text(temporary / f"{name}.yaml", keys_of(schema))
        read = [*rows, *(table for of in described.values() for table in of)]
        provenance = {
            "dataset": name,
            "format": "table",
            "recbole_genci": recbole_genci.__version__,
            **({"download": origin} if origin else {}),
            "sources": [table.describe() for table in read],
            "counts": counts,
            "fields": fields,
        }
        write_json(temporary / PROVENANCE_FILE, provenance)
    return provenance


def _write_all_rows(
    file: Path, tables: Sequence[Table], columns: Sequence[Column]
) -> tuple[int, dict[str, dict[str, None]]]:
    """Write the ``.inter`` file; return the number of rows, and the users and items in them."""
    seen: dict[str, dict[str, None]] = {
        column.field: {} for column in columns if column.field in (USER, ITEM)
    }

    def note(cells: Mapping[str, list[str]]) -> None:
        for field, ids in seen.items():
            ids |= dict.fromkeys(cells[field])

    number = write_rows(file, tables, columns, note)
    if not number:
        raise ValueError(f"{tables[0].path} has a header but no rows.")
    return number, seen


def write_rows(
    file: Path,
    tables: Sequence[Table],
    columns: Sequence[Column],
    note: Callable[[Mapping[str, list[str]]], None],
    unwritten: Sequence[Column] = (),
) -> int:
    """Write a ``.inter`` file; return the number of rows.

    Args:
        file: the file to write.
        tables: where rows come from, one after the other.
        columns: the columns to write.
        note: called with the cells of some rows at a time, by field.
        unwritten: columns that ``note`` gets too.
    """
    number, read = 0, (*columns, *unwritten)
    with file.open("w", encoding="utf-8", newline="\n") as output:
        output.write("\t".join(f"{column.field}:{column.kind}" for column in columns) + "\n")
        for table in tables:
            for cells in cells_of(table, read):
                rows = zip(*cells[: len(columns)])
                output.writelines(f"{line}\n" for line in map("\t".join, rows))
                number += len(cells[0])
                note({column.field: of for column, of in zip(read, cells)})
    return number


def _lines(tables: Sequence[Table], columns: Sequence[Column]) -> Iterator[dict[str, str]]:
    for table in tables:
        for cells in cells_of(table, columns):
            for line in zip(*cells):
                yield {column.field: cell for column, cell in zip(columns, line)}


def _fields(columns: Sequence[Column]) -> dict[str, str]:
    return {column.field: column.kind for column in columns}


def keys_of(schema: Schema) -> str:
    """A configuration file that reads all columns of the dataset, as YAML."""
    rows = _fields(schema.rows)
    tables = {"inter": schema.rows, "user": schema.users, "item": schema.items}
    keys: dict[str, Any] = {
        "load_col": {suffix: list(_fields(of)) for suffix, of in tables.items() if of}
    }
    if USER not in rows:
        keys |= {"USER_ID_FIELD": None, "ITEM_ID_FIELD": None}
    if TIME not in rows:
        keys["TIME_FIELD"] = None
    numbers = [
        column.field
        for of in tables.values()
        for column in of
        if column.kind == "float" and column.field not in (TIME, LABEL, _RATING)
    ]
    if numbers:
        keys |= {"numerical_features": numbers, "transforms": {OTHERS: MINMAX}}
    if texts := [c.field for c in schema.items if c.kind.startswith("token") and c.field != ITEM]:
        keys["item_text_fields"] = texts
    head = "# Keys of this dataset, written by python -m recbole_genci.data.prepare; change them.\n"
    hint = _RATING_HINT if _RATING in rows and LABEL not in rows else ""
    return (
        head
        + _LEAK_HINT
        + hint
        + yaml.safe_dump(keys, sort_keys=False, default_flow_style=None, width=100)
        + (_ENCODER_HINT if texts else "")
    )


def _report(provenance: dict, folder: Path) -> str:
    counts, fields = provenance["counts"], provenance["fields"]["inter"]
    nouns = [noun for noun in ("user", "item") if f"{noun}s" in counts]
    whom = "".join(f", {counted(counts[f'{noun}s'], noun)}" for noun in nouns)
    lines = [f"{folder}: {counted(counts['rows'], 'row')}{whom}."]
    lines += [
        f"  {each['file']}: {counted(each['lines'], 'row')}" for each in provenance["sources"]
    ]
    lines += undescribed(counts)
    keys = folder / f"{folder.name}.yaml"
    if LABEL not in fields:
        what = (
            "Say in it which rating is a click: threshold: {rating: 4}."
            if _RATING in fields
            else "Say in it which column is the label (LABEL_FIELD), or makes it (threshold), and "
            "take that column out of numerical_features."
        )
        lines.append(f"  {keys} has its keys. {what}")
    command = train_command(folder, "--model=LR,DeepFM", keys)
    return "\n".join([*lines, f"Next: {command}"])
