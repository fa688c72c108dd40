"""Train the RQ-VAE: first a plain autoencoder, then residual k-means, then codes and network."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_genci.tokenizer.progress import SILENT, BuildProgress
from recbole_genci.tokenizer.quantization.codebook import QuantizeOutput
from recbole_genci.tokenizer.quantization.fit_result import (
    FitResult,
    capped_size,
    check_error,
    check_start,
    checked_embeddings,
    encode_all,
    in_ordinary_units,
    outcome,
)
from recbole_genci.tokenizer.quantization.quality import codes_quality, is_balanced
from recbole_genci.tokenizer.quantization.residual_kmeans import (
    balanced_codes,
    draw_rows,
    nearest_code,
    residual_kmeans,
)
from recbole_genci.tokenizer.quantization.rqvae import RQVAE, RQVAEOutput
from recbole_genci.tokenizer.scale import is_large

# Share of the epochs for the plain autoencoder, so that k-means starts on meaningful latents.
_PRETRAIN_SHARE = 0.25
_EMA_DECAY = 0.95
_MIN_STEPS = 4  # per epoch; a small catalogue gets smaller batches
_CHUNK = 1 << 15
# Epochs from one candidate for the best to the next: encoding all items takes a third of an epoch.
_CANDIDATE_EVERY, _CANDIDATE_EVERY_IF_LARGE = 1, 5


@torch.no_grad()
def _restart_dead_codes(
    model: RQVAE,
    output: QuantizeOutput,
    generator: torch.Generator,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Move unused codes onto badly served residuals of their level, drawn by squared error."""
    for level, book in enumerate(model.codebooks):
        index, residual = output.codes[:, level], output.residuals[:, level]
        dead = torch.nonzero(torch.bincount(index, minlength=len(book.codes)) == 0).flatten()
        if len(dead) == 0:
            continue
        _, error = nearest_code(residual, book.codes)
        rows = draw_rows(error, len(dead), generator).to(residual.device)
        dead = dead[: len(rows)]
        book.set_codes(dead, residual[rows])
        # A learned code also loses its moments.
        for name, moment in optimizer.state.get(book.codes, {}).items():
            if name in ("exp_avg", "exp_avg_sq"):
                moment[dead] = 0


def _guard(finite: bool, stage: str, epoch: int, figures: str) -> None:
    if not finite:
        raise FloatingPointError(
            f"RQ-VAE training stopped: the loss is not finite in {stage} epoch {epoch} "
            f"({figures}). Lower `rqvae_learning_rate`, and check the item embeddings for outliers."
        )


def _score(codes: Tensor, sizes: Sequence[int], error: float) -> tuple[int, float, float]:
    """Unbalanced levels, collisions in whole per cent, reconstruction error; smaller is better.

    Collisions are rounded, so that a single pair does not outweigh a much better reconstruction.
    """
    quality = codes_quality(codes.cpu().numpy(), sizes)
    return (
        sum(not is_balanced(level) for level in quality["levels"]),
        round(quality["collision_rate"], 2),
        error,
    )


def _codebook_targets(model: RQVAE, output: RQVAEOutput, balance: bool, fast: bool) -> list[Tensor]:
    """The code ``[B]`` of each level that a residual trains: by a balanced assignment, or the
    nearest.

    With fewer rows than codes, as in a short last batch, it is the nearest, because any assignment
    is then balanced.
    """
    return [
        balanced_codes(output.residuals[:, level], book.codes.detach(), fast)
        if balance and len(output.codes) >= len(book.codes)
        else output.codes[:, level]
        for level, book in enumerate(model.codebooks)
    ]


