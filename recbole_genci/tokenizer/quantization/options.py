"""How a quantiser is fitted: the tokenizer's settings that it reads, by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class QuantizerOptions:
    """What every quantiser reads.

    Attributes:
        num_codebooks: L, levels without the collision digit.
        codebook_size: K codes per level; fewer for a small catalogue, with a log line.
        codebook_balance: with ``sinkhorn`` codes learn from a balanced assignment of the items, at
            the start and in training, so that they serve similar numbers of them; with ``nearest``
            as in plain k-means. The final codes are always those of Eq. 3.
        spread_collisions: see `spread.spread_codes`.
        tokenizer_seed: seed of all randomness; the global random state does not change.
    """

    num_codebooks: int = 3
    codebook_size: int = 256
    codebook_balance: str = "sinkhorn"
    spread_collisions: bool = False
    tokenizer_seed: int = 2020

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Take the options from the settings of the same names."""
        return cls(**{each.name: settings[each.name] for each in fields(cls)})

    @property
    def balance(self) -> bool:
        """Whether codes learn from a balanced assignment."""
        return self.codebook_balance == "sinkhorn"


@dataclass(frozen=True)
class RQVAEOptions(QuantizerOptions):
    """What the RQ-VAE reads.

    Attributes:
        codebook_dim: d, width of the codes.
        codebook_update: ``ema``, or ``gradient`` of the squared distance to a code's residuals.
        rqvae_hidden_size: widths between the embeddings' and d.
        rqvae_epochs: passes over all items, a quarter of them for the plain autoencoder.
        rqvae_learning_rate: learning rate of Adam.
        rqvae_batch_size: items per step; fewer if an epoch would have fewer than four steps.
        rqvae_commitment: weight of the commitment losses beside the reconstruction loss.
    """

    codebook_dim: int = 32
    codebook_update: str = "ema"
    rqvae_hidden_size: Sequence[int] = (128, 64)
    rqvae_epochs: int = 300
    rqvae_learning_rate: float = 1e-3
    rqvae_batch_size: int = 1024
    rqvae_commitment: float = 0.25
