"""A frozen tokenizer, read back from an artifact: codes of items it was never fitted to."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_genci.tokenizer.artifact.files import read_texts, read_weights
from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.tokenizer.encoding.encoders import (
    check_encoder,
    encode_texts,
    encoder_revision,
    is_array_file,
)
from recbole_genci.tokenizer.encoding.lsa import LSA, LatentSemanticAnalysis
from recbole_genci.tokenizer.encoding.vectors import vectors_of_file
from recbole_genci.tokenizer.quantization.codebook import ResidualQuantizer
from recbole_genci.tokenizer.quantization.determinism import fixed_threads
from recbole_genci.tokenizer.quantization.fit_result import encode_all
from recbole_genci.tokenizer.quantization.rqvae import RQVAE

_logger = logging.getLogger(__name__)

_CHECKED_ITEMS = (
    500  # published items that are encoded again, to see that this is still the same tokenizer
)
_LEAST_AGREEMENT = 0.99  # of their codes; the rest is left to rounding on another machine


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
        """How many items, the first ones, the tokenizer was fitted to; the others were added later."""
        return self.ids.manifest["fitted_items"]


def read_frozen(folder: Path) -> Artifact:
    """Read an artifact folder with the tokenizer in it.

    Raises:
        FileNotFoundError: the folder, or its weights or texts, are missing.
        ValueError: the folder is damaged, or of a version that items cannot be added to.
    """
    ids = SemanticIDs.load(folder)
    if not {"settings", "fitted_items", "encoder_revision"} <= ids.manifest.keys():
        raise ValueError(
            f"{folder}/manifest.json does not say how the IDs were made, so that no items can be "
            "added. Build them with this "
            f"version of recbole_genci."
        )
    return Artifact(ids, read_texts(folder), read_weights(folder))


def quantizer_from_weights(weights: Mapping[str, Tensor]) -> ResidualQuantizer:
    """The quantiser of an artifact, in eval mode and float64: only a tie's code could then depend
    on how rows are batched.
    """
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
            model = RQVAE(input_dim, sizes, latent_dim, hidden, learned)
    else:
        model = ResidualQuantizer(input_dim, sizes, latent_dim, learned)
    model.load_state_dict(dict(weights))
    return model.double().eval()


def quantize_vectors(model: ResidualQuantizer, vectors: np.ndarray) -> tuple[Tensor, Tensor]:
    """Codes ``[I, L]`` and residuals ``[I, L, d]`` of vectors ``[I, D]`` under a frozen quantiser.

    Equal vectors have equal ones, to the last bit.
    """
    # A matrix product rounds its last rows in another way, so that equal rows could differ.
    distinct, number = np.unique(np.asarray(vectors, dtype=np.float64), axis=0, return_inverse=True)
    with fixed_threads(1):
        output = encode_all(model, torch.from_numpy(distinct))[1]
    number = torch.from_numpy(number.reshape(-1))
    return output.codes[number], output.residuals[number]


def encode_with(
    artifact: Artifact, tokens: Sequence[str], texts: Sequence[str], device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of published items (some of them, evenly spaced) and of new ones, by the artifact's
    own encoder.

    Returns:
        ``(rows [C] of the published items, vectors [C + J, D] of those and of the new items)``

    Raises:
        ValueError: the encoder is not the one that the artifact was built with.
    """
    settings, ids = artifact.settings, artifact.ids
    rows = np.unique(np.linspace(0, artifact.fitted_items - 1, _CHECKED_ITEMS).astype(np.int64))
    encoder = settings["text_encoder"]
    if is_array_file(encoder):
        return rows, vectors_of_file(settings, [*(ids.item_tokens[row] for row in rows), *tokens])
    check_encoder(encoder)
    if encoder == LSA:
        # Fitted again to the texts it was fitted to: its vocabulary and directions are functions of
        # them.
        with fixed_threads(settings["tokenizer_threads"]):
            lsa = LatentSemanticAnalysis(settings["lsa_dim"], settings["tokenizer_seed"])
            fitted = lsa.fit_transform(artifact.texts[: artifact.fitted_items])
            vectors = np.concatenate([fitted[rows], lsa.transform(texts)])
        return rows, vectors.astype(np.float32)
    vectors = encode_texts(
        [*(artifact.texts[row] for row in rows), *texts],
        encoder,
        batch_size=settings["text_encoder_batch_size"],
        device=device,
    )
    found, expected = encoder_revision(encoder), ids.manifest["encoder_revision"]
    if found != expected:
        raise ValueError(
            f"`text_encoder: {encoder}` is now {found}, the semantic IDs were made with "
            f"{expected}: new items would get "
            f"codes of another kind. Bring that revision back, or build all IDs anew."
        )
    return rows, vectors


def check_agreement(artifact: Artifact, rows: np.ndarray, codes: np.ndarray) -> None:
    """Refuse a tokenizer that would no longer give the published items their codes.

    Args:
        artifact: what is published.
        rows: some of its items.
        codes: ``[C, L]`` what the frozen tokenizer gives them now.

    Raises:
        ValueError: too few agree.
    """
    levels = artifact.ids.num_levels - 1
    if artifact.settings["spread_collisions"] and levels > 1:
        levels -= 1  # the last level was then not always the nearest
    agreement = float((codes[:, :levels] == artifact.ids.codes[rows, :levels]).all(axis=1).mean())
    if agreement < _LEAST_AGREEMENT:
        raise ValueError(
            f"The frozen tokenizer gives only {agreement:.1%} of {len(rows)} published items the "
            "codes they have: the texts' "
            "encoder, its library or the vectors file have changed since. Bring them back, or "
            "build all IDs anew."
        )
    _logger.info(
        f"The frozen tokenizer gives {agreement:.1%} of {len(rows)} published items their codes "
        "again."
    )
