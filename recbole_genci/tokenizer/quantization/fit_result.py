"""The result of fitting a quantiser: model, codes and their quality, with checks of the quality."""

from __future__ import annotations

import logging
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_genci.tokenizer.quantization.codebook import QuantizeOutput, ResidualQuantizer
from recbole_genci.tokenizer.quantization.quality import (
    COLLAPSED_SHARE,
    codes_quality,
    collision_rate,
    is_balanced,
    neighbor_recall,
    neighbor_step,
)
from recbole_genci.tokenizer.quantization.spread import spread_codes

_logger = logging.getLogger(__name__)

# A small catalogue gets fewer codes; otherwise its cohorts would be single items.
_MIN_ITEMS_PER_CODE = 4
_GUARDED_CODES = 8  # a smaller level may rightly have a large cohort
# Embeddings that are equal to so many decimal places, in units of their spread, count as equal.
_ROUNDING = 4
# Reconstruction error as a share of the variance; decoding every item to the mean has 1.
_DOUBTFUL_ERROR, _DIVERGED_ERROR = 1.1, 10.0
# Embeddings whose largest number lies between these are fitted as they are.
_SMALL, _LARGE = 2.0**-10, 2.0**30
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


def in_ordinary_units(embeddings: np.ndarray) -> tuple[np.ndarray, int]:
    """``(embeddings / 2**exponent, exponent)``, so that codes do not depend on the overall scale.

    In float32 squares of very small numbers are 0, and those of very large ones infinite. The
    exponent is 0 for embeddings of ordinary size.

    Args:
        embeddings: of `checked_embeddings`.
    """
    largest = float(max(embeddings.max(), -embeddings.min()))
    if largest == 0 or _SMALL <= largest < _LARGE:
        return embeddings, 0
    exponent = math.frexp(largest)[1] - 1
    return np.ldexp(embeddings, -exponent), exponent


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
def encode_all(model: ResidualQuantizer, data: Tensor) -> tuple[QuantizeOutput, float]:
    """``(quantiser output, reconstruction error as a share of the variance)`` over all items."""
    parts = [model.quantize(model.encode(rows)) for rows in data.split(_CHUNK)]
    output = QuantizeOutput(
        torch.cat([part.quantized for part in parts]),
        torch.cat([part.codes for part in parts]),
        torch.cat([part.residuals for part in parts]),
        torch.stack([part.commitment for part in parts]).mean(dim=0),
    )
    return output, _reconstructed(model, data, output.codes)[0]


@torch.no_grad()
def _codes_of(
    model: ResidualQuantizer, data: Tensor, with_residual: bool
) -> tuple[np.ndarray, Tensor | None]:
    """The nearest codes ``[I, L]`` of all items, and the input of the last level ``[I, d]``."""
    codes, residuals = [], []
    for rows in data.split(_CHUNK):
        output = model.quantize(model.encode(rows))
        codes.append(output.codes.cpu().numpy())
        if with_residual:
            residuals.append(output.residuals[:, -1].clone())
    return np.concatenate(codes), torch.cat(residuals) if with_residual else None


@torch.no_grad()
def _reconstructed(
    model: ResidualQuantizer, data: Tensor, codes: Tensor, every: int | None = None
) -> tuple[float, Tensor]:
    """The error of decoding ``codes [I, L]`` as a share of the variance, and what is decoded.

    Of that only each ``every``-th row is kept, so that memory does not grow; no row by default.
    """
    error, variance, kept = 0.0, 0.0, []
    for start in range(0, len(data), _CHUNK):
        rows, index = data[start : start + _CHUNK], codes[start : start + _CHUNK]
        quantized = torch.zeros(len(rows), model.codebooks[0].codes.shape[1]).to(rows)
        for level, book in enumerate(model.codebooks):
            quantized = quantized + book.codes[index[:, level]]
        decoded = model.decode(quantized)
        error += float((decoded - rows).square().sum())
        variance += float((rows - model.input_mean).square().sum())
        if every:
            kept.append(decoded[-start % every :: every])
    return error / max(variance, 1e-12), torch.cat(kept) if every else data[:0]


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


def check_collapse(quality: dict[str, Any], equal_share: float) -> None:
    """Stop if a level puts most items into one code, unless these items have equal embeddings.

    Args:
        quality: the figures of `codes_quality`.
        equal_share: the largest share of the items that have one and the same embedding.

    Raises:
        RuntimeError: a level collapsed; gives its figures.
    """
    if equal_share > COLLAPSED_SHARE:
        _logger.warning(
            f"{equal_share:.1%} of the items have the same text embedding and must share their "
            "codes; cohorts will say little about them. Choose richer `item_text_fields`."
        )
    for number, level in enumerate(quality["levels"], start=1):
        limit = max(COLLAPSED_SHARE, equal_share + 0.1)
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
    codes, residual = _codes_of(model, data, with_residual=spread)
    if residual is not None:
        nearest = codes
        codes = spread_codes(nearest, residual, model.codebooks[-1].codes)
        figures |= {
            "moved_share": float((codes[:, -1] != nearest[:, -1]).mean()),
            "collision_rate_nearest": collision_rate(nearest),
        }
    every = neighbor_step(len(data))
    error, reconstruction = _reconstructed(
        model, data, torch.from_numpy(codes).to(data.device), every
    )
    copies = torch.unique(data, dim=0, return_counts=True)[1]
    quality = codes_quality(codes, model.codebook_sizes)
    quality |= {
        "equal_embeddings": 1.0 - len(copies) / len(data),
        "reconstruction_error": error,
        "neighbor_recall": neighbor_recall(
            data[::every].cpu().numpy(), reconstruction.cpu().numpy()
        ),
        **figures,
    }
    check_collapse(quality, float(copies.max()) / len(data))
    return FitResult(model, codes, quality)
