"""An exponential moving average of a model's weights, evaluated and saved in their place.

With a constant learning rate the last step's weights jump about a minimum; their average lies
nearer to it. (Polyak and Juditsky 1992; for the exponential form Tarvainen and Valpola 2017, arXiv
1703.01780.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """Averages every parameter and buffer of ``model`` that holds real or complex numbers.

    The buffers are the running statistics of batch normalisation: their average over the same steps
    belongs to the averaged weights, as far as it can without another pass over the rows. The decay
    grows with the number of steps t as ``min(decay, (1 + t) / (10 + t))``, so that the first,
    random weights are forgotten however short the training.

    Args:
        model: the model, already on its device.
        decay: share of the old average that remains after a step, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._weights: dict[str, torch.Tensor] = {
            name: tensor
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]
            if tensor.is_floating_point() or tensor.is_complex()
        }
        self._averages = {name: tensor.detach().clone() for name, tensor in self._weights.items()}
        self._infinite = [
            n for n, average in self._averages.items() if not average.isfinite().all()
        ]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after one more step into the average."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        averages = list(self._averages.values())
        get_ema_multi_avg_fn(decay)(averages, list(self._weights.values()), self.steps)
        for name in self._infinite:  # a mask of -inf would become NaN
            average, weight = self._averages[name], self._weights[name]
            average.copy_(torch.where(average.isfinite(), average, weight))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside the block, and its own again afterwards."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self._weights.items():
            own = weight.clone()
            weight.copy_(self._averages[name])
            self._averages[name].copy_(own)

    def state(self) -> dict[str, torch.Tensor]:
        """The averages by the names of the model's weights."""
        return self._averages

    @torch.no_grad()
    def load(self, averages: Mapping[str, torch.Tensor], steps: int) -> None:
        """Go on from what ``state`` and ``steps`` were."""
        for name, average in self._averages.items():
            average.copy_(averages[name])
        self.steps = steps
