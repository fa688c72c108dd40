"""Semantic IDs of a dataset: load them from the cache, or build them and save them there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from recbole_genci.tokenizer.artifact.collisions import resolve_collisions
from recbole_genci.tokenizer.artifact.files import FORMAT_VERSION
from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.tokenizer.encoding.encoders import (
    MINILM,
    check_encoder,
    encode_texts,
    encoder_revision,
    is_array_file,
    is_hub_name,
)
from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.encoding.limit import TextLimit, text_limit
from recbole_genci.tokenizer.encoding.lsa import LSA
from recbole_genci.tokenizer.encoding.text import read_item_texts
from recbole_genci.tokenizer.encoding.vectors import (
    cache_file,
    read_cached_limit,
    read_cached_vectors,
    vectors_of_file,
    write_cached_vectors,
)
from recbole_genci.tokenizer.progress import SILENT, BuildProgress
from recbole_genci.tokenizer.quantization.determinism import fixed_threads
from recbole_genci.tokenizer.quantization.fit_result import FitResult
from recbole_genci.tokenizer.quantization.fit_rkmeans import RKMEANS_STAGES, fit_rkmeans
from recbole_genci.tokenizer.quantization.fit_rqvae import fit_rqvae, rqvae_stages
from recbole_genci.tokenizer.quantization.options import QuantizerOptions, RQVAEOptions
from recbole_genci.tokenizer.quantization.quality import describe_quality, warn_of_equal_codes
from recbole_genci.tokenizer.report.report import write_report
from recbole_genci.tokenizer.scale import build_version
from recbole_genci.tokenizer.settings import content_settings
from recbole_genci.utils.disk import check_room
from recbole_genci.utils.value_checks import PAD_TOKEN

_logger = logging.getLogger(__name__)

EMBEDDINGS = "embeddings"  # the cache's folder of encoded texts
REPORT = "report"  # the artifact's folder for people; no code reads it


def catalogue_texts(
    settings: Mapping[str, Any], item_file: ItemFile, tokens: Sequence[str]
) -> list[str]:
    """One text per item, see `text.read_item_texts`.

    If a .npy holds the items' vectors, neither text fields nor an .item file are needed.
    """
    if is_array_file(settings["text_encoder"]) and not item_file.path.is_file():
        return [f"item {token}" for token in tokens]
    return read_item_texts(item_file, settings["item_text_fields"] or [], tokens)


def telling_texts(settings: Mapping[str, Any], texts: Sequence[str]) -> Sequence[str] | None:
    """The texts if the items' vectors come from them; None if a .npy holds the vectors."""
    return None if is_array_file(settings["text_encoder"]) else texts


def item_vectors(
    settings: Mapping[str, Any],
    tokens: Sequence[str],
    texts: Sequence[str],
    cache_dir: Path,
    device: str = "cpu",
    progress: BuildProgress = SILENT,
    on_limit: Callable[[TextLimit], None] = lambda limit: None,
) -> np.ndarray:
    """The items' vectors ``[I, D]``: from the user's .npy, from the cache, or encoded now.

    The cache is in ``<cache_dir>/embeddings``. Texts, encoder and its revision are the key, so that
    trying quantiser settings encodes the texts only once.

    Raises:
        ValueError, FileNotFoundError, ImportError, RuntimeError, FloatingPointError: see
            `encode_texts` and `vectors`.
    """
    encoder = settings["text_encoder"]
    if is_array_file(encoder):
        return vectors_of_file(settings, tokens)
    # If the texts are cached, the hub need not be reachable; it is checked later.
    if not is_hub_name(encoder):
        check_encoder(encoder)
    options = _encoder_options(settings, len(texts))
    folder = Path(cache_dir) / EMBEDDINGS
    file = cache_file(folder, encoder, encoder_revision(encoder), options, texts)
    vectors = read_cached_vectors(file, len(texts))
    if vectors is not None:
        _logger.info(f"Item vectors of {len(texts)} texts loaded from {file}.")
        if (limit := read_cached_limit(file)) is not None:
            on_limit(limit)
        return vectors
    check_encoder(encoder)
    vectors, limits = _encode(settings, texts, device, progress)
    revision = encoder_revision(encoder)  # the commit of a hub model is known after its download
    file = cache_file(folder, encoder, revision, options, texts)
    write_cached_vectors(file, vectors, encoder, revision, *limits)
    for limit in limits:
        on_limit(limit)
    return vectors


def _encoder_options(settings: Mapping[str, Any], texts: int) -> dict[str, int]:
    """What decides the vectors of so many texts beside the encoder: only ``lsa`` has options."""
    if settings["text_encoder"] != LSA:
        return {}
    return {
        "version": build_version(texts),
        "dim": settings["lsa_dim"],
        "seed": settings["tokenizer_seed"],
        "threads": settings["tokenizer_threads"],
    }


