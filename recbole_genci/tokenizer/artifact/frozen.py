"""Load the frozen tokenizer of an artifact, which gives codes to items it was not fitted to."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_genci.tokenizer.artifact.files import REBUILD, WEIGHTS, read_texts, read_weights
from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.tokenizer.encoding.encoders import (
    check_encoder,
    encode_texts,
    encoder_revision,
    is_array_file,
    latent_semantic_analysis,
)
from recbole_genci.tokenizer.encoding.lsa import LSA
from recbole_genci.tokenizer.encoding.vectors import vectors_of_file
from recbole_genci.tokenizer.quantization.codebook import ResidualQuantizer
from recbole_genci.tokenizer.quantization.determinism import fixed_threads
from recbole_genci.tokenizer.quantization.fit_result import encode_all
from recbole_genci.tokenizer.quantization.rqvae import RQVAE

_logger = logging.getLogger(__name__)

# So many published items are encoded again, to check that the tokenizer is still the same.
_CHECKED_ITEMS = 500
_LEAST_AGREEMENT = 0.99  # share of equal codes; rounding on another machine may change the rest


class Artifact(NamedTuple):
    """Everything in an artifact folder.

    Attributes:
        ids: the published semantic IDs.
        texts: one per item.
        weights: the quantiser's state.
    """

    ids: SemanticIDs
    texts: list[str]
    weights: dict[str, Tensor]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings it was built with."""
        return self.ids.manifest["settings"]

    @property
    def fitted_items(self) -> int:
        """The number of first items that the tokenizer was fitted to; others were added later."""
        return self.ids.manifest["fitted_items"]

    @property
    def build_version(self) -> int:
        """The version of the algorithms that built it (`scale.build_version`)."""
        return self.ids.manifest.get("build_version", 1)


def read_frozen(folder: Path) -> Artifact:
    """Read an artifact folder with the tokenizer in it.

    Raises:
        FileNotFoundError: the folder, or its weights or texts, are missing.
        ValueError: the folder is damaged, or its version does not allow adding items.
    """
    ids = SemanticIDs.load(folder)
    if not {"settings", "fitted_items", "encoder_revision"} <= ids.manifest.keys():
        raise ValueError(
            f"{folder}/manifest.json does not say how the IDs were made, so that no items can be "
            "added. Build them with this version of recbole_genci."
        )
    return Artifact(ids, read_texts(folder), read_weights(folder))


def quantizer_from_weights(weights: Mapping[str, Tensor], folder: Path) -> ResidualQuantizer:
    """The quantiser of an artifact, in eval mode and float64.

    In float64 the batching of rows can change codes only at ties.

    Raises:
        ValueError: the weights in ``folder`` are not those of a quantiser.
    """
    try:
        return _quantizer(weights)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ValueError(
            f"{folder / WEIGHTS} does not hold the weights of a quantiser ({reason}). {REBUILD}"
        ) from error


def _quantizer(weights: Mapping[str, Tensor]) -> ResidualQuantizer:
    books = [
        weights[f"codebooks.{level}.codes"].shape
        for level in range(sum(k.endswith(".codes") for k in weights))
    ]
    input_dim, sizes, latent_dim = (
        len(weights["input_mean"]),
        [size for size, _ in books],
        books[0][1],
    )
    learned = "codebooks.0.ema_count" not in weights
    layers = sorted(
        int(name.split(".")[1])
        for name in weights
        if name.startswith("encoder.") and name.endswith(".weight")
    )
    if layers:
        hidden = [len(weights[f"encoder.{layer}.weight"]) for layer in layers[:-1]]
        with torch.random.fork_rng(devices=[]):
            model: ResidualQuantizer = RQVAE(input_dim, sizes, latent_dim, hidden, learned)
    else:
        model = ResidualQuantizer(input_dim, sizes, latent_dim, learned)
    model.load_state_dict(dict(weights))
    return model.double().eval()


def quantize_vectors(model: ResidualQuantizer, vectors: np.ndarray) -> tuple[Tensor, Tensor]:
    """Codes ``[I, L]`` and residuals ``[I, L, d]`` of vectors ``[I, D]`` under a frozen quantiser.

    Equal vectors get codes and residuals that are equal to the last bit.
    """
    # A matrix product rounds its last rows in another way, so equal rows could differ. Therefore
    # each distinct row is computed once.
    distinct, number = np.unique(np.asarray(vectors, dtype=np.float64), axis=0, return_inverse=True)
    with fixed_threads(1):
        output = encode_all(model, torch.from_numpy(distinct))[0]
    of_row = torch.from_numpy(number.reshape(-1))
    return output.codes[of_row], output.residuals[of_row]


def encode_with(
    artifact: Artifact, tokens: Sequence[str], texts: Sequence[str], device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Encode some published items, evenly spaced, and new items with the artifact's encoder.

    Returns:
        ``(rows [C] of the published items, vectors [C + J, D] of those and of the new items)``

    Raises:
        ValueError: the encoder has changed since the artifact was built.
    """
    settings, ids = artifact.settings, artifact.ids
    rows = np.unique(np.linspace(0, artifact.fitted_items - 1, _CHECKED_ITEMS).astype(np.int64))
    encoder = settings["text_encoder"]
    if is_array_file(encoder):
        return rows, vectors_of_file(settings, [*(ids.item_tokens[row] for row in rows), *tokens])
    check_encoder(encoder)
    if encoder == LSA:
        # Fitted again to the same texts, which determine its vocabulary and directions.
        with fixed_threads(settings["tokenizer_threads"]):
            lsa = latent_semantic_analysis(
                settings["lsa_dim"], settings["tokenizer_seed"], artifact.build_version
            )
            fitted = lsa.fit_transform(artifact.texts[: artifact.fitted_items])
            vectors = np.concatenate([fitted[rows], lsa.transform(texts)])
        return rows, vectors.astype(np.float32)
    vectors = encode_texts(
        [*(artifact.texts[row] for row in rows), *texts],
        encoder,
        batch_size=settings["text_encoder_batch_size"],
        device=device,
    )
    current, expected = encoder_revision(encoder), ids.manifest["encoder_revision"]
    if current != expected:
        raise ValueError(
            f"`text_encoder: {encoder}` is now {current}, the semantic IDs were made with "
            f"{expected}: new items would get codes of another kind. Bring that revision back, or "
            "build all IDs anew."
        )
    return rows, vectors


def check_agreement(artifact: Artifact, rows: np.ndarray, codes: np.ndarray) -> None:
    """Check that the frozen tokenizer still gives published items their codes.

    Args:
        artifact: the published artifact.
        rows: rows of some of its items.
        codes: ``[C, L]`` the codes that the frozen tokenizer gives these items now.

    Raises:
        ValueError: too many codes differ.
    """
    levels = artifact.ids.num_levels - 1
    if artifact.settings["spread_collisions"] and levels > 1:
        levels -= 1  # the last level was then not always the nearest
    agreement = float((codes[:, :levels] == artifact.ids.codes[rows, :levels]).all(axis=1).mean())
    if agreement < _LEAST_AGREEMENT:
        raise ValueError(
            f"The frozen tokenizer gives only {agreement:.1%} of {len(rows)} published items the "
            "codes they have: the texts' encoder, its library or the vectors file have changed "
            "since. Bring them back, or build all IDs anew."
        )
    _logger.info(
        f"The frozen tokenizer gives {agreement:.1%} of {len(rows)} published items their codes "
        "again."
    )
