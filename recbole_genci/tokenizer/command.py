"""``python -m recbole_genci.tokenizer``: semantic IDs of a dataset's items, and a report on them.

    python -m recbole_genci.tokenizer --dataset=ml-100k [--key=value ...]
    python -m recbole_genci.tokenizer --dataset=ml-100k --append_to=<artifact> --output=<new folder>
    python -m recbole_genci.tokenizer --semantic_id_path=<artifact> --export=<file>
    python -m recbole_genci.tokenizer --help [--dataset=ml-100k]

The first line builds IDs by the tokenizer's keys. A run with the same keys trains with the same
IDs, if at least one of these keys is given; without any, a run takes published IDs if there are
some for its items. The second line adds the dataset's items that an artifact lacks. A run uses the
new artifact with `semantic_id_path`. The third line writes IDs into one file for other code; the
others do so too, with `--export`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recbole_genci.config import Config, parse_argv
from recbole_genci.config.command_line import HELP, key_value_words
from recbole_genci.config.help import DATASET_USAGE, section
from recbole_genci.config.keys import key_table
from recbole_genci.config.unknown_keys import check_words
from recbole_genci.data.download import check_dataset
from recbole_genci.data.prepared import prepare_parts
from recbole_genci.model.base import ModelContract
from recbole_genci.tokenizer.artifact.append import append_items
from recbole_genci.tokenizer.artifact.exchange import check_ids_file, write_ids
from recbole_genci.tokenizer.artifact.files import read_texts
from recbole_genci.tokenizer.artifact.frozen import read_frozen
from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.tokenizer.build import (
    REPORT,
    catalogue_texts,
    item_vectors,
    semantic_id_folder,
    sorted_tokens,
)
from recbole_genci.tokenizer.encoding.encoders import check_encoder
from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.report.plots import write_plots
from recbole_genci.tokenizer.report.report import write_report
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS, tokenizer_settings
from recbole_genci.tokenizer.source import check_source, find_semantic_ids, given_ids
from recbole_genci.utils.answers import Work, answering
from recbole_genci.utils.disk import check_writable
from recbole_genci.utils.hub.snapshot import local_folder
from recbole_genci.utils.logs import start_console

_logger = logging.getLogger(__name__)

READER = "GenCI"  # a model that reads semantic IDs, so that its keys include the tokenizer's
_USAGE = f"""\
usage: python -m recbole_genci.tokenizer --dataset=NAME [--key=value ...]
       python -m recbole_genci.tokenizer --dataset=NAME --append_to=FOLDER --output=FOLDER
                                         [--key=value ...]
       python -m recbole_genci.tokenizer --semantic_id_path=FOLDER --export=FILE
       python -m recbole_genci.tokenizer --help [--dataset=NAME]

Builds semantic IDs (sequences of codes) of a dataset's items by the keys below, and prints a
report. A run with at least one of these keys trains with the same IDs. A run without any of them
takes the IDs that ship with this package, if there are some for its items (ml-100k, ml-1m).

{DATASET_USAGE}
  --append_to     the folder of earlier IDs, or hf:user/name of one on the Hugging Face hub; items
                  of the dataset that it lacks are added, and the IDs of its own items never change
  --output        folder for the IDs with the added items; a run takes it by --semantic_id_path
  --export        also write the IDs into one file for other code: .json, the index of LC-Rec and
                  MiniOneRec; .safetensors, 'semantic_ids' [items, levels] with the items in the
                  metadata, for TIGER code and, transposed, GRID; or .parquet, item, code_0, ...
                  The last level is the collision digit. --semantic_id_path reads these files, too;
                  with it instead of --dataset, only that folder's or file's IDs are written

Keys of the dataset (filters, load_col, ...) work as in run_recbole_genci.py; see its --help.
"""


class _ItemsConfig(Config):
    """A Config for a dataset's items alone: its rows need no time, as nobody reads histories."""

    @property
    def _reader(self) -> type:
        return ModelContract


class Catalogue(NamedTuple):
    """A dataset's items after its filters, the same as in a run with the same keys.

    Attributes:
        config: the dataset's Config.
        item_file: its .item file.
        tokens: raw ids, sorted.
    """

    config: Config
    item_file: Path
    tokens: list[str]

    def texts(self, settings: dict[str, Any]) -> list[str]:
        """One text per item."""
        item_file = ItemFile.of(self.config, self.item_file)
        return catalogue_texts(settings, item_file, self.tokens)


def usage(dataset: str | None = None) -> str:
    """The text of ``--help``, with a dataset's defaults if one is given."""
    table, keys = key_table(dataset=dataset), TOKENIZER_KEYS | {"semantic_id_dir"}
    return "\n".join(
        [
            _USAGE,
            section("Items to semantic IDs", {name: table[name] for name in table if name in keys}),
        ]
    )


def read_catalogue(
    dataset: str,
    config_files: str | Path | Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    builds: bool = True,
) -> Catalogue:
    """Read a dataset's items; arguments and errors as for `recbole_genci.run`.

    If IDs will be built (``builds``), their settings and encoder are checked first.
    """
    config = _ItemsConfig(READER, dataset, config_files, config_dict, argv)
    if config["ITEM_ID_FIELD"] is None:
        raise ValueError(
            "ITEM_ID_FIELD: it names no column, and semantic IDs are those of items. Name the "
            "column of the rows' items."
        )
    start_console(config["state"])
    torch.set_flush_denormal(True)
    check_dataset(config)
    if builds:
        if config["semantic_id_path"] is not None:
            raise ValueError(
                "semantic_id_path: this command builds IDs and uses none of a folder; leave the "
                "key out."
            )
        check_source(config, published=False)
    part = prepare_parts(config)[0]
    tokens = sorted_tokens(part.field2id_token[part.iid_field][1:])
    return Catalogue(config, Path(part.item_file), tokens)