def _encode(
    settings: Mapping[str, Any], texts: Sequence[str], device: str, progress: BuildProgress
) -> tuple[np.ndarray, list[TextLimit]]:
    """Vectors ``[I, D]``, and how many texts were cut, if the encoder has a limit."""
    limits: list[TextLimit] = []
    is_lsa = settings["text_encoder"] == LSA
    with fixed_threads(settings["tokenizer_threads"]) if is_lsa else contextlib.nullcontext():
        vectors = encode_texts(
            texts,
            settings["text_encoder"],
            dim=settings["lsa_dim"],
            batch_size=settings["text_encoder_batch_size"],
            seed=settings["tokenizer_seed"],
            device=device,
            progress=progress,
            on_limit=limits.append,
        )
    return vectors, limits


def fit_quantizer(
    settings: Mapping[str, Any],
    vectors: np.ndarray,
    device: str = "cpu",
    progress: BuildProgress = SILENT,
) -> FitResult:
    """Fit the configured quantiser to vectors ``[I, D]``; see `fit_rqvae` and `fit_rkmeans`."""
    with fixed_threads(settings["tokenizer_threads"]):
        if settings["quantizer"] == "rkmeans":
            return fit_rkmeans(vectors, QuantizerOptions.of(settings), device, progress)
        return fit_rqvae(vectors, RQVAEOptions.of(settings), device, progress)


def build_stages(settings: Mapping[str, Any]) -> int:
    """The number of stages of a build: vectors, the quantiser's stages, and collision digits with
    the report.
    """
    return 2 + (
        RKMEANS_STAGES
        if settings["quantizer"] == "rkmeans"
        else rqvae_stages(settings["rqvae_epochs"])
    )


def build_manifest(
    settings: Mapping[str, Any],
    vectors: np.ndarray,
    quality: Mapping[str, Any],
    device: str,
    limit: TextLimit | None = None,
) -> dict:
    """The provenance of semantic IDs for their ``manifest.json``."""
    return {
        "settings": dict(settings),
        "encoder_revision": encoder_revision(
            settings["text_encoder"], settings["text_encoder_ids"]
        ),
        "embedding_dim": vectors.shape[1],
        "fitted_items": len(vectors),
        "text_limit": limit and limit._asdict(),
        "build_version": build_version(len(vectors)),
        "quality": {
            name: None if value != value else value for name, value in quality.items()
        },  # JSON has no NaN
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("numpy", "torch", "scikit-learn")},
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(device),
    }


def _build(
    settings: Mapping[str, Any],
    tokens: Sequence[str],
    texts: Sequence[str],
    cache_dir: Path,
    device: str,
    progress: BuildProgress,
) -> tuple[SemanticIDs, dict[str, Tensor]]:
    """``(semantic IDs, the quantiser's state)`` of items in the given order."""
    progress.stage(f"vectors of {len(tokens):,} items by {settings['text_encoder']}")
    limits: list[TextLimit] = []
    vectors = item_vectors(settings, tokens, texts, cache_dir, device, progress, limits.append)
    fitted = fit_quantizer(settings, vectors, device, progress)
    progress.stage("collision digits and report")
    digit = resolve_collisions(
        fitted.codes,
        tokens,
        settings["collision_codebook_size"],
        texts=telling_texts(settings, texts),
    )
    ids = SemanticIDs(
        np.column_stack([fitted.codes, digit]),
        tuple(tokens),
        (*fitted.model.codebook_sizes, settings["collision_codebook_size"]),
        build_manifest(settings, vectors, fitted.quality, device, *limits),
    )
    _warn_of_cut_texts(ids)
    _logger.info("Semantic IDs:\n" + describe_quality(fitted.quality))
    return ids, fitted.model.state_dict()


def sorted_tokens(item_tokens: Sequence[str]) -> list[str]:
    """Raw ids in sorted order. Batches, and so codes, depend on the order, which must be the same.

    Raises:
        ValueError: there are no ids, or padding is among them.
    """
    tokens = sorted(str(token) for token in item_tokens)
    if not tokens or PAD_TOKEN in tokens:
        padding = f", {PAD_TOKEN} among them" if tokens else ""
        raise ValueError(
            "load_or_build_semantic_ids needs the catalogue's raw item ids without padding; it "
            f"was given {len(tokens)} ids{padding}. Pass `field2id_token[iid_field][1:]`."
        )
    return tokens


