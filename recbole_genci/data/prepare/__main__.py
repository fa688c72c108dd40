"""Prepare a published dataset, or your own tables, as atomic files.

python -m recbole_genci.data.prepare --format=movielens --input=ml-1m --dataset=ml-1m
python -m recbole_genci.data.prepare --format=amazon-2023 \\
    --interactions=Musical_Instruments.csv.gz --meta=meta_Musical_Instruments.jsonl.gz \\
    --dataset=amazon-instruments
python -m recbole_genci.data.prepare --format=amazon-2014 \\
    --interactions=Musical_Instruments.json.gz --dataset=instruments-2014
python -m recbole_genci.data.prepare --format=kuairand --input=KuaiRand-Pure --dataset=kuairand
python -m recbole_genci.data.prepare --format=taobao --interactions=UserBehavior.csv \\
    --dataset=taobao
python -m recbole_genci.data.prepare --format=table --input=clicks.csv --schema=schema.yaml \\
    --dataset=mine
python -m recbole_genci.data.prepare --format=bars --name=Frappe_x1 --download=True

  --format         movielens (any edition: 100K, 1M, 10M, 20M, 25M, 32M, latest, latest-small),
                   amazon-2023, amazon-2018, amazon-2014, kuairand (Pure, 1K, 27K), steam, taobao
                   or yelp; table: your own tables; bars: a dataset of the benchmark BARS
  --input          MovieLens, KuaiRand: the unpacked folder
                   table: the rows, a file .csv, .csv.gz, .tsv or .parquet, a folder of such files,
                   or hf:user/name[@revision], a dataset on the Hugging Face hub
                   bars: the folder of the published files
  --interactions   Amazon: ratings (CSV) or reviews (JSON lines); Steam: steam_reviews; Taobao:
                   UserBehavior.csv; Yelp: yelp_academic_dataset_review.json
  --meta           Amazon: the items' metadata; Steam: steam_games; Yelp: ..._business.json;
                   KuaiRand: kuairand_video_categories.csv. Without it items have only their ids,
                   those of KuaiRand no text
  --users          Yelp: yelp_academic_dataset_user.json; without it nothing is known of users
                   table: the table of users
  --items          table: the table of items
  --schema         table: a YAML file that says what the columns are (docs/data.md)
  --files          table: which files of a folder or of the hub, such as 'data/train-*'
                   [all Parquet files, else all CSV, else all TSV files]
  --logs           KuaiRand: standard (what was recommended), random (what was shown at random) or
                   all [standard]
  --positive       Taobao: the behaviours whose rows have label 1, of pv, cart, fav, buy
                   [cart,fav,buy]
  --name           bars: Frappe_x1, MovielensLatest_x1, KuaiVideo_x1, AmazonElectronics_x1,
                   TaobaoAd_x1, Criteo_x4 or Avazu_x4
  --download       bars: True downloads the published files
  --check          bars: False takes other files than the published ones
  --dataset        name of the dataset and of its folder [bars: --name in small letters]
  --output         where that folder is made [dataset]
  --overwrite      True replaces an existing folder of that name
  --max_malformed  share of lines in each file that may be malformed [0.001]

All files may be gzipped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from recbole_genci.config import parse_argv
from recbole_genci.config.command_line import HELP, key_value_words
from recbole_genci.config.kind import Kind
from recbole_genci.data.prepare.formats import FORMATS, Format
from recbole_genci.data.prepare.output import check_target
from recbole_genci.utils.answers import Work, answering
from recbole_genci.utils.value_checks import nearest

_COMMON = ("format", "dataset", "output", "overwrite", "max_malformed")
#: The arguments that name what is read.
_SOURCES = ("input", "interactions", "meta", "users", "items", "schema")
#: Default and kind of the options of all formats that are no names.
_KINDS = {
    "overwrite": (False, Kind.of("bool")),
    "max_malformed": (0.001, Kind.of("float in [0, 1)")),
}


def _example(format_name: str) -> str:
    return (
        f"python -m recbole_genci.data.prepare --format={format_name} "
        f"{FORMATS[format_name].example}"
    )


def read_arguments(argv: Sequence[str]) -> dict:
    """Check the words of the command line.

    Raises:
        ValueError: an argument is missing, unknown or wrong; says which, with an example.
    """
    typed = key_value_words(argv)
    words = parse_argv(typed)
    formats = tuple(FORMATS)
    format_name = words.get("format")
    if format_name not in formats:
        problem = (
            f"'{format_name}' is none.{nearest(format_name, formats)}"
            if format_name
            else "it is missing."
        )
        raise ValueError(
            f"command line: --format must be {', '.join(formats[:-1])} or {formats[-1]}; {problem} "
            f"Example: {_example('movielens')}. Tables of your own (CSV, Parquet): "
            f"{_example('table')}"
        )
    chosen, example = FORMATS[format_name], _example(format_name)
    known = (*_COMMON, *chosen.required, *chosen.optional)
    for key in words:
        if key not in known:
            raise ValueError(
                f"command line: --{key} is no argument of --format={format_name}, which takes "
                f"{', '.join('--' + k for k in known)}.{nearest(key, known)} Example: {example}"
            )
    words |= _names_among(words, typed, chosen)
    if chosen.default_name is not None:
        words.setdefault("dataset", chosen.default_name(words))
    for key in (*chosen.required, "dataset"):
        if words.get(key) in (None, ""):
            raise ValueError(f"command line: --{key} is missing. Example: {example}")
    name = str(words["dataset"])
    if Path(name).name != name or name.startswith("."):
        raise ValueError(
            f"command line: --dataset={name} must be a name, not a path; --output says where its "
            f"folder is made. Example: {example}"
        )
    for key, (default, kind) in {**_KINDS, **chosen.kinds}.items():
        kind.check(key, words.setdefault(key, default))
    return words | {"dataset": name, "output": str(words.get("output") or "dataset")}


def _names_among(words: dict, typed: Sequence[str], chosen: Format) -> dict[str, str]:
    """The arguments that are names, as they were typed: the folder 1.10 is not 1.1."""
    texts = dict(word[2:].split("=", 1) for word in typed)
    kinds = {*_KINDS, *chosen.kinds}
    return {
        key: texts[key]
        for key, value in words.items()
        # None says that there is none, and a schema may stand there itself.
        if key not in kinds and value is not None and not isinstance(value, dict)
    }


@answering
def main(argv: Sequence[str]) -> Work:
    """Prepare one dataset; return the exit status.

    An error is one sentence on stderr and exit status 2, and leaves no folder.
    """
    if set(HELP) & set(argv) or not argv:
        typed = parse_argv(word for word in key_value_words(argv) if word not in HELP)
        known = {*_COMMON, *(key for each in FORMATS.values() for key in each.required)}
        known |= {key for each in FORMATS.values() for key in each.optional}
        if unknown := [key for key in typed if key not in known]:
            raise ValueError(
                f"command line: --{unknown[0]} is no argument of any format."
                f"{nearest(unknown[0], known)}"
            )
        print(__doc__)
        return lambda: 0 if argv else 2
    words = read_arguments(argv)
    folder = Path(words["output"]) / words["dataset"]
    sources = {key: Path(words[key]) for key in _SOURCES if isinstance(words.get(key), str)}
    check_target(folder, words["overwrite"], sources)
    print(FORMATS[words["format"]].prepare(words, folder))
    return lambda: 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
