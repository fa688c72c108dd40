"""CUDA graphs: the many small operations of a batch are launched together (``cuda_graphs: True``).

A GPU runs GenCI's operations faster than Python launches them. A graph holds all operations of a
batch of one shape, of a loss, of its gradients or of a prediction, and replays them on the numbers
of the next such batch. The operations and their random numbers are those of a call without a graph,
and so are the results. Two things make it possible: `data.batch_histories` gives batches few
shapes, and no model looks at values within ``static_shapes()`` (tests/model/test_static.py).
"""

from __future__ import annotations

import gc
import logging
import warnings
from collections import Counter
from collections.abc import Callable
from itertools import compress
from pathlib import Path
from traceback import extract_tb
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_genci.utils.answers import is_out_of_memory
from recbole_genci.utils.config_like import ConfigLike
from recbole_genci.utils.static import static_shapes

_logger = logging.getLogger(__name__)

#: A shape is captured when it comes for this time: some never come again.
FIRST_CAPTURED = 3
#: Shapes that are captured, of losses and of predictions each; a GPU keeps the results of all.
MOST_SHAPES = 16


def uses_graphs(config: ConfigLike) -> bool:
    """Whether a run replays CUDA graphs, and its batches have few shapes."""
    return bool(config["cuda_graphs"]) and config["device"].type == "cuda"


class Replayed:
    """``function(batch)``, replayed as a CUDA graph for each shape of batches that comes again.

    Called with gradients enabled, the results have gradients with respect to the weights of
    ``module``, whose backward pass is a graph too; it must come before the next call. Without
    gradients the results are copies, which later calls leave alone.

    Args:
        function: gives a tensor, or a tuple of tensors.
        module: has all weights that ``function`` reads.
        device: of the weights and the batches.

    Raises:
        ValueError: an operation waits for the GPU, so that it cannot be captured.
    """

    def __init__(
        self, function: Callable[[Interaction], Any], module: nn.Module, device: torch.device
    ) -> None:
        self.function, self.module, self.device = function, module, device
        self._times: Counter[tuple] = Counter()
        self._graphs: dict[tuple, Callable] = {}
        self._pool: Any = None
        self._has_memory = True

    def __call__(self, batch: Interaction) -> Any:
        columns = batch.interaction
        shape = (
            torch.is_grad_enabled(),
            self.module.training,
            *((name, each.shape, each.dtype) for name, each in columns.items()),
        )
        if shape not in self._graphs:
            self._times[shape] += 1
            if self._times[shape] >= FIRST_CAPTURED and len(self._graphs) < MOST_SHAPES:
                self._capture(shape, batch)
        if shape not in self._graphs:
            with static_shapes():  # the same operations as in a graph
                result = self.function(batch)
            return _forgetting(result) if torch.is_grad_enabled() else result
        result = self._graphs[shape](*columns.values())
        if torch.is_grad_enabled():
            return _forgetting(result)
        return tuple(map(torch.clone, result)) if isinstance(result, tuple) else result.clone()

    def _capture(self, shape: tuple, batch: Interaction) -> None:
        """Capture the function for batches of this shape, unless the GPU's memory is full."""
        if not self._has_memory:
            return
        call = _Call(self.function, self.module, list(batch.interaction), type(batch))
        # A capture computes a few times, which must leave no trace: not in running statistics, nor
        # in the sequence of random numbers.
        statistics = [(each, each.clone()) for each in self.module.buffers()]
        devices = [self.device] if self.device.type == "cuda" else []
        if self._pool is None:
            # Graphs of earlier runs refer to themselves (torch makes a class for each), and would
            # keep the GPU's memory until Python looks for such circles.
            gc.collect()
            self._pool = new_pool()
        try:
            with torch.random.fork_rng(devices), static_shapes():
                self._graphs[shape] = capture(call, list(batch.interaction.values()), self._pool)
        except RuntimeError as error:
            first = _first(error)
            if not (is_out_of_memory(first) or is_out_of_memory(error)):
                raise ValueError(
                    f"cuda_graphs: {type(self.module).__name__} does what cannot be captured, most "
                    "often an operation that waits for the GPU. Leave the key out. torch says"
                    f"{_place(first)}: {first}"
                ) from error
            self._has_memory = False
            _logger.warning(
                "cuda_graphs: the GPU's memory has no room for another graph; batches of shapes "
                "that have none run without."
            )
        finally:
            now = list(self.module.buffers())
            with torch.no_grad():
                for each, before in statistics:
                    each.copy_(before)
        if [*map(id, now)] != [id(each) for each, _ in statistics]:
            raise ValueError(
                f"cuda_graphs: {type(self.module).__name__} puts another tensor in the place of a "
                "buffer in each call, which no replay would. Change the buffer in place (copy_, "
                "add_), or leave the key out."
            )


