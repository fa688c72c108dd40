"""Mixed precision in training: ``precision: bf16``.

Matrix products of the forward pass and of its gradients have bfloat16 numbers, by torch's autocast.
Weights, their gradients, the optimiser and all files stay float32. bfloat16 has the range of
float32, so that losses need no scaler; it has 8 significant bits, and therefore

- losses, softmax, sigmoid, logarithms and sums are computed in float32, as autocast does on a GPU
  but not on a CPU;
- validation, test and serving are float32 throughout, as under RecBole's ``enable_amp``
  (trainer.py:244): of 8 bits many rows would share a score, and a saved run gives the same scores
  wherever it is loaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from recbole_genci.model.layers.precision import widened
from recbole_genci.utils.config_like import ConfigLike

_SUMS = (
    "sum mean cumsum norm layer_norm softmax log_softmax logsumexp sigmoid logsigmoid exp log "
    "log1p cross_entropy binary_cross_entropy binary_cross_entropy_with_logits kl_div"
).split()
_LOSSES = [name for name in vars(F) if name.endswith("_loss")]
_IN_FLOAT32 = {
    getattr(place, name)
    for place in (torch, torch.Tensor, F)
    for name in (*_SUMS, *_LOSSES)
    if hasattr(place, name)
}


class _Float32Sums(TorchFunctionMode):
    """Inside the block, the functions of ``_IN_FLOAT32`` take bfloat16 numbers as float32."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _IN_FLOAT32:
            return func(*args, **kwargs)
        # Without autocast, which refuses binary_cross_entropy on a GPU.
        with torch.autocast(self.device, enabled=False):
            return func(
                *map(_widened, args), **{name: _widened(each) for name, each in kwargs.items()}
            )


def _widened(value: Any) -> Any:
    return widened(value) if isinstance(value, torch.Tensor) else value


@contextlib.contextmanager
def training_precision(config: ConfigLike) -> Iterator[None]:
    """Inside the block, a forward pass has the Config's ``precision``."""
    if config["precision"] == "fp32":
        yield
        return
    device = config["device"].type
    # Casts of weights are not kept: of a weight that is first read without a gradient, as in a beam
    # search, many versions of torch then lose the gradient of later uses (pytorch#112583).
    with (
        torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False),
        _Float32Sums(device),
    ):
        yield


def in_training_precision(calculate_loss: Callable, config: ConfigLike) -> Callable:
    """``calculate_loss`` of a batch in the Config's ``precision``; the loss, or its parts, are
    float32.
    """
    if config["precision"] == "fp32":
        return calculate_loss

    def loss_of(batch: Any) -> Any:
        with training_precision(config):
            losses = calculate_loss(batch)
        return tuple(map(_widened, losses)) if isinstance(losses, tuple) else _widened(losses)

    return loss_of


def check_precision(config: ConfigLike) -> None:
    """Refuse bf16 on a GPU that does not have it.

    Raises:
        ValueError: names the GPU and what to do.
    """
    if (
        config["precision"] == "bf16"
        and config["device"].type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise ValueError(
            f"precision: {torch.cuda.get_device_name()} has no bf16. Use --precision=fp32, or a "
            "GPU of compute capability 8.0 or higher."
        )
