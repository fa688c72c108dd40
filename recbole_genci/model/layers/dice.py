"""The activation of DIN's paper, Dice (Zhou et al., 2018, Eq. 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Dice(nn.Module):
    """``f(s) = p s + (1 - p) alpha s``, p the sigmoid of s normalised over the rows.

    In training rows are normalised by their own mean and variance, otherwise by running ones.
    RecBole's layer of this name does not normalise and does not learn alpha (layers.py:285): it is
    ``s sigmoid(s)``.

    Args:
        width: number W of units; alpha starts at 0 and is learned for each.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, eps=1e-8, affine=False)  # the paper's epsilon
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """``[R, W] -> [R, W]``; a single row, without variance, is normalised by running ones."""
        # With several processes another module stands here, which counts the rows of all of them.
        if self.training and len(scores) < 2 and type(self.norm) is nn.BatchNorm1d:
            norm = self.norm
            normal = F.batch_norm(scores, norm.running_mean, norm.running_var, eps=norm.eps)
        else:
            normal = self.norm(scores)
        share = torch.sigmoid(normal)
        return (share + (1 - share) * self.alpha) * scores
