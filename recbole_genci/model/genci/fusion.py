"""The size of the intents that Eq. 10 concatenates; and beyond the paper, off by default, their
norm, and the generator's opinion of the candidate.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from recbole_genci.model.genci.decoding import evaluation_mode
from recbole_genci.model.genci.intent import EncodedHistory, IntentGenerator
from recbole_genci.model.genci.numerics import rms_normalize


class IntentScale(nn.Module):
    """The size of an intent in Eq. 10: a factor, or a norm with a learned gain.

    Without the norm it is ``scale * x``. With it, it is ``scale * gain * x / rms(x)``: every row
    has the same size, which each unit's gain may change. The gain starts at 1, so that a fresh
    intent has the root mean square ``scale``.

    Args:
        width: units of the intent.
        scale: factor, a constant.
        normalises: whether there is a norm.
    """

    def __init__(self, width: int, scale: float, normalises: bool) -> None:
        super().__init__()
        self.scale = scale
        self.gain = nn.Parameter(torch.ones(width)) if normalises else None

    def forward(self, intent: Tensor) -> Tensor:
        """``[B, width] -> [B, width]``; an intent of zeros, which has no beam, stays zeros."""
        if self.gain is None:
            return intent * self.scale
        return rms_normalize(intent) * (self.gain * self.scale)


def candidate_log_probs(
    generator: IntentGenerator,
    encoded: EncodedHistory,
    history_index: Tensor,
    codes: Tensor,
    *,
    joint: bool,
) -> Tensor:
    """How much more probable than by chance the generator thinks each candidate's codes, given the
    row's history.

    It is ``log P(c_n | history, c_1 .. c_n-1) + log K_n``, level by level: 0 for a generator that
    knows nothing, and for a level of one code. The codes are the candidate's, so that no label and
    no other row enters.

    Args:
        generator: its decoder is run once for every row.
        encoded: the U encoded histories.
        history_index: ``[B]`` int64, the history of each row.
        codes: ``[B, N]`` int64 codes of the candidates.
        joint: whether gradients pass to the generator, which then has dropout in training.
            Otherwise the values are constants, without the decoder's dropout.

    Returns:
        ``[B, N]``.
    """
    quiet = contextlib.nullcontext() if joint else evaluation_mode(generator.decoder)
    with quiet, torch.set_grad_enabled(joint and torch.is_grad_enabled()):
        losses = generator.ntp_loss(encoded, history_index, codes, reduction="none")
    return generator.sizes.to(losses.dtype).log() - losses
