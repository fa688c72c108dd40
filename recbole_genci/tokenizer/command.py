"""``python -m recbole_genci.tokenizer``: semantic IDs of a dataset's items, and a report on them.

    python -m recbole_genci.tokenizer --dataset=ml-100k [--key=value ...]
    python -m recbole_genci.tokenizer --dataset=ml-100k --append_to=<artifact folder> --output=<new folder>
    python -m recbole_genci.tokenizer --help [--dataset=ml-100k]

The first line gives the very IDs that a run of the same keys trains with. The second adds the dataset's items that an
artifact lacks; `semantic_id_path` then has a run use it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recbole_genci.config import Config, parse_argv
from recbole_genci.data import create_dataset
from recbole_genci.data.download import check_dataset
from recbole_genci.tokenizer.artifact.append import append_items
from recbole_genci.tokenizer.artifact.files import read_texts
from recbole_genci.tokenizer.artifact.frozen import read_frozen
from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.tokenizer.build import (
    REPORT,
    catalogue_texts,
    item_vectors,
    load_or_build_semantic_ids,
    semantic_id_folder,
    sorted_tokens,
)
from recbole_genci.tokenizer.report.plots import write_plots
from recbole_genci.tokenizer.report.report import write_report
from recbole_genci.tokenizer.settings import tokenizer_settings
from recbole_genci.tokenizer.usage import usage
from recbole_genci.utils.logs import start_console

READER = "GenCI"  # the model whose keys are the tokenizer's


class Catalogue(NamedTuple):
    """A dataset's items, as a run of the same keys has them after its filters.

    Attributes:
        config: the dataset's Config.
        item_file: its .item file.
        tokens: raw ids, sorted.
    """

    config: Config
    item_file: Path
    tokens: list[str]

    def texts(self, settings: dict[str, Any]) -> list[str]:
        """One per item."""
        encoding = self.config["encoding"] or "utf-8"
        return catalogue_texts(
            settings, self.item_file, self.config["ITEM_ID_FIELD"], self.tokens, self.config["field_separator"], encoding
        )


def read_catalogue(dataset: str, config_files=None, config_dict=None, argv=()) -> tuple[Catalogue, dict[str, Any]]:
    """Read a dataset's items: ``(catalogue, tokenizer settings)``; arguments and errors as of `recbole_genci.run`."""
    config = Config(READER, dataset, config_files, config_dict, argv)
    start_console(config["state"])
    torch.set_flush_denormal(True)
    check_dataset(config)
    settings = tokenizer_settings(config)
    part = create_dataset(config).build()[0]
    tokens = sorted_tokens(part.field2id_token[part.iid_field][1:])
    return Catalogue(config, Path(part.item_file), tokens), settings


def _build(catalogue: Catalogue, settings: dict[str, Any]) -> tuple[SemanticIDs, Path]:
    """Build or load the IDs: ``(ids, artifact folder)``."""
    config, cache_dir = catalogue.config, Path(catalogue.config["semantic_id_dir"])
    ids = load_or_build_semantic_ids(
        settings, catalogue.item_file, config["ITEM_ID_FIELD"], catalogue.tokens, cache_dir, config["dataset"],
        device=config["device"], show_progress=config["show_progress"], field_separator=config["field_separator"],
        encoding=config["encoding"] or "utf-8",
    )  # fmt: skip
    return ids, semantic_id_folder(settings, catalogue.tokens, catalogue.texts(settings), cache_dir, config["dataset"])


def tokenize(dataset: str, config_files=None, config_dict=None, argv=()) -> SemanticIDs:
    """Semantic IDs of a dataset's items, built or from the cache; arguments and errors as of `recbole_genci.run`."""
    return _build(*read_catalogue(dataset, config_files, config_dict, argv))[0]


def tokenize_and_report(catalogue: Catalogue, settings: dict[str, Any]) -> str:
    """Build or load the IDs, add plots to the report in ``<artifact folder>/report``, and return the report."""
    ids, folder = _build(catalogue, settings)
    texts = read_texts(folder)
    vectors = item_vectors(
        settings, ids.item_tokens, texts, folder.parent, catalogue.config["device"], catalogue.config["show_progress"]
    )
    plots = write_plots(ids, vectors, folder / REPORT, settings["tokenizer_seed"])
    markdown = write_report(ids, texts, folder / REPORT, plots)
    getLogger().info(f"The artifact is {folder}, the report is in {folder / REPORT}.")
    return markdown


def append_and_report(catalogue: Catalogue, published: Path, output: Path) -> str:
    """Add the dataset's items that ``published`` lacks, write ``output`` and its report, and return the report."""
    getLogger().info(f"Added items are encoded as those of {published} were: the tokenizer's keys have no effect.")
    texts = catalogue.texts(read_frozen(published).settings)
    ids = append_items(published, output, catalogue.tokens, texts, catalogue.config["device"])
    markdown = write_report(ids, read_texts(output), output / REPORT)
    getLogger().info(f"The artifact is {output}: use it with --semantic_id_path={output}. The report is in {output / REPORT}.")
    return markdown


def main(argv: Sequence[str]) -> int:
    """The command; ``--help`` prints its keys.

    A request that cannot be carried out is one sentence on stderr and exit status 2.
    """
    words = {}
    try:
        if {"--help", "-h"} & set(argv):
            words = parse_argv([word for word in argv if word not in ("--help", "-h")])
            print(usage(words.get("dataset")))
            return 0
        words = parse_argv(argv)
        if not words.get("dataset"):
            raise ValueError("command line: --dataset is missing, for example --dataset=ml-100k.")
        if bool(words.get("append_to")) != bool(words.get("output")):
            raise ValueError("command line: --append_to=<artifact folder> and --output=<new folder> go together.")
        own = ("--dataset", "--config_files", "--append_to", "--output")
        rest = [word for word in argv if word.partition("=")[0] not in own]
        files = str(words["config_files"]).split() if words.get("config_files") else None
        if words.get("append_to"):
            published, output = Path(str(words["append_to"])), Path(str(words["output"]))
            read_frozen(published)  # a wrong folder is named before the dataset is read
            catalogue, _ = read_catalogue(str(words["dataset"]), files, argv=rest)
            report = append_and_report(catalogue, published, output)
        else:
            report = tokenize_and_report(*read_catalogue(str(words["dataset"]), files, argv=rest))
    except (ValueError, OSError, ImportError, RuntimeError, FloatingPointError) as error:
        if str(words.get("state")).upper() == "DEBUG":
            raise
        print(f"recbole_genci: {error}", file=sys.stderr)
        return 2
    print(report)
    return 0
