"""RMS norm, dropout and the bias of masked positions: what attention consists of beside products.

Autograd's own chain of operations takes about twice as long for the norm; a Bernoulli call
for each element would make dropout the most expensive operation of the whole encoder on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_genci.model.layers.device import on_cpu
from recbole_genci.model.layers.precision import widened

EPS = 1e-6  # T5's


class _RMSNormalize(torch.autograd.Function):
    """x / rms(x), one reduction and one product each way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        scale = torch.linalg.vecdot(x, x).div_(x.shape[-1]).add_(eps).rsqrt_().unsqueeze(-1)
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        y, scale = ctx.saved_tensors
        projection = torch.linalg.vecdot(grad, y).div_(y.shape[-1]).unsqueeze(-1)
        return torch.addcmul(grad, y, projection, value=-1).mul_(scale), None


def rms_normalize(x: Tensor, eps: float = EPS) -> Tensor:
    """``x`` with unit root mean square over its last dimension (the gain is applied by whoever
    reads the result).

    ``eps`` is added to the mean square.
    """
    x = widened(x)
    # A GPU waits for launches and gets torch's single kernel (since torch 2.9); on a CPU torch has
    # a chain of operations.
    return _RMSNormalize.apply(x, eps) if on_cpu(x) else F.rms_norm(x, x.shape[-1:], eps=eps)


def _keep_scale(x: Tensor, p: float) -> Tensor:
    """A dropout multiplier like ``x``: 0 with probability p (to 1/256, and at least so much), else
    1 / (1 - p).
    """
    threshold = min(max(round(p * 256), 1), 255)  # at 256 nothing would be kept
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device).random_(
        -(2**63), None
    )
    bits = words.view(torch.int8)[: x.numel()].view(x.shape)
    exact = torch.promote_types(x.dtype, torch.float32)  # bfloat16 would round the factor
    keep = torch.ge(bits, threshold - 128, out=torch.empty(x.shape, dtype=exact, device=x.device))
    return keep.mul_(256 / (256 - threshold))


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Inverted dropout, as ``torch.nn.functional.dropout`` but several times faster on CPU."""
    if not training or p == 0:
        return x
    return x * _keep_scale(x, p) if on_cpu(x) else F.dropout(x, p)


def dropout_add(residual: Tensor, x: Tensor, p: float, training: bool) -> Tensor:
    """``residual + dropout(x)`` in one pass."""
    if not training or p == 0:
        return residual + x
    if on_cpu(x):
        return torch.addcmul(residual, x, _keep_scale(x, p))
    return residual + F.dropout(x, p)


def padding_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive bias ``[U, 1, S]`` of a mask ``[U, S]`` (True = real position): 0, or the most
    negative finite number.

    Finite, so that no row can turn into NaN; its exponential is exactly 0 beside any real position.
    """
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill_(~mask, torch.finfo(dtype).min).unsqueeze(1)
