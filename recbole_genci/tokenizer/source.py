"""Find the semantic IDs for a model: a given folder, published IDs, the cache, or a new build."""

from __future__ import annotations

import contextlib
import glob
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from recbole_genci.config import Config
from recbole_genci.tokenizer.artifact.exchange import is_ids_file, read_ids
from recbole_genci.tokenizer.artifact.files import (
    MANIFEST,
    TEXT_DIGESTS,
    TEXTS,
    read_text_digests,
    read_texts,
)
from recbole_genci.tokenizer.artifact.published import (
    PUBLISHED,
    Fit,
    Published,
    best_fit,
    fit_of,
    published_folders,
    text_digests,
)
from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.tokenizer.build import (
    EMBEDDINGS,
    catalogue_texts,
    load_or_build_semantic_ids,
    semantic_id_folder,
    sorted_tokens,
)
from recbole_genci.tokenizer.encoding.encoders import check_encoder, is_array_file
from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.encoding.lsa import LSA
from recbole_genci.tokenizer.encoding.text import read_items, shorten
from recbole_genci.tokenizer.encoding.vectors import vectors_of_file
from recbole_genci.tokenizer.quantization.quality import warn_of_equal_codes
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS, content_settings, tokenizer_settings
from recbole_genci.utils.disk import check_writable
from recbole_genci.utils.hub.name import is_hub_name
from recbole_genci.utils.hub.snapshot import local_folder
from recbole_genci.utils.value_checks import nearest

_logger = logging.getLogger(__name__)

_BUILDS = "A tokenizer key, for example --text_encoder=lsa, builds new ones"


def asks_for_settings(config: Config) -> bool:
    """Whether a person has set a key of the tokenizer, by command line, dict or file."""
    return bool(TOKENIZER_KEYS & config.external_config_dict.keys())


def uses_published(config: Config, semantic_ids: SemanticIDs | None) -> bool:
    """Whether semantic IDs come with the package, and not from ``semantic_id_path``."""
    return (
        semantic_ids is not None
        and PUBLISHED in semantic_ids.manifest
        and config["semantic_id_path"] is None
    )


# ---------------------------------------------------------------- before rows are read


def check_source(config: Config, published: bool = True) -> None:
    """Check settings, encoder and vectors before any row is read.

    The encoder is not checked if published IDs, cached IDs or cached vectors may replace it.
    Whether they do is known only with the catalogue; `find_semantic_ids` then raises the error.

    Args:
        config: the Config of a model that reads semantic IDs.
        published: as for `find_semantic_ids`.

    Raises:
        FileNotFoundError: the folder or file ``semantic_id_path`` does not exist.
        ValueError: the file ``semantic_id_path`` does not hold valid semantic IDs.
        ValueError: nothing can be written into ``semantic_id_dir``.
        ValueError, FileNotFoundError, ImportError, RuntimeError: see `tokenizer_settings` and
            `check_encoder`.
    """
    path = config["semantic_id_path"]
    if path is not None:
        if is_hub_name(path):
            given_ids(path)
        elif is_ids_file(Path(path)):
            read_ids(Path(path))
        elif not Path(path).is_dir():
            raise FileNotFoundError(
                f"semantic_id_path: there is no folder {path}. Give the folder of an artifact, "
                "here or on the Hugging Face hub (hf:user/name), a .json, .safetensors or .parquet "
                "file of IDs, or leave the key out to have semantic IDs made."
            )
        return
    no_texts = config["item_text_fields"] is None
    with config.pointing_to_keys() if no_texts else contextlib.nullcontext():
        if needs_no_settings(config, published):
            return
        settings = tokenizer_settings(config)
        _check_text_fields(config, settings["item_text_fields"] or ())
    is_cached = _is_cached(config, settings)
    if not is_cached:  # a cache that has them may be read-only
        check_writable(Path(config["semantic_id_dir"]), "semantic_id_dir")
    if is_array_file(settings["text_encoder"]):
        vectors_of_file(settings, [])  # the items are not known yet
    elif settings["text_encoder"] != LSA and not is_cached:
        check_encoder(settings["text_encoder"])


def _check_text_fields(config: Config, fields: Sequence[str]) -> None:
    item_file = ItemFile.of(config, Path(config["data_path"]) / f"{config['dataset']}.item")
    if not fields or not item_file.path.is_file():  # downloaded later, or its lack is told then
        return
    header = item_file.header()
    for field in fields:
        if field not in header:
            raise ValueError(
                f"item_text_fields: '{field}' is no column of {item_file.path}, which has "
                f"{', '.join(header)}.{nearest(field, header)}"
            )


