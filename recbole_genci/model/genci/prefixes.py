"""Cohorts by prefix: of items that share the first n codes, where Eq. 7 asks for code n alone."""

from __future__ import annotations

import torch
from torch import Tensor


def prefix_codes(codes: Tensor) -> Tensor:
    """Number the prefixes of each length, so that a prefix takes the place of a code.

    Args:
        codes: ``[V, N]`` int64; rows of -1 are padding.

    Returns:
        ``[V, N]`` int64: at level n the number of the item's first n codes among all items' such
        prefixes, in lexicographic order; -1 for padding. The first level is numbered as the codes
        are, without gaps.
    """
    is_item = (codes != -1).all(1)
    result, number = torch.full_like(codes, -1), torch.zeros_like(codes[is_item, 0])
    for level in range(codes.shape[1]):
        code = codes[is_item, level]
        key = number * (int(code.max()) + 1 if len(code) else 1) + code
        number = torch.unique(key, return_inverse=True)[1]
        result[is_item, level] = number
    return result
