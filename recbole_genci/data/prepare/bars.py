"""``--format=bars``: the published splits of BARS, an open benchmark of CTR models.

``properties/bars.yaml`` has their files, columns and scores, and says where those come from.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import recbole_genci
from recbole_genci.config import properties_folder
from recbole_genci.data.download import dataset as downloads
from recbole_genci.data.download.archive import unpack
from recbole_genci.data.download.http import Expected, SourceError, fetch
from recbole_genci.data.download.sources import MAX_ARCHIVE_BYTES, Source
from recbole_genci.data.prepare.atomic_cells import CellFault
from recbole_genci.data.prepare.output import (
    PROVENANCE_FILE,
    SCORES,
    VECTORS,
    whole_folder,
    write_table,
)
from recbole_genci.data.prepare.own_tables import write_rows
from recbole_genci.data.prepare.report import is_tuned, next_command
from recbole_genci.data.prepare.schema import ITEM, TIME, Change, Column, columns_of
from recbole_genci.data.prepare.table_files import ROWS_AT_ONCE, Table, check_columns, open_tables
from recbole_genci.utils.disk import check_writable
from recbole_genci.utils.parquet import PARQUET
from recbole_genci.utils.value_checks import nearest
from recbole_genci.utils.writing import write_json

_SUFFIXES = (".csv", ".csv.gz", *PARQUET)
_SEPARATOR = "^"
_GET_IT = (
    "Get the published file, or give --check=False; then no published scores are set beside yours."
)


@dataclass(frozen=True)
class Benchmark:
    """One dataset of BARS.

    Attributes:
        name: its published name, ``Frappe_x1``.
        parts: MD5 of the CSV file and number of rows, by the part's name.
        columns: the columns of its rows.
        scores: the published scores by the published name of a model: AUC, LogLoss and, for some
            datasets, gAUC.
        models: our name of a model by the published one; None if there is none.
        sources: the hosts of its zip, in the order in which they are tried.
        item_field: the column that describes items, and makes the ``.item`` file; None if there is
            no such file.
        item_histories: the columns with items and with ``item_field`` of a row's history.
        item_vectors: a file of the zip with a vector of each item; None if there is none.
    """

    name: str
    parts: Mapping[str, Mapping[str, Any]]
    columns: tuple[Column, ...]
    scores: Mapping[str, list[float]]
    models: Mapping[str, str | None]
    sources: tuple[Source, ...]
    item_field: str | None = None
    item_histories: tuple[str, ...] = ()
    item_vectors: str | None = None

    @property
    def written(self) -> tuple[Column, ...]:
        """The columns of the ``.inter`` files."""
        return tuple(column for column in self.columns if column.field != self.item_field)

    @property
    def dataset(self) -> str:
        """The name of its protocol in ``properties/dataset/``, and by default of its folder."""
        return self.name.lower()


def bars_file() -> Path:
    """The file of all facts."""
    return properties_folder() / "bars.yaml"


def benchmark(name: str) -> Benchmark:
    """The dataset of a published name, whatever its capitals.

    Raises:
        ValueError: there is none; names the nearest.
    """
    table = yaml.safe_load(bars_file().read_text(encoding="utf-8"))
    known = {each.lower(): each for each in table["datasets"]}
    if name.lower() not in known:
        raise ValueError(
            f"name: '{name}' is none of {', '.join(known.values())}.{nearest(name, known.values())}"
        )
    published = known[name.lower()]
    entry = table["datasets"][published]
    changes = {field: spec.pop("change", None) for field, spec in _mappings(entry["columns"])}
    hub = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    return Benchmark(
        name=published,
        parts=entry["parts"],
        columns=tuple(
            replace(column, change=_CHANGES[changes[column.field]])
            if changes.get(column.field)
            else column
            for column in columns_of(entry["columns"], published)
        ),
        scores=entry["scores"],
        models=table["models"],
        sources=tuple(
            Source(host["name"], host["url"].replace("$HF_ENDPOINT", hub).format(name=published))
            for host in table["hosts"]
            if host["name"] != "Zenodo" or entry.get("zenodo")
        ),
        item_field=entry.get("item_field"),
        item_histories=tuple(entry.get("item_histories", ())),
        item_vectors=entry.get("item_vectors"),
    )


def _mappings(columns: Mapping[str, Any]) -> Iterator[tuple[str, dict]]:
    return ((field, spec) for field, spec in columns.items() if isinstance(spec, dict))


def default_name(words: Mapping[str, Any]) -> str:
    """The dataset's name if ``--dataset`` is not given."""
    return str(words.get("name") or "").lower()