def _pretrain(
    model: RQVAE,
    batches: Callable[[], tuple[Tensor, ...]],
    optimizer: torch.optim.Optimizer,
    epochs: int,
    progress: BuildProgress,
) -> None:
    """Train the autoencoder without codes."""
    progress.stage(f"the autoencoder alone, {epochs} epochs")
    with progress.steps(epochs) as steps:
        for epoch in range(epochs):
            for rows in batches():
                loss = model.reconstruction_loss(model.decode(model.encode(rows)), rows)
                _guard(
                    bool(torch.isfinite(loss)),
                    "autoencoder",
                    epoch,
                    f"reconstruction {loss.item():.4g}",
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            steps.advance()


def _train_step(
    model: RQVAE,
    rows: Tensor,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    commitment: float,
    balance: bool,
    fast: bool,
) -> None:
    """One step of network and codes on a batch ``[B, D]``."""
    output = model(rows)
    loss = output.reconstruction_loss + commitment * output.commitment.sum()
    figures = f"reconstruction {output.reconstruction_loss.item():.4g}, commitment per level "
    figures += ", ".join(f"{value:.4g}" for value in output.commitment.tolist())
    _guard(bool(torch.isfinite(loss)), "quantiser", epoch, figures)
    targets = _codebook_targets(model, output, balance, fast)
    levels = list(zip(model.codebooks, output.residuals.unbind(dim=1), targets, strict=True))
    if model.learned_codes:
        loss = loss + sum(book.loss(residual, index) for book, residual, index in levels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if not model.learned_codes:
        for book, residual, index in levels:
            book.update(residual, index, _EMA_DECAY, fast)


def rqvae_stages(epochs: int) -> int:
    """The number of stages of `fit_rqvae`: the plain autoencoder if it has epochs, k-means, codes
    and network, quality.
    """
    return 3 + (int(epochs * _PRETRAIN_SHARE) > 0)


def fit_rqvae(
    embeddings: np.ndarray,
    *,
    num_codebooks: int = 3,
    codebook_size: int = 256,
    latent_dim: int = 32,
    hidden_size: Sequence[int] = (128, 64),
    epochs: int = 300,
    learning_rate: float = 1e-3,
    batch_size: int = 1024,
    commitment: float = 0.25,
    codebook_update: str = "ema",
    balance: str = "sinkhorn",
    spread: bool = False,
    seed: int = 2020,
    device: str = "cpu",
    progress: BuildProgress = SILENT,
) -> FitResult:
    """Train an RQ-VAE on all items and return their codes.

    The best epoch is the one with the fewest unbalanced levels, then the fewest collisions (in
    whole per cent), then the smallest reconstruction error; of a large catalogue (`scale.is_large`)
    every fifth is looked at. All randomness comes from ``seed``: the
    global random state does not change, and the same seed and number of threads give the same
    codes.

    Args:
        embeddings: ``[I, D]`` float, finite.
        num_codebooks: L, quantiser levels (without the collision digit).
        codebook_size: K codes per level; fewer for a small catalogue, with a log line.
        latent_dim: d, width of the codes.
        hidden_size: widths between D and d.
        epochs: passes over all items, a quarter of them for the plain autoencoder.
        learning_rate: learning rate of Adam.
        batch_size: items per step; fewer if an epoch would have fewer than four steps.
        commitment: weight of the commitment losses beside the reconstruction loss.
        codebook_update: ``ema``, or ``gradient`` of the squared distance to a code's residuals.
        balance: with ``sinkhorn`` codes learn from a balanced assignment of the items, at the start
            and in training; with ``nearest`` as in plain k-means. The final codes are always those
            of Eq. 3.
        spread: see `spread.spread_codes`.
        seed: see above.
        device: where training runs.
        progress: receives `rqvae_stages` stages and their epochs.

    Raises:
        ValueError: embeddings are not ``[I >= 1, D]`` or not finite.
        FloatingPointError: the loss became NaN or infinite.
        RuntimeError: a level collapsed into one large cohort, or training diverged without becoming
            infinite.
    """
    embeddings, exponent = in_ordinary_units(checked_embeddings(embeddings))
    if epochs < 1:
        raise ValueError(f"The RQ-VAE needs at least one epoch; `rqvae_epochs` is {epochs}.")
    generator = torch.Generator().manual_seed(seed)
    data = torch.from_numpy(embeddings).to(device)
    large = is_large(len(data))
    size = capped_size(data, codebook_size)
    model = _initial_model(
        data, [size] * num_codebooks, latent_dim, hidden_size, codebook_update, generator
    )
    batches = _shuffled_batches(data, batch_size, generator)
    optimizer = torch.optim.Adam(
        [*model.encoder.parameters(), *model.decoder.parameters()], lr=learning_rate
    )
    pretrain_epochs = int(epochs * _PRETRAIN_SHARE)
    if pretrain_epochs:
        _pretrain(model, batches, optimizer, pretrain_epochs, progress)
    _start_codebooks(model, data, size, generator, balance == "sinkhorn", progress)
    if model.learned_codes:
        optimizer.add_param_group({"params": list(model.codebooks.parameters())})
    train_step = functools.partial(
        _train_step,
        model,
        optimizer=optimizer,
        commitment=commitment,
        balance=balance == "sinkhorn",
        fast=large,
    )
    best = _train_together(
        model,
        data,
        batches,
        range(pretrain_epochs, epochs),
        train_step,
        lambda output: _restart_dead_codes(model, output, generator, optimizer),
        progress,
        _CANDIDATE_EVERY_IF_LARGE if large else _CANDIDATE_EVERY,
    )
    model.load_state_dict(best.state)
    progress.stage("quality of the codes")
    fitted = outcome(model, data, spread, best_epoch=best.epoch)
    check_error(best.error, model, data)  # the error of the nearest codes, before spreading
    model.multiply_inputs(2.0**exponent)
    return fitted


def _initial_model(
    data: Tensor,
    sizes: Sequence[int],
    latent_dim: int,
    hidden_size: Sequence[int],
    codebook_update: str,
    generator: torch.Generator,
) -> RQVAE:
    """The network before its first step, with the input's mean and scale."""
    # nn.Linear draws from the global random state, which is restored; our own draws follow.
    with torch.random.fork_rng(devices=[]):
        model = RQVAE(
            data.shape[1], list(sizes), latent_dim, hidden_size, codebook_update == "gradient"
        )
    model.reset_parameters(generator)
    model.to(data.device)
    model.set_input_statistics(data)
    return model


def _shuffled_batches(
    data: Tensor, batch_size: int, generator: torch.Generator
) -> Callable[[], tuple[Tensor, ...]]:
    """A function that gives one epoch's batches, in a new order with each call."""
    # Otherwise a small catalogue would have one step per epoch, and the network would hardly train.
    batch_size = max(1, min(batch_size, -(-len(data) // _MIN_STEPS)))

    def batches() -> tuple[Tensor, ...]:
        order = torch.randperm(len(data), generator=generator)
        return data[order.to(data.device)].split(batch_size)

    return batches


def _start_codebooks(
    model: RQVAE,
    data: Tensor,
    size: int,
    generator: torch.Generator,
    balance: bool,
    progress: BuildProgress,
) -> None:
    """Initialise the codes by residual k-means on the latents of all items."""
    num_codebooks = len(model.codebooks)
    progress.stage(f"k-means of {len(data):,} items, the start of {num_codebooks} codebooks")
    with torch.no_grad():
        latent = torch.cat([model.encode(rows) for rows in data.split(_CHUNK)])
    model.init_codebooks(residual_kmeans(latent, num_codebooks, size, generator, balance, progress))
    check_start(model, data, size)


@dataclass(frozen=True)
class _Best:
    """The best epoch so far: its score as of `_score`, its number and its weights."""

    score: tuple[int, float, float]
    epoch: int
    state: dict[str, Any]

    @property
    def error(self) -> float:
        return self.score[2]


def _train_together(
    model: RQVAE,
    data: Tensor,
    batches: Callable[[], tuple[Tensor, ...]],
    epochs: range,
    train_step: Callable[..., None],
    restart_dead_codes: Callable[[QuantizeOutput], None],
    progress: BuildProgress,
    every: int,
) -> _Best:
    """Train codes and network; the best epoch, of which the start is the first candidate.

    Each ``every``-th epoch and the last are candidates, after which dead codes restart.
    """
    progress.stage(f"codes and autoencoder together, {len(epochs)} epochs")
    best = None
    with progress.steps(len(epochs)) as steps:
        for epoch in epochs:
            if epoch > epochs.start:
                for rows in batches():
                    train_step(rows, epoch=epoch)
            if (epoch - epochs.start) % every and epoch != epochs[-1]:
                steps.advance()
                continue
            quantized, error = encode_all(model, data)
            _guard(bool(np.isfinite(error)), "quantiser", epoch, f"reconstruction error {error}")
            score = _score(quantized.codes, model.codebook_sizes, error)
            if best is None or score < best.score:
                best = _Best(score, epoch, copy.deepcopy(model.state_dict()))
            steps.advance(collisions=f"{score[1]:.0%}", error=f"{error:.4f}")
            restart_dead_codes(quantized)
    assert best is not None  # epochs is at least one: a quarter of it is never all
    return best