def needs_no_settings(config: Config, published: bool = True) -> bool:
    """Whether published semantic IDs may be used, as far as is known before rows are read.

    Raises:
        ValueError: the .item file is malformed, or published IDs are damaged.
    """
    if not published or asks_for_settings(config):
        return False
    folder = Path(config["data_path"])
    if not folder.is_dir():  # the dataset will be downloaded
        return config["dataset"] in {each.name for each in published_folders()}
    item_file = ItemFile.of(config, folder / f"{config['dataset']}.item")
    if not item_file.path.is_file():
        return False
    fit = best_fit(item_file)
    return fit is not None and fit.equal > 0  # filters may drop the items that do not fit


def _is_cached(config: Config, settings: Mapping[str, Any]) -> bool:
    """Whether the cache has IDs of these settings for the dataset, or vectors of the encoder."""
    cache_dir = Path(config["semantic_id_dir"])
    wanted = content_settings(settings)
    for file in cache_dir.glob(f"{glob.escape(config['dataset'])}-*/{MANIFEST}"):
        try:
            made_by = json.loads(file.read_text(encoding="utf-8"))["settings"]
            if content_settings(made_by) == wanted:
                return True
        except (ValueError, KeyError, TypeError):
            continue  # damaged; a run that uses it will raise the error
    return any(
        _encoder_of(file) == settings["text_encoder"]
        for file in (cache_dir / EMBEDDINGS).glob("*.safetensors")
    )


def _encoder_of(file: Path) -> str | None:
    try:
        with safe_open(file, framework="numpy") as stored:
            return (stored.metadata() or {}).get("encoder")
    except SafetensorError:
        return None  # damaged; a run that uses it will raise the error


# ---------------------------------------------------------------- once the catalogue is known


def find_semantic_ids(
    config: Config, item_file: Path, item_tokens: Sequence[str], published: bool = True
) -> SemanticIDs:
    """The semantic IDs of a catalogue, for runs, experiments, searches and the tokenizer's command.

    The first of these is used: the folder or file ``semantic_id_path``; IDs that are already in a
    ``semantic_id_dir`` that a person has set; IDs that come with the package, if no key of the
    tokenizer is set and they have every item with the same text; the cache in ``semantic_id_dir``;
    IDs built by the tokenizer's keys.

    Args:
        config: the Config of a model that reads semantic IDs.
        item_file: the dataset's .item file.
        item_tokens: raw ids of the catalogue, without padding.
        published: whether IDs that come with the package may be used.

    Raises:
        ValueError, FileNotFoundError, ImportError, RuntimeError, FloatingPointError: see
            `SemanticIDs.load`, `published.read_published` and `load_or_build_semantic_ids`.
    """
    file = ItemFile.of(config, item_file)
    if config["semantic_id_path"] is not None:
        given = _given(config["semantic_id_path"])
        _check_catalogue(config, given, file, sorted_tokens(item_tokens))
        return given
    tokens = sorted_tokens(item_tokens)
    if not asks_for_settings(config):
        ids = _published(config, file, tokens, published)
        if ids is not None:
            return ids
    settings = tokenizer_settings(config)
    return load_or_build_semantic_ids(
        settings,
        file,
        tokens,
        Path(config["semantic_id_dir"]),
        config["dataset"],
        device=config["device"],
        show_progress=config["show_progress"],
    )


def given_ids(given: str | Path) -> SemanticIDs:
    """Semantic IDs of an artifact's folder, here or on the hub, or of a file (`artifact.exchange`).

    Raises:
        ValueError, OSError: see `SemanticIDs.load`, `read_ids` and `utils.hub.snapshot.fetch`.
    """
    path = local_folder(given, "semantic_id_path")
    return read_ids(path) if is_ids_file(path) else SemanticIDs.load(path)


def _given(folder: str) -> SemanticIDs:
    ids = given_ids(folder)
    _logger.info(
        f"Semantic IDs of {len(ids.item_tokens)} items from {folder}, hash {ids.digest[:12]}; the "
        "tokenizer's keys have no effect."
    )
    warn_of_equal_codes(ids.codes[:, :-1])
    return ids


