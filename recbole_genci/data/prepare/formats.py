"""The table of formats: the values of ``--format``, their arguments, and what prepares each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_genci.config.kind import Kind
from recbole_genci.data.prepare.amazon import Amazon
from recbole_genci.data.prepare.bars import default_name, prepare_bars
from recbole_genci.data.prepare.build import RawDataset, build_dataset
from recbole_genci.data.prepare.movielens import MovieLens
from recbole_genci.data.prepare.report import describe, next_command
from recbole_genci.data.prepare.table import prepare_table


@dataclass(frozen=True)
class Format:
    """One value of ``--format``.

    Attributes:
        required: arguments that must be given, beside ``dataset``.
        example: the arguments of an example.
        prepare: takes the checked arguments and the dataset's folder; makes the folder and returns
            what is printed.
        optional: arguments that may be given.
        kinds: default and kind of those arguments that are no names.
        default_name: makes the dataset's name of the other arguments, if ``dataset`` is not given.
    """

    required: tuple[str, ...]
    example: str
    prepare: Callable[[Mapping[str, Any], Path], str]
    optional: tuple[str, ...] = ()
    kinds: Mapping[str, tuple[object, Kind]] = field(default_factory=dict)
    default_name: Callable[[Mapping[str, Any]], str] | None = None


def _published(
    make: Callable[[Mapping[str, Any]], RawDataset],
) -> Callable[[Mapping[str, Any], Path], str]:
    """Prepares a published dataset, which ``make`` opens."""

    def prepare(words: Mapping[str, Any], folder: Path) -> str:
        raw = make(words)
        provenance = build_dataset(raw, words["format"], folder, words["overwrite"])
        return f"{describe(provenance, folder)}\nNext: {next_command(folder, raw.properties)}"

    return prepare


def _path(words: Mapping[str, Any], name: str) -> Path | None:
    return Path(str(words[name])) if words.get(name) else None


def _amazon(words: Mapping[str, Any]) -> Amazon:
    return Amazon(
        words["format"],
        Path(str(words["interactions"])),
        _path(words, "meta"),
        words["max_malformed"],
    )


FORMATS = {
    "movielens": Format(
        ("input",),
        "--input=ml-1m --dataset=ml-1m",
        _published(lambda words: MovieLens(Path(str(words["input"])), words["max_malformed"])),
    ),
    "amazon-2023": Format(
        ("interactions",),
        "--interactions=Musical_Instruments.csv.gz --meta=meta_Musical_Instruments.jsonl.gz "
        "--dataset=amazon-instruments",
        _published(_amazon),
        ("meta",),
    ),
    "amazon-2014": Format(
        ("interactions",),
        "--interactions=Musical_Instruments.json.gz --meta=meta_Musical_Instruments.json.gz "
        "--dataset=instruments-2014",
        _published(_amazon),
        ("meta",),
    ),
    "table": Format(
        ("input", "schema"),
        "--input=clicks.csv --schema=schema.yaml --dataset=mine",
        prepare_table,
        ("users", "items", "files"),
    ),
    "bars": Format(
        ("name",),
        "--name=Frappe_x1 --input=Frappe_x1",
        prepare_bars,
        ("input", "download", "check"),
        {"download": (False, Kind.of("bool")), "check": (True, Kind.of("bool"))},
        default_name,
    ),
}