def prepare_bars(words: Mapping[str, Any], folder: Path) -> str:
    """Make the dataset's folder from the arguments of a command line.

    Args:
        words: ``name``, ``input`` or ``download``, ``check``, ``overwrite``.
        folder: the folder to make.

    Returns:
        str: the counts and the next commands.

    Raises:
        ValueError, OSError: a file is missing, malformed or not the published one.
        ConnectionError: no host has the published files.
        ImportError: a Parquet file, and pyarrow is not installed.
    """
    bars, given = benchmark(str(words["name"])), words.get("input")
    if bool(given) == bool(words["download"]):
        raise ValueError(
            f"input: give --input=<folder> with {_files(bars)}, or --download=True; one of them."
        )
    if given:
        source = Path(str(given))
        if not source.is_dir():
            raise FileNotFoundError(f"input: {source} does not exist or is not a folder.")
        made = build_bars(bars, source, folder, words["overwrite"], words["check"])
        return _report(bars, made, folder)
    with _downloaded(bars, folder) as (source, origin):
        made = build_bars(bars, source, folder, words["overwrite"], True, origin)
    return _report(bars, made, folder)


def _files(bars: Benchmark) -> str:
    return ", ".join(f"{part}.csv" for part in bars.parts)


def build_bars(
    bars: Benchmark,
    source: Path,
    folder: Path,
    overwrite: bool = False,
    check: bool = True,
    origin: dict | None = None,
) -> dict:
    """Write ``<name>.<part>.inter`` of each part, the published scores and the provenance.

    Args:
        bars: the dataset.
        source: the folder of its files.
        folder: the folder to make, complete or not at all.
        overwrite: whether to replace an existing folder.
        check: whether MD5s and numbers of rows must be those published. If not, no published
            scores are written: they belong to other rows.
        origin: where the files came from, for the provenance; their MD5s are checked already.

    Returns:
        dict: the content of ``provenance.json``.

    Raises:
        ValueError, OSError: a file is missing, malformed or not the published one.
    """
    tables = {part: _table(bars, part, source) for part in bars.parts}
    for part, table in tables.items():
        check_columns(table, bars.columns)
        if check and origin is None and (fault := _md5_fault(bars, part, table.path)):
            raise ValueError(f"{table.path} {fault}. {_GET_IT}")
    name, item_values = folder.name, dict[str, str]()
    counts: dict[str, Any] = {}
    with whole_folder(folder, overwrite) as temporary:
        for part, table in tables.items():
            file = temporary / f"{name}.{part}.inter"
            counts[part] = _write_part(bars, part, table, file, item_values, check)
        fields = {"inter": {column.field: column.kind for column in bars.written}}
        if bars.item_field is not None:
            fields["item"] = {ITEM: "token", bars.item_field: "token"}
            lines = ({ITEM: item, bars.item_field: of} for item, of in item_values.items())
            counts["item_file"] = write_table(temporary / f"{name}.item", fields["item"], lines, ())
        if check:
            _write_scores(bars, temporary / f"{name}{SCORES}")
        if bars.item_vectors is not None and (source / bars.item_vectors).is_file():
            counts["item_vectors"] = _write_item_vectors(
                source / bars.item_vectors, temporary / f"{name}{VECTORS}"
            )
        provenance = {
            "dataset": name,
            "format": "bars",
            "benchmark": bars.name,
            "recbole_genci": recbole_genci.__version__,
            **({"download": origin} if origin else {}),
            "sources": [table.describe() for table in tables.values()],
            "md5_checked": check and all(t.path.suffix == ".csv" for t in tables.values()),
            "counts": counts,
            "fields": fields,
        }
        write_json(temporary / PROVENANCE_FILE, provenance)
    return provenance


