"""What every quantiser hands over: model, codes, and figures that say whether the codes are worth
using.
"""

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

_MIN_ITEMS_PER_CODE = (
    4  # a small catalogue gets fewer codes, else its cohorts would be single items
)
_COLLAPSED_SHARE = 0.5  # a level with a larger cohort has collapsed
_GUARDED_CODES = 8  # levels smaller than this may rightly have a large cohort
_ROUNDING = (
    4  # decimal places, in units of the embeddings' spread, to which equal embeddings may differ
)
_DOUBTFUL_ERROR, _DIVERGED_ERROR = (
    1.1,
    10.0,
)  # of the variance; decoding every item to the mean gives 1
_CHUNK = 1 << 15
_REMEDY = (
    "Set `codebook_balance: sinkhorn`, lower `codebook_size`, or choose another `text_encoder`"
)
_RQVAE_REMEDY = "with `quantizer: rqvae` also lower `rqvae_learning_rate` or raise `rqvae_epochs`"


class FitResult(NamedTuple):
    """What a quantiser's fit returns.

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
        ValueError: another shape, or values that are not finite.
    """
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2 or 0 in embeddings.shape or not np.isfinite(embeddings).all():
        raise ValueError(
            "The quantiser needs finite embeddings [I, D] of at least one item; it was given "
            f"shape {embeddings.shape}"
            f"{'' if np.isfinite(embeddings).all() else ' with values that are not finite'}."
        )
    return embeddings


def capped_size(data: Tensor, codebook_size: int) -> int:
    """Codes per level that the catalogue ``[I, D]`` can fill, at most ``codebook_size``; a cap is
    logged.
    """
    distinct = len(torch.unique(data, dim=0))
    size = min(codebook_size, max(distinct // _MIN_ITEMS_PER_CODE, min(distinct, 2)))
    if size < codebook_size:
        _logger.info(
            f"Codebooks capped at {size} codes instead of {codebook_size}: the catalogue has "
            f"{distinct} distinct "
            f"embeddings, and a cohort should hold {_MIN_ITEMS_PER_CODE} items."
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
    """Stop where k-means found fewer places for level 1 than ``size``, which `capped_size` says the
    embeddings have.

    Raises:
        RuntimeError: the network gives different embeddings one latent.
    """
    found, distinct = model.codebook_sizes[0], really_distinct(model, data)
    if found < size <= distinct:
        raise RuntimeError(
            f"The semantic IDs collapsed: the network puts the {distinct} different embeddings of "
            f"{len(data)} items in "
            f"{found} place{'' if found == 1 else 's'}, too few for {size} codes, so that cohorts "
            "carry no information. "
            f"{_REMEDY}; {_RQVAE_REMEDY}."
        )


def check_error(error: float, model: ResidualQuantizer, data: Tensor) -> None:
    """Stop or warn where a network's reconstruction error, as a share of the variance, is beyond
    that of the mean.

    Raises:
        RuntimeError: training diverged.
    """
    if (
        error <= _DOUBTFUL_ERROR or really_distinct(model, data) < 2
    ):  # equal embeddings have no variance to compare with
        return
    told = (
        f"the reconstruction error of the RQ-VAE is {error:.4g} of the embeddings' variance, where "
        "giving every item the "
        f"mean embedding would be 1. Lower `rqvae_learning_rate`, or raise `rqvae_epochs`"
    )
    if error > _DIVERGED_ERROR:
        raise RuntimeError(f"RQ-VAE training diverged: {told}.")
    _logger.warning(f"The semantic IDs say little about the items: {told}.")


def check_collapse(quality: dict[str, Any], data: Tensor) -> None:
    """Stop on a level that piles most items into one code, unless those items really have equal
    embeddings.

    Raises:
        RuntimeError: a level collapsed; its figures are named.
    """
    equal_share = float(torch.unique(data, dim=0, return_counts=True)[1].max()) / len(data)
    if equal_share > _COLLAPSED_SHARE:
        _logger.warning(
            f"{equal_share:.1%} of the items have the same text embedding and must share their "
            "codes; cohorts will "
            f"say little about them. Choose richer `item_text_fields`."
        )
    for number, level in enumerate(quality["levels"], start=1):
        limit = max(_COLLAPSED_SHARE, equal_share + 0.1)
        if level["codes"] >= _GUARDED_CODES and level["largest_share"] > limit:
            raise RuntimeError(
                f"The semantic IDs collapsed: level {number} puts {level['largest_share']:.1%} of "
                f"{quality['items']} "
                f"items into one code ({level['used']} of {level['codes']} codes used, collision "
                "rate "
                f"{quality['collision_rate']:.1%}), so that its cohorts carry no information. "
                f"{_REMEDY}; {_RQVAE_REMEDY}."
            )
        if level["codes"] >= _GUARDED_CODES and not is_balanced(level):
            _logger.warning(
                f"Level {number} of the semantic IDs is unbalanced: perplexity "
                f"{level['perplexity']:.1f} of "
                f"{level['codes']} codes, {level['largest_share']:.1%} of the items in one. "
                f"{_REMEDY}."
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
