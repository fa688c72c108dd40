"""The parts of MIRRN: retrieval by SimHash, mixing over time in frequency, and the target's
attention.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from recbole_genci.model.layers.precision import in_float32

FILTER_STD = 0.02


def masked_mean(vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean ``[B, D]`` of the vectors ``[B, L, D]`` where ``mask`` ``[B, L]`` holds; zero where it
    holds nowhere.
    """
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)
    return (vectors * mask.unsqueeze(-1)).sum(dim=1) / count


def sim_hash(vectors: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
    """SimHash codes ``[..., bits]`` of -1 and 1: the side of each random hyperplane ``[D, bits]`` a
    vector lies on.
    """
    with in_float32(vectors.device):  # validation, which is float32, retrieves the same clicks
        return torch.where(vectors @ projection > 0, 1.0, -1.0)


def retrieve(
    query_codes: torch.Tensor, history_codes: torch.Tensor, mask: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k history positions most similar to the query by Hamming distance, in time order.

    Args:
        query_codes: ``[B, bits]`` of -1 and 1.
        history_codes: ``[B, L, bits]``; L is at least k.
        mask: ``[B, L]``, False on padding.

    Returns:
        positions ``[B, k]``, ascending, and which of them are real, ``[B, k]``: all real ones come
        before padding, as long as padding follows the history.
    """
    width = mask.shape[1]
    with in_float32(mask.device):
        agreement = torch.einsum(
            "bld,bd->bl", history_codes, query_codes
        ).long()  # bits - 2 * Hamming distance
    # Ties go to the later position: a key that is unique makes topk's choice independent of
    # padding, batch and device.
    key = agreement * width + torch.arange(width, device=mask.device)
    key = key.masked_fill(~mask, torch.iinfo(torch.int64).min)
    positions = key.topk(k, dim=1).indices.sort(dim=1).values
    return positions, mask.gather(1, positions)


class FourierLayer(nn.Module):
    """Multi-head Fourier transformer layer over a subsequence ``[B, k, D]``: mixing over time by a
    product in frequency.

    Args:
        size: D.
        num_blocks: blocks of channels that mix among themselves; divides D.
        mixing: ``block`` or ``diagonal``.
        dropout: of the mixed sequence.
    """

    def __init__(self, size: int, num_blocks: int, mixing: str, dropout: float):
        super().__init__()
        self.num_blocks = num_blocks
        self.equation = "blni,nio->blno" if mixing == "block" else "blni,ni->blni"
        shape = (num_blocks,) + (size // num_blocks,) * (2 if mixing == "block" else 1)
        # Real and imaginary parts apart: optimisers, clipping and safetensors all take real
        # tensors.
        self.filter = nn.Parameter(torch.randn(*shape, 2) * FILTER_STD)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(size)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(sequence, dim=1, norm="ortho").unflatten(
            -1, (self.num_blocks, -1)
        )
        mixed = torch.einsum(self.equation, spectrum, torch.view_as_complex(self.filter)).flatten(2)
        mixed = torch.fft.irfft(mixed, n=sequence.shape[1], dim=1, norm="ortho")
        return self.norm(self.dropout(mixed) + sequence)


class TargetAttention(nn.Module):
    """Multi-head attention of one vector ``[B, D]`` to several ``[B, S, D]``, giving ``[B, D]``.

    Args:
        size: D.
        attention_size: width of all heads together; divided by ``num_heads``.
        num_heads: of the attention.
        dropout: of the attention weights.
    """

    def __init__(self, size: int, attention_size: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query, self.key, self.value = (
            nn.Linear(size, attention_size, bias=False) for _ in range(3)
        )
        self.output = nn.Linear(attention_size, size, bias=False)

    def forward(
        self, target: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``mask`` ``[B, S]`` is False on padding; a row without any real entry gets zeros."""
        query, key, value = (
            projection(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection, x in (
                (self.query, target.unsqueeze(1)),
                (self.key, memory),
                (self.value, memory),
            )
        )
        if mask is not None:
            filled = mask.any(dim=1)
            value = value * filled.view(-1, 1, 1, 1)
            mask = (mask | ~filled.unsqueeze(1)).view(
                mask.shape[0], 1, 1, -1
            )  # a softmax over nothing is NaN
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout)
        return self.output(attended.transpose(1, 2).flatten(1))