def _build(catalogue: Catalogue) -> SemanticIDs:
    """Build the IDs or load them from the cache, by the tokenizer's keys; never published ones."""
    return find_semantic_ids(
        catalogue.config, catalogue.item_file, catalogue.tokens, published=False
    )


def tokenize(
    dataset: str,
    config_files: str | Path | Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
) -> SemanticIDs:
    """Semantic IDs of a dataset's items, from the cache or built now.

    Arguments and errors are those of `recbole_genci.run`.
    """
    return _build(read_catalogue(dataset, config_files, config_dict, argv))


def tokenize_and_report(catalogue: Catalogue) -> str:
    """Build or load the IDs, write plots and report into ``<artifact folder>/report``, and return
    the report.
    """
    ids = _build(catalogue)
    config, settings = catalogue.config, tokenizer_settings(catalogue.config)
    folder = semantic_id_folder(
        settings,
        catalogue.tokens,
        catalogue.texts(settings),
        Path(config["semantic_id_dir"]),
        config["dataset"],
    )
    texts = read_texts(folder)
    vectors = item_vectors(settings, ids.item_tokens, texts, folder.parent, config["device"])
    _logger.info("Drawing the codes and a map of the items (t-SNE).")
    plots = write_plots(ids, vectors, folder / REPORT, settings["tokenizer_seed"])
    markdown = write_report(ids, texts, folder / REPORT, plots)
    _logger.info(
        f"The artifact is {folder}: use it with --semantic_id_path={folder}. The report is in "
        f"{folder / REPORT}."
    )
    return markdown


def append_and_report(catalogue: Catalogue, published: Path, output: Path) -> str:
    """Add the dataset's items that ``published`` lacks, write ``output`` with a report, and return
    the report.
    """
    _logger.info(
        f"Added items are encoded like those of {published}; the tokenizer's keys have no effect."
    )
    texts = catalogue.texts(read_frozen(published).settings)
    ids = append_items(published, output, catalogue.tokens, texts, catalogue.config["device"])
    markdown = write_report(ids, read_texts(output), output / REPORT)
    _logger.info(
        f"The artifact is {output}: use it with --semantic_id_path={output}. The report is in "
        f"{output / REPORT}."
    )
    return markdown


@answering
def main(argv: Sequence[str]) -> Work:
    """Run the command; return the exit status.

    ``--help`` prints the keys. A wrong request is one sentence on stderr and exit status 2.
    """
    argv = key_value_words(argv)
    if set(HELP) & set(argv):
        words = parse_argv([word for word in argv if word not in HELP])
        check_words(words, ("append_to", "output", "export"), (), words.get("dataset"))
        print(usage(words.get("dataset")))
        return lambda: 0
    words = parse_argv(argv)
    # The path stays as it is written.
    export = next((word[9:] for word in argv if word.startswith("--export=")), None)
    if export is not None:
        check_ids_file(Path(export), "export")
    if export is not None and words.get("semantic_id_path") and not words.get("dataset"):
        return _convert(argv, Path(export))
    if not words.get("dataset"):
        raise ValueError("command line: --dataset is missing, for example --dataset=ml-100k.")
    if bool(words.get("append_to")) != bool(words.get("output")):
        raise ValueError(
            "command line: --append_to=<artifact folder> and --output=<new folder> go together."
        )
    arguments = ("--dataset", "--config_files", "--append_to", "--output", "--export")
    keys = [word for word in argv if word.partition("=")[0] not in arguments]
    files = str(words["config_files"]).split() if words.get("config_files") else None
    if words.get("append_to"):
        published = local_folder(str(words["append_to"]), "append_to")
        output = Path(str(words["output"]))
        # A wrong folder or an encoder out of reach is an error before the dataset is read.
        check_encoder(read_frozen(published).settings["text_encoder"])
        check_writable(output.parent, "output")
        catalogue = read_catalogue(str(words["dataset"]), files, argv=keys, builds=False)
        report = append_and_report(catalogue, published, output)
        ids = SemanticIDs.load(output) if export else None
    else:
        catalogue = read_catalogue(str(words["dataset"]), files, argv=keys)
        report = tokenize_and_report(catalogue)
        ids = _build(catalogue) if export else None
    print(report)
    if export and ids is not None:
        _export(ids, Path(export))
    return lambda: 0


def _convert(argv: Sequence[str], file: Path) -> Work:
    """The work of writing the IDs of ``semantic_id_path`` into a file."""
    texts = dict(word[2:].split("=", 1) for word in argv)
    if others := sorted(texts.keys() - {"semantic_id_path", "export"}):
        raise ValueError(
            f"command line: --{others[0]} has no meaning with --semantic_id_path and --export, "
            "which only write IDs into a file."
        )
    start_console(None)
    ids = given_ids(texts["semantic_id_path"])
    _export(ids, file)
    return lambda: 0


def _export(ids: SemanticIDs, file: Path) -> None:
    write_ids(ids, file)
    _logger.info(
        f"{file} holds the semantic IDs of {len(ids)} items: use it with --semantic_id_path={file}."
    )
