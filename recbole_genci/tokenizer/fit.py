"""Training the RQ-VAE: a plain autoencoder first, residual k-means on all items, then codes and network together."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from logging import getLogger
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from recbole_genci.tokenizer.quality import codes_quality, collision_rate, neighbor_recall
from recbole_genci.tokenizer.quantize import balanced_codes, draw_rows, nearest_code, residual_kmeans
from recbole_genci.tokenizer.rqvae import RQVAE, QuantizeOutput

_PRETRAIN_SHARE = 0.25  # of the epochs, spent on the plain autoencoder: k-means then starts on latents that mean much
_EMA_DECAY = 0.95
_MIN_ITEMS_PER_CODE = 4  # a small catalogue gets fewer codes, else its cohorts would be single items
_MIN_STEPS = 4  # per epoch; smaller batches where the catalogue needs them
_COLLAPSED_SHARE = 0.5  # a level with a larger cohort has collapsed
_GUARDED_CODES = 8  # levels smaller than this may rightly have a large cohort
_CHUNK = 1 << 15


class FitResult(NamedTuple):
    """What `fit_rqvae` returns.

    Attributes:
        model: the trained RQ-VAE of the best epoch, in eval mode.
        codes: ``[I, num_codebooks]`` int64, 0-based.
        quality: collision rate, reconstruction error, and use and balance of every level.
    """

    model: RQVAE
    codes: np.ndarray
    quality: dict[str, Any]


@torch.no_grad()
def _encode_all(model: RQVAE, data: Tensor) -> tuple[Tensor, QuantizeOutput, float]:
    """``(reconstruction [I, D], quantiser output, error as a share of the variance)`` over all items."""
    latent = torch.cat([model.encode(rows) for rows in data.split(_CHUNK)])
    output = model.quantize(latent)
    reconstruction = torch.cat([model.decode(rows) for rows in output.quantized.split(_CHUNK)])
    variance = (data - model.input_mean).square().sum().clamp_min(1e-12)
    error = float((reconstruction - data).square().sum() / variance)
    return reconstruction, output, error


def _restart_dead_codes(model: RQVAE, output: QuantizeOutput, generator: torch.Generator) -> None:
    """Move codes that no item uses onto residuals their level serves badly, drawn by squared error."""
    for level, book in enumerate(model.codebooks):
        index, residual = output.codes[:, level], output.residuals[:, level]
        dead = torch.nonzero(torch.bincount(index, minlength=len(book.codes)) == 0).flatten()
        if len(dead) == 0:
            continue
        _, error = nearest_code(residual, book.codes)
        rows = draw_rows(error, len(dead), generator).to(residual.device)
        book.set_codes(dead[: len(rows)], residual[rows])


def _guard(finite: bool, stage: str, epoch: int, figures: str) -> None:
    if not finite:
        raise FloatingPointError(
            f"RQ-VAE training stopped: the loss is not finite in {stage} epoch {epoch} ({figures}). Lower "
            f"`rqvae_learning_rate`, and check the item embeddings for outliers."
        )


def _check_collapse(quality: dict[str, Any], data: Tensor) -> None:
    """Stop on a level that piles most items into one code, unless those items really have equal embeddings."""
    equal_share = float(torch.unique(data, dim=0, return_counts=True)[1].max()) / len(data)
    if equal_share > _COLLAPSED_SHARE:
        getLogger().warning(
            f"{equal_share:.1%} of the items have the same text embedding and must share their codes; cohorts will "
            f"say little about them. Choose richer `item_text_fields`."
        )
    for number, level in enumerate(quality["levels"], start=1):
        limit = max(_COLLAPSED_SHARE, equal_share + 0.1)
        if level["codes"] >= _GUARDED_CODES and level["largest_share"] > limit:
            raise RuntimeError(
                f"The semantic IDs collapsed: level {number} puts {level['largest_share']:.1%} of {quality['items']} "
                f"items into one code ({level['used']} of {level['codes']} codes used, collision rate "
                f"{quality['collision_rate']:.1%}), so that its cohorts carry no information. Lower `codebook_size` "
                f"or `rqvae_learning_rate`, raise `rqvae_epochs`, or choose another `text_encoder`."
            )


def _capped_size(data: Tensor, codebook_size: int) -> int:
    distinct = len(torch.unique(data, dim=0))
    size = min(codebook_size, max(distinct // _MIN_ITEMS_PER_CODE, min(distinct, 2)))
    if size < codebook_size:
        getLogger().info(
            f"Codebooks capped at {size} codes instead of {codebook_size}: the catalogue has {distinct} distinct "
            f"embeddings, and a cohort should hold {_MIN_ITEMS_PER_CODE} items."
        )
    return size


def fit_rqvae(
    embeddings: np.ndarray,
    *,
    num_codebooks: int = 3,
    codebook_size: int = 256,
    latent_dim: int = 32,
    hidden_size: Sequence[int] = (128, 64),
    epochs: int = 200,
    learning_rate: float = 1e-3,
    batch_size: int = 1024,
    commitment: float = 0.25,
    seed: int = 2020,
    device: str = "cpu",
    show_progress: bool = False,
) -> FitResult:
    """Train an RQ-VAE on all items and return their codes.

    The best epoch is the one with the fewest collisions (in whole per cent), then the smallest reconstruction error.
    Everything random comes from a generator of ``seed``: the global random state stays as it is, and the same seed
    gives the same codes.

    Args:
        embeddings: ``[I, D]`` float, finite.
        num_codebooks: L, quantiser levels (without the collision digit).
        codebook_size: K codes per level; capped for small catalogues, with a log line.
        latent_dim: d, width of the codes.
        hidden_size: widths between D and d.
        epochs: passes over all items, a quarter of them for the plain autoencoder.
        learning_rate: Adam's.
        batch_size: items per step, less where an epoch would have fewer than four steps.
        commitment: weight of the commitment losses beside the reconstruction loss.
        seed: see above.
        device: where training runs.
        show_progress: show a progress bar over the epochs.

    Raises:
        ValueError: embeddings that are not ``[I >= 1, D]`` or not finite.
        FloatingPointError: the loss became NaN or infinite.
        RuntimeError: a level collapsed into one large cohort.
    """
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2 or 0 in embeddings.shape or not np.isfinite(embeddings).all():
        raise ValueError(
            f"The RQ-VAE needs finite embeddings [I, D] of at least one item; it was given shape {embeddings.shape}"
            f"{'' if np.isfinite(embeddings).all() else ' with values that are not finite'}."
        )
    if epochs < 1:
        raise ValueError(f"The RQ-VAE needs at least one epoch; `rqvae_epochs` is {epochs}.")
    generator = torch.Generator().manual_seed(seed)
    data = torch.from_numpy(embeddings).to(device)
    size = _capped_size(data, codebook_size)
    # nn.Linear draws from the global state as it is built; the draws are undone, then replaced by our own.
    with torch.random.fork_rng(devices=[]):
        model = RQVAE(data.shape[1], [size] * num_codebooks, latent_dim, hidden_size)
    model.reset_parameters(generator)
    model.to(device)
    model.set_input_statistics(data)

    def batches() -> tuple[Tensor, ...]:
        return data[torch.randperm(len(data), generator=generator).to(data.device)].split(batch_size)

    # A small catalogue would else fit into one step an epoch, and the network would hardly train.
    batch_size = max(1, min(batch_size, -(-len(data) // _MIN_STEPS)))
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    pretrain_epochs = int(epochs * _PRETRAIN_SHARE)
    progress = tqdm(range(epochs), desc="RQ-VAE", disable=not show_progress)
    best: tuple[tuple[float, float], int, dict[str, Tensor]] | None = None
    for epoch in progress:
        if epoch < pretrain_epochs:
            for rows in batches():
                loss = model.reconstruction_loss(model.decode(model.encode(rows)), rows)
                _guard(bool(torch.isfinite(loss)), "autoencoder", epoch, f"reconstruction {loss.item():.4g}")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            continue
        if not model.initted:
            with torch.no_grad():
                latent = torch.cat([model.encode(rows) for rows in data.split(_CHUNK)])
            model.init_codebooks(residual_kmeans(latent, num_codebooks, size, generator))
        else:
            for rows in batches():
                output = model(rows)
                loss = output.reconstruction_loss + commitment * output.commitment.sum()
                figures = f"reconstruction {output.reconstruction_loss.item():.4g}, commitment per level "
                figures += ", ".join(f"{value:.4g}" for value in output.commitment.tolist())
                _guard(bool(torch.isfinite(loss)), "quantiser", epoch, figures)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                for level, book in enumerate(model.codebooks):
                    # Towards a balanced assignment, as at the start, so that cohorts stay of similar size.
                    residual = output.residuals[:, level]
                    book.update(residual, balanced_codes(residual, book.codes), _EMA_DECAY)
        _, quantized, error = _encode_all(model, data)
        _guard(bool(np.isfinite(error)), "quantiser", epoch, f"reconstruction error {error}")
        # In whole per cent: one pair of items more or less must not outweigh a much better reconstruction.
        score = (round(collision_rate(quantized.codes.cpu().numpy()), 2), error)
        if best is None or score < best[0]:
            best = (score, epoch, copy.deepcopy(model.state_dict()))
        progress.set_postfix(collisions=f"{score[0]:.0%}", error=f"{error:.4f}")
        _restart_dead_codes(model, quantized, generator)

    model.load_state_dict(best[2])
    model.eval()
    reconstruction, quantized, error = _encode_all(model, data)
    codes = quantized.codes.cpu().numpy()
    quality = codes_quality(codes, model.codebook_sizes)
    quality |= {
        "reconstruction_error": error,
        "neighbor_recall": neighbor_recall(embeddings, reconstruction.cpu().numpy()),
        "best_epoch": best[1],
    }
    _check_collapse(quality, data)
    return FitResult(model, codes, quality)
