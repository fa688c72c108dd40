"""Semantic IDs of a dataset: from the cache if it holds exactly these, else built and saved there."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np

from recbole_genci.tokenizer.artifact import FORMAT_VERSION
from recbole_genci.tokenizer.collisions import resolve_collisions
from recbole_genci.tokenizer.encoders import LSA, check_encoder, encode_texts, encoder_revision
from recbole_genci.tokenizer.fit import fit_rqvae
from recbole_genci.tokenizer.quality import describe_quality
from recbole_genci.tokenizer.semantic_ids import PAD_TOKEN, SemanticIDs
from recbole_genci.tokenizer.text import read_item_texts

BUILD_VERSION = 1  # raise it when the same settings would give other codes: old cache folders are then left alone


def _is_int(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _integer(least: int) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: _is_int(value, least)), f"an integer of at least {least}"


def _positive(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (list, tuple)) and len(value) > 0 and all(check(entry) for entry in value)


_NAME = (lambda value: isinstance(value, str) and bool(value.strip())), "a non-empty string"
_NUMBER = _positive, "a number above 0"
# key -> (default, check, what the check asks for); a default of None means that the key must be given.
_SETTINGS: dict[str, tuple[Any, Callable[[Any], bool], str]] = {
    "text_encoder": (LSA, *_NAME),
    "item_text_fields": (None, _list_of(_NAME[0]), "a non-empty list of columns of the .item file"),
    "lsa_dim": (64, *_integer(1)),
    "text_encoder_batch_size": (64, *_integer(1)),
    "num_codebooks": (3, *_integer(1)),
    "codebook_size": (256, *_integer(2)),
    "codebook_dim": (32, *_integer(1)),
    "rqvae_hidden_size": ([128, 64], _list_of(lambda width: _is_int(width, 1)), "a non-empty list of integers"),
    "rqvae_epochs": (200, *_integer(1)),
    "rqvae_learning_rate": (1e-3, *_NUMBER),
    "rqvae_batch_size": (1024, *_integer(1)),
    "rqvae_commitment": (0.25, *_NUMBER),
    "collision_codebook_size": (256, *_integer(1)),
    "tokenizer_seed": (2020, *_integer(0)),
}
# Settings that change how fast the same vectors come about, not what they are.
_NOT_CONTENT = ("text_encoder_batch_size",)


def tokenizer_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The tokenizer's settings out of a configuration, checked; missing keys take their defaults.

    Args:
        config: a mapping, or RecBole's Config, whose ``config[key]`` is None for a missing key.

    Raises:
        ValueError: a value of the wrong type or range; the key, the value and what is expected are named.
    """
    settings = {}
    for key, (default, check, expected) in _SETTINGS.items():
        value = config[key] if key in config else None
        value = default if value is None else value
        if value is None:
            raise ValueError(f"The config key `{key}` is not set: give {expected}.")
        if not check(value):
            raise ValueError(f"The config key `{key}` must be {expected}; it is {value!r}.")
        settings[key] = list(value) if isinstance(value, (list, tuple)) else value
    return settings


