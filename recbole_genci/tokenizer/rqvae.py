"""RQ-VAE (Eq. 3; TIGER): an autoencoder whose latent is replaced by a sum of codes, one code per level.

Codebooks follow an exponential moving average (EMA) of the residuals they serve, rather than gradients: each code stays
the centre of a cohort, which is what k-means starts it as, there is no second learning rate to balance, and the update
can follow a balanced assignment (see `quantize.balanced_codes`), which gradients through the nearest code cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recbole_genci.tokenizer.quantize import cluster_sums, nearest_code

_UNUSED = 1e-6  # average rows per step below which a code counts as unused


class QuantizeOutput(NamedTuple):
    """What the residual quantiser says about a batch of latents.

    Attributes:
        quantized: ``[B, d]`` sum of the chosen codes; no gradient.
        codes: ``[B, L]`` int64, 0-based.
        residuals: ``[B, L, d]`` what each level was asked to quantise, with the encoder's gradient.
        commitment: ``[L]`` squared distance of the residual to its detached code, mean over the batch.
    """

    quantized: Tensor
    codes: Tensor
    residuals: Tensor
    commitment: Tensor


class RQVAEOutput(NamedTuple):
    """One forward pass.

    Attributes:
        reconstruction: ``[B, D]``, in the units of the input.
        reconstruction_loss: scalar, squared error summed over D, mean over the batch.
        codes: ``[B, L]`` int64, 0-based.
        commitment: ``[L]`` one loss per level, summed over d, mean over the batch.
        residuals: ``[B, L, d]`` detached, for the codebook update.
    """

    reconstruction: Tensor
    reconstruction_loss: Tensor
    codes: Tensor
    commitment: Tensor
    residuals: Tensor


class Codebook(nn.Module):
    """The codes of one level, moved by EMA; all its state is in buffers, so that it survives a reload."""

    def __init__(self, num_codes: int, dim: int):
        super().__init__()
        self.register_buffer("codes", torch.zeros(num_codes, dim))
        self.register_buffer("ema_count", torch.ones(num_codes))
        self.register_buffer("ema_sum", torch.zeros(num_codes, dim))

    @torch.no_grad()
    def set_codes(self, index: Tensor | slice, vectors: Tensor) -> None:
        """Place codes at the given vectors and forget their past."""
        self.codes[index] = vectors
        self.ema_sum[index] = vectors
        self.ema_count[index] = 1.0

    @torch.no_grad()
    def update(self, residual: Tensor, index: Tensor, decay: float) -> None:
        """EMA step towards the mean of the residuals ``[B, d]`` assigned to each code by ``index [B]``."""
        count, total = cluster_sums(residual, index, len(self.codes))
        self.ema_count.mul_(decay).add_(count, alpha=1 - decay)
        self.ema_sum.mul_(decay).add_(total, alpha=1 - decay)
        # Codes long unused keep their place: both averages have shrunk to nothing.
        mean = self.ema_sum / self.ema_count.clamp_min(_UNUSED)[:, None]
        self.codes.copy_(torch.where((self.ema_count > _UNUSED)[:, None], mean, self.codes))


def _mlp(sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width_in, width_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class RQVAE(nn.Module):
    """Encoder, residual codebooks, decoder.

    Args:
        input_dim: D, width of the item embeddings.
        codebook_sizes: codes per level, one entry a level.
        latent_dim: d, width of latents and codes.
        hidden_size: widths between D and d; the decoder mirrors them.
    """

    def __init__(
        self,
        input_dim: int,
        codebook_sizes: Sequence[int] = (256, 256, 256),
        latent_dim: int = 32,
        hidden_size: Sequence[int] = (128, 64),
    ):
        super().__init__()
        sizes = [input_dim, *hidden_size, latent_dim]
        if min(sizes) < 1 or not codebook_sizes or min(codebook_sizes) < 1:
            raise ValueError(
                f"RQVAE needs positive widths and at least one codebook: widths {sizes}, codebooks "
                f"{list(codebook_sizes)}. See the keys `rqvae_hidden_size`, `codebook_dim` and `codebook_size`."
            )
        self.encoder = _mlp(sizes)
        self.decoder = _mlp(sizes[::-1])
        self.codebooks = nn.ModuleList(Codebook(size, latent_dim) for size in codebook_sizes)
        # The embeddings' mean and overall scale, so that loss and learning rate mean the same for any encoder.
        self.register_buffer("input_mean", torch.zeros(input_dim))
        self.register_buffer("input_scale", torch.ones(()))
        # A buffer and not an attribute: after a reload nobody may start the codebooks afresh.
        self.register_buffer("initted", torch.tensor(False))

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes per level."""
        return tuple(len(book.codes) for book in self.codebooks)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Xavier weights and zero biases from the given CPU generator (call before moving to another device)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)

    @torch.no_grad()
    def set_input_statistics(self, embeddings: Tensor) -> None:
        """Centre and scale inputs by the mean and the overall standard deviation of ``embeddings [I, D]``."""
        self.input_mean.copy_(embeddings.mean(dim=0))
        spread = (embeddings - self.input_mean).square().mean().sqrt()
        # Rounding alone gives identical rows a tiny spread, which must not be blown up to 1.
        self.input_scale.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def init_codebooks(self, codebooks: Sequence[Tensor]) -> None:
        """Start every level at ``codebooks`` (one ``[K_n, d]`` each, from residual k-means; sizes may be smaller)."""
        if len(codebooks) != len(self.codebooks):
            raise ValueError(f"{len(codebooks)} codebooks for {len(self.codebooks)} levels; give one per level.")
        for level, vectors in enumerate(codebooks):
            book = Codebook(*vectors.shape).to(vectors.device)
            book.set_codes(slice(None), vectors)
            self.codebooks[level] = book
        self.initted.fill_(True)

    def encode(self, embeddings: Tensor) -> Tensor:
        """Latents ``[B, d]`` of raw embeddings ``[B, D]``."""
        return self.encoder((embeddings - self.input_mean) / self.input_scale)

    def decode(self, latent: Tensor) -> Tensor:
        """Embeddings ``[B, D]``, in input units, of latents ``[B, d]``."""
        return self.decoder(latent) * self.input_scale + self.input_mean

    def quantize(self, latent: Tensor) -> QuantizeOutput:
        """Eq. 3 with one commitment loss per level."""
        if not self.initted:
            raise RuntimeError("The codebooks are not set: call init_codebooks (residual k-means) or load a state.")
        residual, quantized = latent, torch.zeros_like(latent)
        codes, residuals, commitment = [], [], []
        for book in self.codebooks:
            index, _ = nearest_code(residual.detach(), book.codes)
            code = book.codes[index].detach()
            codes.append(index)
            residuals.append(residual)
            commitment.append((residual - code).square().sum(dim=1).mean())
            quantized = quantized + code
            # The detached code, not the straight-through one: else the levels below send the encoder no gradient.
            residual = residual - code
        return QuantizeOutput(
            quantized, torch.stack(codes, dim=1), torch.stack(residuals, dim=1), torch.stack(commitment)
        )

    def forward(self, embeddings: Tensor) -> RQVAEOutput:
        """Reconstruct ``embeddings [B, D]`` through their codes, straight-through for the encoder."""
        latent = self.encode(embeddings)
        output = self.quantize(latent)
        reconstruction = self.decode(latent + (output.quantized - latent).detach())
        return RQVAEOutput(
            reconstruction,
            self.reconstruction_loss(reconstruction, embeddings),
            output.codes,
            output.commitment,
            output.residuals.detach(),
        )

    def reconstruction_loss(self, reconstruction: Tensor, embeddings: Tensor) -> Tensor:
        """Squared error in scaled units, summed over D (a mean would be dwarfed by the commitment) and averaged."""
        return ((reconstruction - embeddings) / self.input_scale).square().sum(dim=1).mean()