def semantic_id_folder(
    settings: Mapping[str, Any],
    tokens: Sequence[str],
    texts: Sequence[str],
    cache_dir: Path,
    dataset_name: str,
) -> Path:
    """``<cache_dir>/<dataset_name>-<key>``.

    The key covers settings, items, texts, and the content of an encoder that is a file or folder.
    """
    encoder = settings["text_encoder"]
    # Only local files are cheap to check. Revisions from the hub or a package go to the manifest.
    is_local = is_array_file(encoder) or Path(encoder).expanduser().is_dir()
    if is_array_file(encoder):  # raises a clear error if a file is missing
        vectors_of_file(settings, tokens)
    content = {
        "version": [FORMAT_VERSION, build_version(len(tokens))],
        "settings": content_settings(settings),
        "encoder_revision": encoder_revision(encoder, settings["text_encoder_ids"])
        if is_local
        else "",
        "tokens": list(tokens),
        "texts": list(texts),
    }
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Path(cache_dir) / f"{dataset_name}-{key[:12]}"


def _warn_of_another_revision(ids: SemanticIDs, encoder: str, folder: Path) -> None:
    """Warn if another release of the encoder's package made the IDs; they are still used."""
    if encoder not in (LSA, MINILM):
        return
    try:
        now = encoder_revision(encoder)
    except metadata.PackageNotFoundError:
        return  # existing IDs do not need the optional package
    made_with = ids.manifest.get("encoder_revision", now)
    if made_with != now:
        _logger.warning(
            f"The semantic IDs in {folder} were made with {made_with}; installed is {now}, which "
            "may give others. They are used as they are: delete the folder to build them anew."
        )


def _warn_of_cut_texts(ids: SemanticIDs) -> None:
    """Warn if the encoder has not read the whole of the texts that the IDs are made of."""
    limit = text_limit(ids.manifest)
    if limit is not None and limit.cut:
        _logger.warning(limit.sentence)


def load_or_build_semantic_ids(
    settings: dict[str, Any],
    item_file: ItemFile,
    item_tokens: Sequence[str],
    cache_dir: Path,
    dataset_name: str,
    device: str = "cpu",
    show_progress: bool = False,
) -> SemanticIDs:
    """Semantic IDs of a catalogue from ``<cache_dir>/<dataset_name>-<key>``; built if missing.

    The key covers settings, items, texts and the encoder, so that IDs are built again if one of
    them changes. The revision of the library or hub model behind an encoder's name is saved; if it
    has changed, and this can be found out without the hub, there is a warning. The result does not
    depend on the order of ``item_tokens``.

    Args:
        settings: the settings, from `tokenizer_settings`.
        item_file: the dataset's .item file.
        item_tokens: raw ids of the catalogue, without padding.
        cache_dir: the folder of artifact folders.
        dataset_name: first part of the folder's name.
        device: where texts are encoded and the quantiser is fitted.
        show_progress: whether to show progress bars; else long stages log a line at most every
            30 s.

    Raises:
        ValueError, FileNotFoundError, ImportError, RuntimeError, FloatingPointError: a step failed;
            says what to do. A damaged cache folder is an error, and is never silently rebuilt.
    """
    tokens = sorted_tokens(item_tokens)
    texts = catalogue_texts(settings, item_file, tokens)
    folder = semantic_id_folder(settings, tokens, texts, cache_dir, dataset_name)
    if folder.exists():
        return _load(folder, tokens, settings["text_encoder"])
    # The paper's encoder gives vectors of 768 float32; texts and codes are small beside them.
    width = settings["lsa_dim"] if settings["text_encoder"] == LSA else 768
    check_room(Path(cache_dir), "semantic_id_dir", len(tokens) * (4 * width + 500), "semantic IDs")
    progress = BuildProgress(build_stages(settings), show_progress)
    ids, weights = _build(settings, tokens, texts, Path(cache_dir), device, progress)
    _save(ids, weights, texts, folder)
    return SemanticIDs.load(folder)


def _load(folder: Path, tokens: Sequence[str], encoder: str) -> SemanticIDs:
    """The IDs of the cache for these items."""
    ids = SemanticIDs.load(folder)
    if ids.item_tokens != tuple(tokens):
        raise ValueError(
            f"{folder} holds other items than its name says. Delete the folder to build it again."
        )
    _logger.info(
        f"Semantic IDs of {len(ids)} items loaded from {folder} (digest {ids.digest[:12]})."
    )
    _warn_of_another_revision(ids, encoder, folder)
    _warn_of_cut_texts(ids)
    warn_of_equal_codes(ids.codes[:, :-1])
    return ids


def _save(
    ids: SemanticIDs, weights: Mapping[str, Tensor], texts: Sequence[str], folder: Path
) -> None:
    """Write IDs into the cache with a report, unless another process has done so."""
    try:
        ids.save(folder, weights, texts)
    except FileExistsError:
        # Devices may round differently, so all processes must use the IDs that were saved first.
        _logger.info(
            f"Semantic IDs of the same settings appeared in {folder} meanwhile; using those."
        )
    else:
        write_report(ids, texts, folder / REPORT)
        _logger.info(f"Semantic IDs saved to {folder} (digest {ids.digest[:12]}), with a report.")
