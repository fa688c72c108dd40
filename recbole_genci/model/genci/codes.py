"""Codes of semantic IDs: whether they lie within their levels.

Symbols: I rows of a table, N levels, K_n codes at level n.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def outside(codes: Tensor, sizes: Tensor) -> Tensor:
    """Which of ``codes [..., N]`` hold a code outside its level of ``sizes [N]``: ``[...]`` bool.

    The -1 of padding is outside. No device is waited for.
    """
    return ((codes < 0) | (codes >= sizes)).any(-1)


def check_codes(
    codes: Tensor, level_sizes: Sequence[int] | None = None, padded: bool = False
) -> list[int]:
    """Check a table of codes; it waits for the table's device.

    Args:
        codes: ``[I, N]`` int64.
        level_sizes: K_n per level; by default the largest code of each level plus one.
        padded: whether rows of -1 are padding, of which row 0 is one.
    Returns:
        K_n per level.
    Raises:
        ValueError: wrong shape or type, no row, another number of levels than ``level_sizes`` has,
            a row 0 that should be padding, or a code out of range.
    """
    sizes = None if level_sizes is None else [int(size) for size in level_sizes]
    is_table = codes.dim() == 2 and codes.dtype == torch.int64 and codes.numel() > 0
    if not is_table or (sizes is not None and len(sizes) != codes.shape[1]):
        raise ValueError(
            "codes must be a non-empty int64 [I, N] with N = len(level_sizes), got "
            f"{codes.dtype} {tuple(codes.shape)} and level_sizes {sizes}"
        )
    sizes = (codes.amax(0) + 1).tolist() if sizes is None else sizes
    wrong = outside(codes, torch.tensor(sizes, device=codes.device))
    if padded:
        padding = (codes == -1).all(1)
        if not bool(padding[0]):
            raise ValueError("row 0 of codes is the padding item and must be -1")
        wrong &= ~padding
    rows = wrong.nonzero().flatten()
    if len(rows):
        row = int(rows[0])
        raise ValueError(
            f"{len(rows)} rows hold codes outside {sizes}, first row {row}: {codes[row].tolist()}"
        )
    return sizes
