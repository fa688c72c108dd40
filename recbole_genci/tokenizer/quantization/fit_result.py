"""The result of fitting a quantiser: model, codes and their quality, with checks of the quality."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_genci.tokenizer.quantization.codebook import QuantizeOutput, ResidualQuantizer
from recbole_genci.tokenizer.quantization.quality import (
    codes_quality,
    collision_rate,
    is_balanced,
    neighbor_recall,
)
from recbole_genci.tokenizer.quantization.spread import spread_codes

_logger = logging.getLogger(__name__)

# A small catalogue gets fewer codes; otherwise its cohorts would be single items.
_MIN_ITEMS_PER_CODE = 4
_COLLAPSED_SHARE = 0.5  # a level with a larger cohort has collapsed
_GUARDED_CODES = 8  # a smaller level may rightly have a large cohort
# Embeddings that are equal to so many decimal places, in units of their spread, count as equal.
_ROUNDING = 4
# Reconstruction error as a share of the variance; decoding every item to the mean has 1.
_DOUBTFUL_ERROR, _DIVERGED_ERROR = 1.1, 10.0
_CHUNK = 1 << 15
_REMEDY = (
    "Set `codebook_balance: sinkhorn`, lower `codebook_size`, or choose another `text_encoder`"
)
_RQVAE_REMEDY = "with `quantizer: rqvae` also lower `rqvae_learning_rate` or raise `rqvae_epochs`"


class FitResult(NamedTuple):
    """The result of fitting a quantiser.

    Attributes:
        model: the fitted quantiser, in eval mode.
        codes: ``[I, num_codebooks]`` int64, 0-based.
        quality: collision rate, reconstruction error, and use and balance of every level.
    """

    model: ResidualQuantizer
    codes: np.ndarray
    quality: dict[str, Any]


def checked_embeddings(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings as float32 ``[I >= 1, D >= 1]``.

    Raises:
        ValueError: the shape is wrong, or values are not finite.
    """
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2 or 0 in embeddings.shape or not np.isfinite(embeddings).all():
        problem = "" if np.isfinite(embeddings).all() else " with values that are not finite"
        raise ValueError(
            "The quantiser needs finite embeddings [I, D] of at least one item; it was given "
            f"shape {embeddings.shape}{problem}."
        )
    return embeddings


