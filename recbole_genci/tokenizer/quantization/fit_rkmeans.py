"""Residual k-means on the embeddings themselves, without a network: the baseline of the RQ-VAE."""

from __future__ import annotations

import numpy as np
import torch

from recbole_genci.tokenizer.progress import SILENT, BuildProgress
from recbole_genci.tokenizer.quantization.codebook import ResidualQuantizer
from recbole_genci.tokenizer.quantization.fit_result import (
    FitResult,
    capped_size,
    checked_embeddings,
    in_ordinary_units,
    outcome,
)
from recbole_genci.tokenizer.quantization.options import QuantizerOptions
from recbole_genci.tokenizer.quantization.residual_kmeans import residual_kmeans

RKMEANS_STAGES = 2


def fit_rkmeans(
    embeddings: np.ndarray,
    options: QuantizerOptions,
    device: str = "cpu",
    progress: BuildProgress = SILENT,
) -> FitResult:
    """Fit codes level by level: k-means on the centred embeddings, then on each level's residuals.

    Args:
        embeddings: ``[I, D]`` float, finite.
        options: the codes, how they are found, and the seed of the first centres.
        device: where the clustering runs.
        progress: receives `RKMEANS_STAGES` stages, and the steps of k-means.

    Raises:
        ValueError: embeddings are not ``[I >= 1, D]`` or not finite.
        RuntimeError: a level collapsed into one large cohort.
    """
    embeddings, exponent = in_ordinary_units(checked_embeddings(embeddings))
    data = torch.from_numpy(embeddings).to(device)
    size = capped_size(data, options.codebook_size)
    num_codebooks = options.num_codebooks
    model = ResidualQuantizer(data.shape[1], [size] * num_codebooks, data.shape[1]).to(device)
    model.set_input_statistics(data)
    generator = torch.Generator().manual_seed(options.tokenizer_seed)
    progress.stage(f"residual k-means of {len(data):,} items, {num_codebooks} levels")
    latent = model.encode(data)
    model.init_codebooks(
        residual_kmeans(latent, num_codebooks, size, generator, options.balance, progress)
    )
    progress.stage("quality of the codes")
    fitted = outcome(model, data, options.spread_collisions)
    model.multiply_inputs(2.0**exponent)
    return fitted