def _write_part(
    bars: Benchmark, part: str, table: Table, file: Path, item_values: dict[str, str], check: bool
) -> int:
    """Write a part's ``.inter`` file, and note in ``item_values`` what it says of items.

    Returns:
        int: the number of rows; with ``check`` that of the published part.
    """
    unwritten = set(bars.columns) - set(bars.written)
    note = partial(_note_items, bars, item_values)
    rows = write_rows(file, [table], bars.written, note, tuple(unwritten))
    expected = bars.parts[part]["rows"]
    if check and rows != expected:
        raise ValueError(
            f"{table.path} has {rows:,} rows, that of {bars.name} {expected:,}. {_GET_IT}"
        )
    return rows


def _table(bars: Benchmark, part: str, source: Path) -> Table:
    for suffix in _SUFFIXES:
        if (file := source / f"{part}{suffix}").is_file():
            return open_tables(file, "input")[0]
    raise FileNotFoundError(
        f"input: {source} holds no {part}.csv (or .parquet). {bars.name} has {_files(bars)}."
    )


def _md5_fault(bars: Benchmark, part: str, file: Path) -> str | None:
    """What is wrong with a file's MD5; None if nothing is, or if none is published for its form."""
    if file.suffix != ".csv":
        return None
    with file.open("rb") as stream:
        actual = hashlib.file_digest(stream, "md5").hexdigest()
    expected = bars.parts[part]["md5"]
    if actual == expected:
        return None
    return f"is not the published {part}.csv of {bars.name} (MD5 {actual}, not {expected})"


def _note_items(bars: Benchmark, values: dict[str, str], cells: Mapping[str, list[str]]) -> None:
    """Keep what rows and their histories say of items."""
    if bars.item_field is None:
        return
    for item, value in zip(cells[ITEM], cells[bars.item_field]):
        values.setdefault(item, value)
    for items, of in zip(*(cells[field] for field in bars.item_histories)):
        for item, value in zip(items.split(), of.split()):
            values.setdefault(item, value)