class _Forgetting(torch.autograd.Function):
    """The same numbers; their gradients pass once, and what led to them is then forgotten.

    A trainer still has the loss of a batch when it computes the next one's. Through it autograd
    would keep its nodes at the weights, of the stream of that batch, which a capture would have to
    wait for, and cannot.
    """

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, parts: list[Tensor]) -> tuple[Tensor, ...]:
        ctx.parts = parts
        return tuple(each.detach() for each in parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        parts, ctx.parts = ctx.parts, None
        learns = [each.requires_grad for each in parts]
        torch.autograd.backward(list(compress(parts, learns)), list(compress(gradients, learns)))
        return None, None


def _forgetting(result: Any) -> Any:
    parts = list(result) if isinstance(result, tuple) else [result]
    if not any(each.requires_grad for each in parts):
        return result
    found = _Forgetting.apply(torch.empty(0, requires_grad=True), parts)
    return found if isinstance(result, tuple) else found[0]


class _Call(nn.Module):
    """``function`` of the columns of a batch, as torch captures it: with weights, by tensors."""

    def __init__(
        self, function: Callable, module: nn.Module, names: list[str], batch_class: type
    ) -> None:
        super().__init__()
        self.module, self.function = module, function
        self.names, self.batch_class = names, batch_class
        self.result: Any = None  # of the last call

    def forward(self, *columns: Tensor) -> Any:
        batch = self.batch_class(dict(zip(self.names, columns, strict=True)))
        self.result = self.function(batch)
        return self.result


def new_pool() -> Any:
    """The memory that the graphs of one function share: they never run at the same time."""
    return torch.cuda.graph_pool_handle()


def capture(call: _Call, columns: list[Tensor], pool: Any) -> Callable:
    """``call`` as a graph with a copy of ``columns``, into which each replay copies its batch's.

    Raises:
        RuntimeError: it cannot be captured.
    """
    learns = torch.is_grad_enabled()
    # Tensors of inference mode could not be written to outside it.
    with torch.inference_mode(False), torch.set_grad_enabled(learns):
        own = tuple(each.clone() for each in columns)
        _refuse_waits(call, own)
        torch.cuda.make_graphed_callables(call, own, allow_unused_input=True, pool=pool)
    # The results hold the operations that autograd has noted, whose nodes at the weights belong to
    # the stream of the capture: each step would wait for it at every weight, and torch warns.
    for each in call.result if isinstance(call.result, tuple) else (call.result,):
        if not each._is_view():
            each.detach_()
    call.result = None
    return call


def _refuse_waits(call: _Call, columns: tuple[Tensor, ...]) -> None:
    """Let ``call`` and its gradients be computed once, where an operation that waits is an error.

    In a capture it is one too, after which no random number can be drawn in the process any more
    and no other run could follow.
    """
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():  # that torch's mode is a prototype
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    try:
        result = call(*columns)
        parts = result if isinstance(result, tuple) else (result,)
        if learning := [part.sum() for part in parts if part.requires_grad]:
            weights = [each for each in call.parameters() if each.requires_grad]
            torch.autograd.grad(learning, weights, allow_unused=True)
    finally:
        torch.cuda.set_sync_debug_mode(mode)
        call.result = None


def _first(error: BaseException) -> BaseException:
    """The error that others followed: to end a capture that has failed fails too."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return error


def _place(error: BaseException) -> str:
    """`` of file.py, line 12``: the last line before torch's own; nothing for its own threads."""
    own = (str(Path(torch.__file__).parent), __file__)
    frames = [each for each in extract_tb(error.__traceback__) if not each.filename.startswith(own)]
    return f" of {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