def capped_size(data: Tensor, codebook_size: int) -> int:
    """The number of codes per level that the catalogue ``[I, D]`` can fill, at most
    ``codebook_size``. A smaller number is logged.
    """
    distinct = len(torch.unique(data, dim=0))
    size = min(codebook_size, max(distinct // _MIN_ITEMS_PER_CODE, min(distinct, 2)))
    if size < codebook_size:
        _logger.info(
            f"Codebooks capped at {size} codes instead of {codebook_size}: the catalogue has "
            f"{distinct} distinct embeddings, and a cohort should hold {_MIN_ITEMS_PER_CODE} items."
        )
    return size


@torch.no_grad()
def encode_all(model: ResidualQuantizer, data: Tensor) -> tuple[Tensor, QuantizeOutput, float]:
    """``(reconstruction [I, D], quantiser output, error as a share of the variance)`` over all
    items.
    """
    latent = torch.cat([model.encode(rows) for rows in data.split(_CHUNK)])
    output = model.quantize(latent)
    reconstruction = torch.cat([model.decode(rows) for rows in output.quantized.split(_CHUNK)])
    variance = (data - model.input_mean).square().sum().clamp_min(1e-12)
    error = float((reconstruction - data).square().sum() / variance)
    return reconstruction, output, error


def really_distinct(model: ResidualQuantizer, data: Tensor) -> int:
    """How many of the embeddings ``[I, D]`` differ by more than rounding."""
    return len(
        torch.unique(
            ((data - model.input_mean) / model.input_scale).round(decimals=_ROUNDING), dim=0
        )
    )


def check_start(model: ResidualQuantizer, data: Tensor, size: int) -> None:
    """Check that k-means found ``size`` places for level 1, as many as `capped_size` allows.

    Raises:
        RuntimeError: the network gives different embeddings the same latent.
    """
    places, distinct = model.codebook_sizes[0], really_distinct(model, data)
    if places < size <= distinct:
        raise RuntimeError(
            f"The semantic IDs collapsed: the network puts the {distinct} different embeddings of "
            f"{len(data)} items in {places} place{'' if places == 1 else 's'}, too few for {size} "
            f"codes, so that cohorts carry no information. {_REMEDY}; {_RQVAE_REMEDY}."
        )


def check_error(error: float, model: ResidualQuantizer, data: Tensor) -> None:
    """Warn or stop if a network reconstructs worse than the mean embedding.

    Args:
        error: the reconstruction error as a share of the variance.
        model: the quantiser.
        data: the embeddings ``[I, D]``.

    Raises:
        RuntimeError: training diverged.
    """
    # Equal embeddings have no variance to compare with.
    if error <= _DOUBTFUL_ERROR or really_distinct(model, data) < 2:
        return
    message = (
        f"the reconstruction error of the RQ-VAE is {error:.4g} of the embeddings' variance, where "
        "giving every item the mean embedding would be 1. Lower `rqvae_learning_rate`, or raise "
        "`rqvae_epochs`"
    )
    if error > _DIVERGED_ERROR:
        raise RuntimeError(f"RQ-VAE training diverged: {message}.")
    _logger.warning(f"The semantic IDs say little about the items: {message}.")


def check_collapse(quality: dict[str, Any], data: Tensor) -> None:
    """Stop if a level puts most items into one code, unless these items have equal embeddings.

    Raises:
        RuntimeError: a level collapsed; gives its figures.
    """
    equal_share = float(torch.unique(data, dim=0, return_counts=True)[1].max()) / len(data)
    if equal_share > _COLLAPSED_SHARE:
        _logger.warning(
            f"{equal_share:.1%} of the items have the same text embedding and must share their "
            "codes; cohorts will say little about them. Choose richer `item_text_fields`."
        )
    for number, level in enumerate(quality["levels"], start=1):
        limit = max(_COLLAPSED_SHARE, equal_share + 0.1)
        if level["codes"] >= _GUARDED_CODES and level["largest_share"] > limit:
            raise RuntimeError(
                f"The semantic IDs collapsed: level {number} puts {level['largest_share']:.1%} of "
                f"{quality['items']} items into one code ({level['used']} of {level['codes']} "
                f"codes used, collision rate {quality['collision_rate']:.1%}), so that its cohorts "
                f"carry no information. {_REMEDY}; {_RQVAE_REMEDY}."
            )
        if level["codes"] >= _GUARDED_CODES and not is_balanced(level):
            _logger.warning(
                f"Level {number} of the semantic IDs is unbalanced: perplexity "
                f"{level['perplexity']:.1f} of {level['codes']} codes, "
                f"{level['largest_share']:.1%} of the items in one. {_REMEDY}."
            )


def outcome(model: ResidualQuantizer, data: Tensor, spread: bool, **figures: Any) -> FitResult:
    """Codes of all items ``data [I, D]`` under a fitted model, and their quality.

    Args:
        model: the fitted quantiser.
        data: the embeddings, on the model's device.
        spread: see `spread.spread_codes`.
        figures: more entries for ``quality``.

    Raises:
        RuntimeError: see `check_collapse`.
    """
    model.eval()
    reconstruction, quantized, error = encode_all(model, data)
    codes = quantized.codes.cpu().numpy()
    nearest = codes
    if spread:
        codes = spread_codes(nearest, quantized.residuals[:, -1], model.codebooks[-1].codes)
        moved = np.flatnonzero(codes[:, -1] != nearest[:, -1])
        if len(moved):
            book = model.codebooks[-1].codes.detach()
            shift = (
                book[torch.from_numpy(codes[moved, -1]).to(book.device)]
                - book[quantized.codes[moved, -1]]
            )
            with torch.no_grad():
                reconstruction[moved] = model.decode(quantized.quantized[moved] + shift)
                variance = (data - model.input_mean).square().sum().clamp_min(1e-12)
                error = float((reconstruction - data).square().sum() / variance)
        figures |= {
            "moved_share": len(moved) / len(codes),
            "collision_rate_nearest": collision_rate(nearest),
        }
    embeddings = data.cpu().numpy()
    quality = codes_quality(codes, model.codebook_sizes)
    quality |= {
        "equal_embeddings": 1.0 - len(np.unique(embeddings, axis=0)) / len(embeddings),
        "reconstruction_error": error,
        "neighbor_recall": neighbor_recall(embeddings, reconstruction.cpu().numpy()),
        **figures,
    }
    check_collapse(quality, data)
    return FitResult(model, codes, quality)