def _content_key(settings: Mapping[str, Any], tokens: Sequence[str], texts: Sequence[str], revision: str) -> str:
    content = {
        "version": [FORMAT_VERSION, BUILD_VERSION],
        "settings": {key: settings[key] for key in sorted(settings) if key not in _NOT_CONTENT},
        "encoder_revision": revision,
        "tokens": list(tokens),
        "texts": list(texts),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _build(
    settings: Mapping[str, Any], tokens: Sequence[str], texts: Sequence[str], device: str, show_progress: bool
) -> tuple[SemanticIDs, dict[str, Any]]:
    """``(semantic IDs, the RQ-VAE's state)`` of items in the given order."""
    embeddings = encode_texts(
        texts,
        settings["text_encoder"],
        dim=settings["lsa_dim"],
        batch_size=settings["text_encoder_batch_size"],
        seed=settings["tokenizer_seed"],
        device=device,
        show_progress=show_progress,
    )
    fitted = fit_rqvae(
        embeddings,
        num_codebooks=settings["num_codebooks"],
        codebook_size=settings["codebook_size"],
        latent_dim=settings["codebook_dim"],
        hidden_size=settings["rqvae_hidden_size"],
        epochs=settings["rqvae_epochs"],
        learning_rate=settings["rqvae_learning_rate"],
        batch_size=settings["rqvae_batch_size"],
        commitment=settings["rqvae_commitment"],
        seed=settings["tokenizer_seed"],
        device=device,
        show_progress=show_progress,
    )
    digit = resolve_collisions(fitted.codes, tokens, settings["collision_codebook_size"])
    quality = {name: None if value != value else value for name, value in fitted.quality.items()}  # JSON has no NaN
    manifest = {
        "settings": dict(settings),
        "encoder_revision": encoder_revision(settings["text_encoder"]),
        "embedding_dim": embeddings.shape[1],
        "quality": quality,
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("numpy", "torch", "scikit-learn")},
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(device),
    }
    ids = SemanticIDs(
        np.column_stack([fitted.codes, digit]),
        tuple(tokens),
        (*fitted.model.codebook_sizes, settings["collision_codebook_size"]),
        manifest,
    )
    getLogger().info("Semantic IDs:\n" + describe_quality(fitted.quality))
    return ids, fitted.model.state_dict()


def load_or_build_semantic_ids(
    settings: dict[str, Any],
    item_file: Path,
    item_id_field: str,
    item_tokens: Sequence[str],
    cache_dir: Path,
    dataset_name: str,
    device: str = "cpu",
    show_progress: bool = False,
    field_separator: str = "\t",
    encoding: str = "utf-8",
) -> SemanticIDs:
    """Semantic IDs of a catalogue from ``<cache_dir>/<dataset_name>-<key>``, built and saved there if need be.

    The key covers settings, items, texts and the encoder, so that a change in any of them builds anew. The result does
    not depend on the order of ``item_tokens``.

    Args:
        settings: from `tokenizer_settings`.
        item_file: the dataset's atomic .item file.
        item_id_field: its id column.
        item_tokens: raw ids of the catalogue, without padding.
        cache_dir: where artifact folders live.
        dataset_name: first part of the folder's name.
        device: where texts are encoded and the RQ-VAE is trained.
        show_progress: show progress bars.
        field_separator: of the .item file.
        encoding: of the .item file.

    Raises:
        ValueError, FileNotFoundError, ImportError, RuntimeError, FloatingPointError: from the steps, each with what to
            do. A damaged cache folder is refused, never rebuilt in silence.
    """
    # One order for any caller, as batches and hence codes depend on it.
    tokens = sorted(str(token) for token in item_tokens)
    if not tokens or PAD_TOKEN in tokens:
        raise ValueError(
            f"load_or_build_semantic_ids needs the catalogue's raw item ids without padding; it was given "
            f"{len(tokens)} ids{f', {PAD_TOKEN} among them' if tokens else ''}. Pass `field2id_token[iid_field][1:]`."
        )
    texts = read_item_texts(item_file, item_id_field, settings["item_text_fields"], tokens, field_separator, encoding)
    encoder = settings["text_encoder"]
    # Only a local folder can change behind its name at no cost to check; hub and package revisions go to the manifest.
    is_folder = Path(encoder).expanduser().is_dir()
    key = _content_key(settings, tokens, texts, encoder_revision(encoder) if is_folder else "")
    folder = Path(cache_dir) / f"{dataset_name}-{key[:12]}"
    if folder.exists():
        ids = SemanticIDs.load(folder)
        if ids.item_tokens != tuple(tokens):
            raise ValueError(f"{folder} holds other items than its name says. Delete the folder to build it again.")
        getLogger().info(f"Semantic IDs of {len(ids)} items loaded from {folder} (digest {ids.digest[:12]}).")
        return ids
    check_encoder(encoder)
    ids, weights = _build(settings, tokens, texts, device, show_progress)
    try:
        ids.save(folder, weights)
    except FileExistsError:
        # Another process saved this key first. Codes may differ in the last bit across devices: all must use one set.
        getLogger().info(f"Semantic IDs of the same settings appeared in {folder} meanwhile; using those.")
    else:
        getLogger().info(f"Semantic IDs saved to {folder} (digest {ids.digest[:12]}).")
    return SemanticIDs.load(folder)