def _write_scores(bars: Benchmark, file: Path) -> None:
    """The published scores, with our names of the models."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        has_gauc = any(len(scores) > 2 for scores in bars.scores.values())
        lines.writerow(["model", "AUC", "LogLoss", *(["GAUC"] if has_gauc else []), "published as"])
        for name, scores in bars.scores.items():
            lines.writerow([bars.models.get(name, name) or "", *scores, name])


def _write_item_vectors(file: Path, target: Path) -> int | None:
    """Copy the vectors of an HDF5 file to a .npy, and their items' ids to the .txt beside it.

    Returns:
        int: how many; None if h5py, which reads them, is not installed.
    """
    try:
        import h5py
    except ImportError:
        return None
    try:
        with h5py.File(file, "r") as stored:
            keys, values = stored["key"], stored["value"]
            written = np.lib.format.open_memmap(target, "w+", np.float32, values.shape)
            for start in range(0, len(values), ROWS_AT_ONCE):
                written[start : start + ROWS_AT_ONCE] = values[start : start + ROWS_AT_ONCE]
            written.flush()
            ids = keys.asstr()[:] if keys.dtype.kind == "O" else keys[:]
    except (OSError, KeyError) as error:
        raise ValueError(f"{file} is no HDF5 file of keys and values, or damaged.") from error
    target.with_suffix(".txt").write_text("".join(f"{each}\n" for each in ids), encoding="utf-8")
    return len(ids)


@contextmanager
def _downloaded(bars: Benchmark, folder: Path) -> Iterator[tuple[Path, dict]]:
    """The published files in a folder of their own, removed after the block; and their origin.

    Raises:
        ConnectionError: no host has them.
    """
    check_writable(folder.parent, "output")
    with downloads.workplace(folder) as work:
        origin = downloads.try_sources(
            bars.sources,
            work,
            lambda _: bars.name,
            lambda source: _fetch(bars, source, work),
            lambda reasons: (
                f"download: {bars.name} could not be downloaded: {reasons}. Get the files from "
                "elsewhere and give their folder as --input, or name a mirror of Hugging Face by "
                "the environment variable HF_ENDPOINT."
            ),
        )
        yield work, origin


def _fetch(bars: Benchmark, source: Source, work: Path) -> dict:
    """Download, unpack and check the files of one host; leave them in ``work``.

    Raises:
        SourceError: the host does not give the published files.
    """
    archive = work / f"{bars.name}.zip"
    origin = {"source": source.name} | fetch(source.url, archive, Expected(MAX_ARCHIVE_BYTES))
    wanted = {f"{part}.csv" for part in bars.parts} | {bars.item_vectors}
    (unpacked := work / "unpacked").mkdir()
    for file in unpack(archive, unpacked, lambda name: name.name in wanted):
        file.replace(work / file.name)
    archive.unlink()
    for part in bars.parts:
        file = work / f"{part}.csv"
        if not file.is_file():
            raise SourceError(f"a zip file without {file.name}")
        if fault := _md5_fault(bars, part, file):
            raise SourceError(f"a zip file whose {file.name} {fault}")
    return origin


def _report(bars: Benchmark, provenance: dict, folder: Path) -> str:
    counts = ", ".join(f"{part} {provenance['counts'][part]:,}" for part in bars.parts)
    said = "their MD5s are those published" if provenance["md5_checked"] else "MD5s not checked"
    lines = [f"{folder}: {bars.name} of BARS, rows: {counts}; {said}."]
    scores = folder / f"{folder.name}{SCORES}"
    has_time = any(column.field == TIME for column in bars.columns)
    named = "DeepFM,DCNV2,DIN" if has_time else "LR,DeepFM,DCNV2"
    if not is_tuned(bars.dataset, named.split(",")[0]):
        named = "FM,DeepFM,DCNV2"
    models = named.split(",")
    if len(bars.parts) < 3:
        lines.append("  BARS chooses epochs by the test rows here; this dataset's keys do too.")
    if "item_vectors" in provenance["counts"]:
        there = provenance["counts"]["item_vectors"] is not None
        lines.append(
            f"  items' vectors, for models with semantic IDs: --text_encoder={folder}/"
            f"{folder.name}{VECTORS}"
            if there
            else f"  {bars.item_vectors} was left out: it needs h5py (pip install h5py)."
        )
    # Another --dataset than the published name has no tuned values.
    recipe = " --recipe=tuned" if all(is_tuned(folder.name, model) for model in models) else ""
    train = next_command(folder, bars.dataset, f"--model={','.join(models)}")
    lines.append(f"Next: {train}{recipe}")
    if scores.is_file():
        beside = ["--published=" + str(scores), f"saved/*-{folder.name}-*/metrics.json"]
        lines.append(f"Then: python -m recbole_genci.report {' '.join(beside)}")
    return "\n".join(lines)


def _per_text(change: Callable[[str], str], what: str) -> Change:
    """A change of each text, which is made once for equal ones."""

    def changed(column: str, texts: list[str]) -> list[str]:
        made: dict[str, str] = {}
        for text in dict.fromkeys(texts):
            try:
                made[text] = change(text)
            except (ValueError, OverflowError) as error:
                row, fault = texts.index(text), f"has {text!r} for {column}, which is no {what}."
                raise CellFault(row, fault) from error
        return [made[text] for text in texts]

    return changed


def _log_square(text: str) -> str:
    """The bucket of a number, of Criteo's winner; a missing one counts as 0."""
    number = float(text or 0)
    return str(math.floor(math.log(number) ** 2) if number > 2 else int(number))


def _day(text: str) -> int:
    """The day of the week of an hour as YYMMDDHH; Sunday is 0."""
    return datetime.strptime(text[:6], "%y%m%d").isoweekday() % 7


def _entries(text: str) -> list[str]:
    return text.split(_SEPARATOR) if text else []


_HOUR = "hour as YYMMDDHH"
_CHANGES = {
    "log_square": _per_text(_log_square, "number"),
    "hour": _per_text(lambda text: str(datetime.strptime(text, "%y%m%d%H").hour), _HOUR),
    "weekday": _per_text(lambda text: str(_day(text)), _HOUR),
    "weekend": _per_text(lambda text: str(int(_day(text) in (0, 6))), _HOUR),
    "length": _per_text(lambda text: str(len(_entries(text))), "list"),
    "last_100": _per_text(lambda text: _SEPARATOR.join(_entries(text)[-100:]), "list"),
}