def _check_catalogue(
    config: Config, ids: SemanticIDs, item_file: ItemFile, tokens: Sequence[str]
) -> None:
    """Compare the texts that given IDs were made from with those of the catalogue.

    Raises:
        ValueError: most items have other texts: the same ids seem to mean other items.
    """
    if ids.folder is None:
        return
    folder, known = config["semantic_id_path"], _text_digests(ids.folder, ids)
    if known is None:
        return
    unchecked = "Whether its IDs belong to these items was not checked."
    if not item_file.path.is_file():
        _logger.warning(
            f"semantic_id_path: {folder} was made from texts of items, and there is no file "
            f"{item_file.path} that has them. {unchecked}"
        )
        return
    lacking = set(ids.manifest["settings"]["item_text_fields"]) - set(item_file.header())
    if lacking:
        _logger.warning(
            f"semantic_id_path: {folder} was made from the field {sorted(lacking)[0]}, which "
            f"{item_file.path} does not have. {unchecked}"
        )
        return
    given = Published(ids.folder.name, ids.folder, ids, known)
    fit = fit_of(given, read_items(item_file), tokens)
    if not fit.differing:
        return
    token, text = fit.differing[0]
    there = fit.items - len(fit.absent)
    message = (
        f"semantic_id_path: {len(fit.differing)} of {there} items have another text here than in "
        f"{folder}, first {token!r}, here {shorten(text)!r}"
    )
    if 2 * len(fit.differing) > there:
        raise ValueError(
            f"{message}. The IDs were made for another catalogue: give those of this dataset, or "
            "leave the key out to have IDs made."
        )
    _logger.warning(f"{message}. They keep the IDs of their earlier texts.")


def _text_digests(folder: Path, ids: SemanticIDs) -> np.ndarray | None:
    """Digests ``[I, V]`` of the texts that IDs were made from; None if the artifact has none, or
    if the IDs come from vectors.
    """
    settings, files = ids.manifest.get("settings"), ids.manifest["files"]
    if not isinstance(settings, Mapping) or not settings.get("item_text_fields"):
        return None
    if is_array_file(str(settings.get("text_encoder"))):
        return None
    if TEXT_DIGESTS in files:
        return read_text_digests(folder)
    return text_digests(read_texts(folder))[:, None] if TEXTS in files else None


def _published(
    config: Config, item_file: ItemFile, tokens: Sequence[str], allowed: bool
) -> SemanticIDs | None:
    """The package's IDs if they fit and may be used; a log line says whether."""
    if not item_file.path.is_file():
        return None
    fit = best_fit(item_file, tokens)
    if fit is None:
        return None
    name, ids = fit.published.name, fit.published.ids
    if fit.equal < fit.items:
        if difference := _difference(fit):
            _logger.info(f"Published semantic IDs ({name}) exist, but {difference}. IDs are built.")
        return None
    if not allowed:
        _logger.info(
            f"Published semantic IDs ({name}, digest {ids.digest[:12]}) fit these items; a run "
            "without a tokenizer key takes them. Here the tokenizer's settings count: IDs are "
            "built, or read from the cache."
        )
        return None
    if _is_in_cache_by_hand(config, item_file, tokens):
        return None
    _logger.info(
        f"Semantic IDs: the published ones ({name}, digest {ids.digest[:12]}) fit all "
        f"{fit.items:,} items by id and text. {_BUILDS}."
    )
    return ids


def _difference(fit: Fit) -> str | None:
    """How a catalogue differs from published IDs; None if it is another catalogue, with some ids in
    common.
    """
    if fit.absent and 2 * fit.equal < fit.items:
        return None
    parts = []
    if fit.absent:
        parts.append(
            f"{len(fit.absent):,} of {fit.items:,} items are not among them, first "
            f"{fit.absent[0]!r}"
        )
    if fit.differing:
        token, text = fit.differing[0]
        number = len(fit.differing)
        parts.append(
            f"{number:,} of {fit.items:,} texts differ, first that of item {token!r}, here "
            f"{shorten(text)!r}"
        )
    return ", and ".join(parts)


def _is_in_cache_by_hand(config: Config, item_file: ItemFile, tokens: Sequence[str]) -> bool:
    """Whether a ``semantic_id_dir`` that a person has set holds exactly the configured IDs."""
    if "semantic_id_dir" not in config.external_config_dict:
        return False
    if config["item_text_fields"] is None and not is_array_file(config["text_encoder"]):
        return False  # without texts or vectors nothing could be built
    settings = tokenizer_settings(config)
    texts = catalogue_texts(settings, item_file, tokens)
    return semantic_id_folder(
        settings, tokens, texts, Path(config["semantic_id_dir"]), config["dataset"]
    ).exists()


def item_texts(config: Config, ids: SemanticIDs, item_file: Path) -> dict[str, str]:
    """The text of each item of semantic IDs, by its id; empty if the dataset has no texts."""
    fields = (ids.manifest.get("settings") or {}).get("item_text_fields")
    fields = fields or config["item_text_fields"]
    if not fields or not Path(item_file).is_file():
        return {}
    table = read_items(ItemFile.of(config, item_file))
    known = [field for field in fields if field in table.fields]
    tokens = [token for token in ids.item_tokens if token in table.rows]
    return dict(zip(tokens, table.texts(known, tokens).texts)) if known else {}
