"""The levels of a residual quantiser as a module, which RQ-VAE and residual k-means share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recbole_genci.tokenizer.quantization.residual_kmeans import cluster_sums, nearest_code

_UNUSED = 1e-6  # average rows per step below which a code counts as unused


class QuantizeOutput(NamedTuple):
    """The output of a residual quantiser for a batch of latents.

    Attributes:
        quantized: ``[B, d]`` sum of the chosen codes; no gradient.
        codes: ``[B, L]`` int64, 0-based.
        residuals: ``[B, L, d]`` input of each level, with the encoder's gradient.
        commitment: ``[L]`` squared distance of the residual to its detached code, mean over the
            batch.
    """

    quantized: Tensor
    codes: Tensor
    residuals: Tensor
    commitment: Tensor


class Codebook(nn.Module):
    """The codes of one level.

    Args:
        num_codes: K.
        dim: d.
        learned: whether codes are a parameter that gradients move; else they are a buffer that
            ``update`` moves (EMA). In both cases the state dict holds all state.
    """

    codes: Tensor
    ema_count: Tensor
    ema_sum: Tensor

    def __init__(self, num_codes: int, dim: int, learned: bool = False):
        super().__init__()
        codes = torch.zeros(num_codes, dim)
        if learned:
            self.codes = nn.Parameter(codes)
        else:
            self.register_buffer("codes", codes)
            self.register_buffer("ema_count", torch.ones(num_codes))
            self.register_buffer("ema_sum", torch.zeros(num_codes, dim))

    @property
    def learned(self) -> bool:
        """Whether gradients move the codes."""
        return isinstance(self.codes, nn.Parameter)

    @torch.no_grad()
    def set_codes(self, index: Tensor | slice, vectors: Tensor) -> None:
        """Set codes to ``vectors``, and reset their averages."""
        self.codes[index] = vectors
        if not self.learned:
            self.ema_sum[index] = vectors
            self.ema_count[index] = 1.0

    @torch.no_grad()
    def update(self, residual: Tensor, index: Tensor, decay: float, fast: bool = False) -> None:
        """EMA step towards the mean of the residuals ``[B, d]`` assigned to each code by ``index
        [B]``; ``fast`` as in `residual_kmeans.cluster_sums`.
        """
        count, total = cluster_sums(residual, index, len(self.codes), fast)
        self.ema_count.mul_(decay).add_(count, alpha=1 - decay)
        self.ema_sum.mul_(decay).add_(total, alpha=1 - decay)
        # A code that was unused for long keeps its place, as both averages have shrunk to nothing.
        mean = self.ema_sum / self.ema_count.clamp_min(_UNUSED)[:, None]
        self.codes.copy_(torch.where((self.ema_count > _UNUSED)[:, None], mean, self.codes))

    def loss(self, residual: Tensor, index: Tensor) -> Tensor:
        """Squared distance of learned codes to their detached residuals ``[B, d]``."""
        return (residual.detach() - self.codes[index]).square().sum(dim=1).mean()


class ResidualQuantizer(nn.Module):
    """Codebooks level by level (Eq. 3) between ``encode`` and ``decode``, which subclasses extend.

    Args:
        input_dim: D, width of the item embeddings.
        codebook_sizes: codes per level, one entry a level.
        latent_dim: d, width of latents and codes.
        learned_codes: see `Codebook`.
    """

    codebooks: Any  # ModuleList of Codebook: torch knows its elements as Module alone
    input_mean: Tensor
    input_scale: Tensor
    initted: Tensor

    def __init__(
        self,
        input_dim: int,
        codebook_sizes: Sequence[int],
        latent_dim: int,
        learned_codes: bool = False,
    ):
        super().__init__()
        if min(input_dim, latent_dim) < 1 or not codebook_sizes or min(codebook_sizes) < 1:
            raise ValueError(
                "A residual quantiser needs positive widths and at least one codebook: widths "
                f"{input_dim} and {latent_dim}, codebooks {list(codebook_sizes)}. See the keys "
                "`codebook_dim` and `codebook_size`."
            )
        self.learned_codes = learned_codes
        self.codebooks = nn.ModuleList(
            Codebook(size, latent_dim, learned_codes) for size in codebook_sizes
        )
        # Inputs are centred and scaled, so that loss and learning rate mean the same for any
        # encoder.
        self.register_buffer("input_mean", torch.zeros(input_dim))
        self.register_buffer("input_scale", torch.ones(()))
        # A buffer, so that a loaded state tells that its codebooks are set.
        self.register_buffer("initted", torch.tensor(False))

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes per level."""
        return tuple(len(book.codes) for book in self.codebooks)

    @torch.no_grad()
    def set_input_statistics(self, embeddings: Tensor) -> None:
        """Centre and scale inputs by the mean and the overall standard deviation of ``embeddings
        [I, D]``.
        """
        self.input_mean.copy_(embeddings.mean(dim=0))
        spread = (embeddings - self.input_mean).square().mean().sqrt()
        # Rounding gives identical rows a tiny spread, which must not be scaled up to 1.
        self.input_scale.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    @torch.no_grad()
    def multiply_inputs(self, factor: float) -> None:
        """Read inputs that are ``factor`` times those so far, with the same codes."""
        self.input_mean.mul_(factor)
        self.input_scale.mul_(factor)

    def init_codebooks(self, codebooks: Sequence[Tensor]) -> None:
        """Set every level to one of ``codebooks``, each ``[K_n, d]``, from residual k-means.

        K_n may be smaller than the size of the level.
        """
        if len(codebooks) != len(self.codebooks):
            raise ValueError(
                f"{len(codebooks)} codebooks for {len(self.codebooks)} levels; give one per level."
            )
        for level, vectors in enumerate(codebooks):
            book = Codebook(len(vectors), vectors.shape[1], self.learned_codes).to(vectors.device)
            book.set_codes(slice(None), vectors)
            self.codebooks[level] = book
        self.initted.fill_(True)

    def encode(self, embeddings: Tensor) -> Tensor:
        """Latents ``[B, d]`` of raw embeddings ``[B, D]``: here only centred and scaled."""
        return (embeddings - self.input_mean) / self.input_scale

    def decode(self, latent: Tensor) -> Tensor:
        """Embeddings ``[B, D]``, in input units, of latents ``[B, d]``."""
        return latent * self.input_scale + self.input_mean

    def quantize(self, latent: Tensor) -> QuantizeOutput:
        """Eq. 3 with one commitment loss per level."""
        if not self.initted:
            raise RuntimeError(
                "The codebooks are not set: call init_codebooks (residual k-means) or load a state."
            )
        residual, quantized = latent, torch.zeros_like(latent)
        codes, residuals, commitment = [], [], []
        for book in self.codebooks:
            index, _ = nearest_code(residual.detach(), book.codes.detach())
            code = book.codes[index].detach()
            codes.append(index)
            residuals.append(residual)
            commitment.append((residual - code).square().sum(dim=1).mean())
            quantized = quantized + code
            # Subtract the detached code, not the straight-through one: else later levels would send
            # the encoder no gradient.
            residual = residual - code
        return QuantizeOutput(
            quantized,
            torch.stack(codes, dim=1),
            torch.stack(residuals, dim=1),
            torch.stack(commitment),
        )
