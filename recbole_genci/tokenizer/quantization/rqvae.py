"""RQ-VAE (Eq. 3; TIGER): an autoencoder whose latent is replaced by a sum of codes, one per level.

`codebook_update` says how codes learn: a code is an exponential moving average (EMA) of its
residuals, or gradients move it. EMA is the default: a code stays the centre of a cohort, as k-means
initialises it, and there is no second learning rate to balance. Both can use a balanced assignment
(see `residual_kmeans.balanced_codes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recbole_genci.tokenizer.quantization.codebook import ResidualQuantizer


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


def _mlp(sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width_in, width_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class RQVAE(ResidualQuantizer):
    """Encoder, residual codebooks, decoder.

    Args:
        input_dim: D, width of the item embeddings.
        codebook_sizes: codes per level, one entry a level.
        latent_dim: d, width of latents and codes.
        hidden_size: widths between D and d; the decoder mirrors them.
        learned_codes: whether gradients move the codes, instead of EMA.
    """

    def __init__(
        self,
        input_dim: int,
        codebook_sizes: Sequence[int] = (256, 256, 256),
        latent_dim: int = 32,
        hidden_size: Sequence[int] = (128, 64),
        learned_codes: bool = False,
    ):
        super().__init__(input_dim, codebook_sizes, latent_dim, learned_codes)
        sizes = [input_dim, *hidden_size, latent_dim]
        if min(sizes) < 1:
            raise ValueError(
                f"RQVAE needs positive widths; found {sizes}. See the key `rqvae_hidden_size`."
            )
        self.encoder = _mlp(sizes)
        self.decoder = _mlp(sizes[::-1])

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Set Xavier weights and zero biases with a CPU generator, before moving to a device."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)

    def encode(self, embeddings: Tensor) -> Tensor:
        """Latents ``[B, d]`` of raw embeddings ``[B, D]``."""
        return self.encoder(super().encode(embeddings))

    def decode(self, latent: Tensor) -> Tensor:
        """Embeddings ``[B, D]``, in input units, of latents ``[B, d]``."""
        return super().decode(self.decoder(latent))

    def forward(self, embeddings: Tensor) -> RQVAEOutput:
        """Reconstruct ``embeddings [B, D]`` by their codes, straight-through for the encoder."""
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
        """Squared error in scaled units, summed over D, mean over the batch.

        With a mean over D the commitment loss would dominate.
        """
        return ((reconstruction - embeddings) / self.input_scale).square().sum(dim=1).mean()
