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
from recbole_genci.data.prepare.kuairand import LOGS, KuaiRand
from recbole_genci.data.prepare.movielens import MovieLens
from recbole_genci.data.prepare.own_tables import prepare_table
from recbole_genci.data.prepare.report import describe, fitting_model, next_command
from recbole_genci.data.prepare.steam import Steam
from recbole_genci.data.prepare.taobao import POSITIVE, Taobao, as_positive
from recbole_genci.data.prepare.yelp import Yelp


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
        model = fitting_model(provenance, raw.properties)
        command = next_command(folder, raw.properties, model)
        return f"{describe(provenance, folder)}\nNext: {command}"

    return prepare


def _path(words: Mapping[str, Any], name: str) -> Path | None:
    return Path(str(words[name])) if words.get(name) else None


def _movielens(words: Mapping[str, Any]) -> MovieLens:
    return MovieLens(Path(str(words["input"])), words["max_malformed"])


def _amazon(words: Mapping[str, Any]) -> Amazon:
    reviews = Path(str(words["interactions"]))
    return Amazon(words["format"], reviews, _path(words, "meta"), words["max_malformed"])


def _kuairand(words: Mapping[str, Any]) -> KuaiRand:
    folder = Path(str(words["input"]))
    return KuaiRand(folder, words["logs"], _path(words, "meta"), words["max_malformed"])


def _steam(words: Mapping[str, Any]) -> Steam:
    reviews = Path(str(words["interactions"]))
    return Steam(reviews, _path(words, "meta"), words["max_malformed"])


def _taobao(words: Mapping[str, Any]) -> Taobao:
    positive = as_positive(words["positive"])
    return Taobao(Path(str(words["interactions"])), positive, words["max_malformed"])


def _yelp(words: Mapping[str, Any]) -> Yelp:
    reviews = Path(str(words["interactions"]))
    return Yelp(reviews, _path(words, "meta"), _path(words, "users"), words["max_malformed"])


FORMATS = {
    "movielens": Format(("input",), "--input=ml-1m --dataset=ml-1m", _published(_movielens)),
    "amazon-2023": Format(
        ("interactions",),
        "--interactions=Musical_Instruments.csv.gz --meta=meta_Musical_Instruments.jsonl.gz "
        "--dataset=amazon-instruments",
        _published(_amazon),
        ("meta",),
    ),
    "amazon-2018": Format(
        ("interactions",),
        "--interactions=Musical_Instruments_5.json.gz --meta=meta_Musical_Instruments.json.gz "
        "--dataset=instruments-2018",
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
    "kuairand": Format(
        ("input",),
        "--input=KuaiRand-Pure --dataset=kuairand",
        _published(_kuairand),
        ("logs", "meta"),
        {"logs": ("standard", Kind.of(f"str: {' | '.join(LOGS)}"))},
    ),
    "steam": Format(
        ("interactions",),
        "--interactions=steam_reviews.json.gz --meta=steam_games.json.gz --dataset=steam-reviews",
        _published(_steam),
        ("meta",),
    ),
    "taobao": Format(
        ("interactions",),
        "--interactions=UserBehavior.csv --dataset=taobao",
        _published(_taobao),
        ("positive",),
        {"positive": (",".join(POSITIVE), Kind.of("str or list of str"))},
    ),
    "yelp": Format(
        ("interactions",),
        "--interactions=yelp_academic_dataset_review.json "
        "--meta=yelp_academic_dataset_business.json --users=yelp_academic_dataset_user.json "
        "--dataset=yelp-reviews",
        _published(_yelp),
        ("meta", "users"),
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
