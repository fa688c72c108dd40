"""Train the RQ-VAE: first a plain autoencoder, then residual k-means, then codes and network."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_genci.tokenizer.progress import SILENT, BuildProgress, Steps
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
from recbole_genci.tokenizer.quantization.options import RQVAEOptions
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


def _initial_model(
    data: Tensor, sizes: Sequence[int], options: RQVAEOptions, generator: torch.Generator
) -> RQVAE:
    """The network before its first step, with the input's mean and scale."""
    # nn.Linear draws from the global random state, which is restored; our own draws follow.
    with torch.random.fork_rng(devices=[]):
        model = RQVAE(
            data.shape[1],
            sizes,
            options.codebook_dim,
            options.rqvae_hidden_size,
            options.codebook_update == "gradient",
        )
    model.reset_parameters(generator)
    model.to(data.device)
    model.set_input_statistics(data)
    return model


@dataclass(frozen=True)
class _Best:
    """The best epoch so far: its score as of `_score`, its number and its weights."""

    score: tuple[int, float, float]
    epoch: int
    state: dict[str, Any]

    @property
    def error(self) -> float:
        return self.score[2]


class _Training:
    """One training of an RQ-VAE, whose methods are called in their order.

    Args:
        data: ``[I, D]`` embeddings of all items, on the device of the training.
        options: how it is fitted.
        progress: receives a stage for each method.
    """

    def __init__(self, data: Tensor, options: RQVAEOptions, progress: BuildProgress) -> None:
        self.data, self.options, self.progress = data, options, progress
        self.generator = torch.Generator().manual_seed(options.tokenizer_seed)
        self.is_large = is_large(len(data))
        self.size = capped_size(data, options.codebook_size)
        self.model = _initial_model(
            data, [self.size] * options.num_codebooks, options, self.generator
        )
        self.optimizer = torch.optim.Adam(
            [*self.model.encoder.parameters(), *self.model.decoder.parameters()],
            lr=options.rqvae_learning_rate,
        )

    def pretrain(self, epochs: int) -> None:
        """Train the autoencoder without codes."""
        self.progress.stage(f"the autoencoder alone, {epochs} epochs")
        with self.progress.steps(epochs) as steps:
            for epoch in range(epochs):
                for rows in self._batches():
                    decoded = self.model.decode(self.model.encode(rows))
                    loss = self.model.reconstruction_loss(decoded, rows)
                    figures = f"reconstruction {loss.item():.4g}"
                    _guard(bool(torch.isfinite(loss)), "autoencoder", epoch, figures)
                    self._descend(loss)
                steps.advance()

    def start_codebooks(self) -> None:
        """Initialise the codes by residual k-means on the latents of all items."""
        levels, model = len(self.model.codebooks), self.model
        self.progress.stage(f"k-means of {len(self.data):,} items, the start of {levels} codebooks")
        with torch.no_grad():
            latent = torch.cat([model.encode(rows) for rows in self.data.split(_CHUNK)])
        model.init_codebooks(
            residual_kmeans(
                latent, levels, self.size, self.generator, self.options.balance, self.progress
            )
        )
        check_start(model, self.data, self.size)
        if model.learned_codes:
            self.optimizer.add_param_group({"params": list(model.codebooks.parameters())})

    def train(self, epochs: range) -> _Best:
        """Train codes and network; the best epoch, of which the start is the first candidate.

        The last epoch is a candidate, and in a large catalogue every fifth, else each. After a
        candidate dead codes restart.
        """
        self.progress.stage(f"codes and autoencoder together, {len(epochs)} epochs")
        every = _CANDIDATE_EVERY_IF_LARGE if self.is_large else _CANDIDATE_EVERY
        best = None
        with self.progress.steps(len(epochs)) as steps:
            for epoch in epochs:
                if epoch > epochs.start:
                    for rows in self._batches():
                        self._step(rows, epoch)
                if (epoch - epochs.start) % every and epoch != epochs[-1]:
                    steps.advance()
                    continue
                quantized, best = self._better(best, epoch, steps)
                _restart_dead_codes(self.model, quantized, self.generator, self.optimizer)
        assert best is not None  # epochs is at least one: a quarter of it is never all
        return best

    def _better(self, best: _Best | None, epoch: int, steps: Steps) -> tuple[QuantizeOutput, _Best]:
        """The codes of all items now, and this epoch if it is better than ``best``, else that."""
        quantized, error = encode_all(self.model, self.data)
        _guard(bool(np.isfinite(error)), "quantiser", epoch, f"reconstruction error {error}")
        score = _score(quantized.codes, self.model.codebook_sizes, error)
        if best is None or score < best.score:
            best = _Best(score, epoch, copy.deepcopy(self.model.state_dict()))
        steps.advance(collisions=f"{score[1]:.0%}", error=f"{error:.4f}")
        return quantized, best

    def _batches(self) -> tuple[Tensor, ...]:
        """One epoch's batches, in a new order with each call."""
        items = len(self.data)
        # Else a small catalogue would have one step per epoch, and the network would hardly train.
        batch_size = max(1, min(self.options.rqvae_batch_size, -(-items // _MIN_STEPS)))
        order = torch.randperm(items, generator=self.generator)
        return self.data[order.to(self.data.device)].split(batch_size)

    def _step(self, rows: Tensor, epoch: int) -> None:
        """One step of network and codes on a batch ``[B, D]``."""
        model, output = self.model, self.model(rows)
        loss = output.reconstruction_loss + self.options.rqvae_commitment * output.commitment.sum()
        figures = f"reconstruction {output.reconstruction_loss.item():.4g}, commitment per level "
        figures += ", ".join(f"{value:.4g}" for value in output.commitment.tolist())
        _guard(bool(torch.isfinite(loss)), "quantiser", epoch, figures)
        targets = _codebook_targets(model, output, self.options.balance, self.is_large)
        levels = list(zip(model.codebooks, output.residuals.unbind(dim=1), targets, strict=True))
        if model.learned_codes:
            loss = loss + sum(book.loss(residual, index) for book, residual, index in levels)
        self._descend(loss)
        if not model.learned_codes:
            for book, residual, index in levels:
                book.update(residual, index, _EMA_DECAY, self.is_large)

    def _descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def _pretrain_epochs(epochs: int) -> int:
    return int(epochs * _PRETRAIN_SHARE)


def rqvae_stages(epochs: int) -> int:
    """The number of stages of `fit_rqvae`: the plain autoencoder if it has epochs, k-means, codes
    and network, quality.
    """
    return 3 + (_pretrain_epochs(epochs) > 0)


def fit_rqvae(
    embeddings: np.ndarray,
    options: RQVAEOptions,
    device: str = "cpu",
    progress: BuildProgress = SILENT,
) -> FitResult:
    """Train an RQ-VAE on all items and return their codes.

    The best epoch is the one with the fewest unbalanced levels, then the fewest collisions (in
    whole per cent), then the smallest reconstruction error; of a large catalogue (`scale.is_large`)
    every fifth is looked at. All randomness comes from ``tokenizer_seed``: the global random state
    does not change, and the same seed and number of threads give the same codes.

    Args:
        embeddings: ``[I, D]`` float, finite.
        options: network, codes and training.
        device: where training runs.
        progress: receives `rqvae_stages` stages and their epochs.

    Raises:
        ValueError: embeddings are not ``[I >= 1, D]`` or not finite.
        FloatingPointError: the loss became NaN or infinite.
        RuntimeError: a level collapsed into one large cohort, or training diverged without becoming
            infinite.
    """
    embeddings, exponent = in_ordinary_units(checked_embeddings(embeddings))
    epochs = options.rqvae_epochs
    if epochs < 1:
        raise ValueError(f"The RQ-VAE needs at least one epoch; `rqvae_epochs` is {epochs}.")
    data = torch.from_numpy(embeddings).to(device)
    training = _Training(data, options, progress)
    alone = _pretrain_epochs(epochs)
    if alone:
        training.pretrain(alone)
    training.start_codebooks()
    best, model = training.train(range(alone, epochs)), training.model
    model.load_state_dict(best.state)
    progress.stage("quality of the codes")
    fitted = outcome(model, data, options.spread_collisions, best_epoch=best.epoch)
    check_error(best.error, model, data)  # the error of the nearest codes, before spreading
    model.multiply_inputs(2.0**exponent)
    return fitted
