"""Train one model by several processes: share rows, gradients, batch statistics and scores.

Every process iterates over the same batches of ``train_batch_size`` rows, in the same order as a
single process, and trains on its share of each batch; with ``shard_rows`` each draws its share from
its own block of the rows. RecBole's own branches for several processes
(``single_spec: False``) are not used: they need NCCL, pad the rows with repeats, and average the
processes' AUCs (trainer.py:632).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler

from recbole_genci.utils.value_checks import shortened


@dataclass(frozen=True)
class Processes:
    """This process and how many train a model together. By default it is alone: nothing is
    exchanged.

    Attributes:
        rank: the number of this process; 0 writes files.
        size: the number of processes. With more than one the process group is initialised.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files, logs and measures latency."""
        return self.rank == 0

    def block(self, length: int) -> range:
        """This process's part of the numbers below ``length``; the parts differ by one at most."""
        return range(*(length * rank // self.size for rank in (self.rank, self.rank + 1)))

    def share_training(self, loader: Any) -> None:
        """Make a training loader return only this process's share of each batch.

        Together the processes train on every row. Shares are contiguous, so that one process
        encodes the rows of one history, which lie together. If a batch, such as the last, has
        fewer than two rows a process, each process gets all of it: the mean is the same, and some
        models of RecBole cannot train on a single row.
        """
        if self.size > 1:
            assemble = loader.collate_fn
            loader.collate_fn = lambda rows: assemble(
                self._share(rows) if len(rows) >= 2 * self.size else rows
            )

    def _share(self, rows: Any) -> Any:
        block = self.block(len(rows))
        return rows[block.start : block.stop]

    def own_batches(self, loader: Any) -> Iterator[Any]:
        """This process's part of the batches of a loader that does not shuffle.

        The batches are those of one process. A part is contiguous: a process reads no other rows.
        """
        batches: BatchSampler = loader.batch_sampler
        size, block = batches.batch_size, self.block(len(batches))
        rows: Any = range(block.start * size, min(block.stop * size, loader.sample_size))
        # Only while the iteration begins, which keeps it; torch forbids to assign it.
        vars(loader)["batch_sampler"] = BatchSampler(rows, size, drop_last=False)
        try:
            return iter(loader)
        finally:
            vars(loader)["batch_sampler"] = batches

    def shared_model(self, model: Any) -> Any:
        """``model`` with batch normalisation over the rows of all processes."""
        if self.size == 1:
            return model
        if next(model.parameters()).is_cuda:
            return nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return _convert(model, dist.new_group())

    def shared_loss(self, model: nn.Module) -> DistributedDataParallel:
        """``model.calculate_loss`` through DistributedDataParallel.

        All processes get the same gradients. A loss that is a mean over rows has the gradients of
        the whole batch. Two losses are means over clicks, GenCI's of Eq. 2 and DIEN's auxiliary
        one: each process takes the mean over its own clicks, weighted by its number of rows.
        """
        return _in_parallel(_Loss(model, self.size))

    def mean(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """Means over the processes."""
        return tuple(sum(each) / self.size for each in zip(*self._gather(values)))

    def join_batches(self, batches: list) -> list:
        """The batches of all processes in order, from what each has of ``own_batches``."""
        return (
            batches if self.size == 1 else [each for part in self._gather(batches) for each in part]
        )

    def check_same(self, what: str, value: str) -> None:
        """Check that all processes have the same ``value``.

        Raises:
            ValueError: the values differ; raised in every process.
        """
        if self.size > 1 and len(values := set(self._gather(value))) > 1:
            raise ValueError(
                f"nproc: the processes have different {what} "
                f"({', '.join(str(v)[:12] for v in sorted(values, key=str))})."
            )

    def check_same_settings(self, settings: Mapping[str, Any]) -> None:
        """Check that all processes have the same ``settings``, values by key.

        Processes with other batches or epochs would wait for one another for ever, or score other
        rows.

        Raises:
            ValueError: they differ; names the first key. Raised in every process.
        """
        everywhere = self._gather(dict(settings)) if self.size > 1 else []
        for key in sorted(set().union(*everywhere)):
            values = {shortened(each[key]) if key in each else "none" for each in everywhere}
            if len(values) > 1:
                raise ValueError(
                    f"{key}: the processes have different values, "
                    f"{' and '.join(sorted(values))}. Give each machine the same "
                    "command; only nproc, offset, and where things lie may differ."
                )

    def share_weights(self, model: nn.Module) -> None:
        """Give all processes the first one's weights."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)

    def _gather(self, value: object) -> list:
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values


ALONE = Processes()


def _in_parallel(module: nn.Module) -> DistributedDataParallel:
    # Buffers are already the same. What replaces the argument sends them all at the start
    # (torch 2.13), those of the items' tables too, which torch's warning says is no way round.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        # A process may leave parameters unused: GenCI's generator if no row of its share is a
        # click.
        return DistributedDataParallel(module, find_unused_parameters=True, broadcast_buffers=False)


class _Loss(nn.Module):
    """A model's loss weighted by the process's rows: the processes' mean is the mean over all
    rows.
    """

    model: Any  # with RecBole's calculate_loss

    def __init__(self, model: nn.Module, size: int):
        super().__init__()
        self.model, self.size = model, size

    def forward(self, interaction: Any) -> torch.Tensor | tuple[torch.Tensor, ...]:
        rows = torch.tensor(float(len(interaction)), device=next(self.model.parameters()).device)
        total = rows.clone()
        dist.all_reduce(total)
        weight = rows * self.size / total
        losses = self.model.calculate_loss(interaction)
        return (
            tuple(weight * loss for loss in losses)
            if isinstance(losses, tuple)
            else weight * losses
        )


class _Sum(torch.autograd.Function):
    """Sum of all processes' tensors, with its gradient. Torch's own version is deprecated, and what
    replaces it is private.
    """

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        total = tensor.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


class GlobalBatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation with the mean and variance over all processes' rows.

    Torch's SyncBatchNorm does not run on a CPU. The input is ``[B, C]`` or ``[B, C, L]``, as for
    the ``nn.BatchNorm1d`` whose parameters and buffers this module takes over; B may be 0 in some
    of the processes. A single row of all, which has no variance, is normalised by running ones.
    """

    def __init__(self, original: nn.BatchNorm1d, group: dist.ProcessGroup) -> None:
        super().__init__(
            original.num_features,
            original.eps,
            original.momentum,
            original.affine,
            original.track_running_stats,
        )
        self.group = group  # a separate group, so that its sums do not mix with the gradients' sums
        self._parameters, self._buffers = original._parameters, original._buffers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        if x.dtype == torch.bfloat16:  # of mixed precision; statistics are float32
            return self.forward(x.float()).to(x.dtype)
        over, shape = (
            [d for d in range(x.dim()) if d != 1],
            [-1 if d == 1 else 1 for d in range(x.dim())],
        )
        count = x.new_tensor([x.numel() / x.shape[1]])
        total = _Sum.apply(torch.cat([x.sum(over), count]), self.group)
        rows = total[-1].detach()
        if rows < 2:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        mean = total[:-1] / rows
        centred = x - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(over), self.group) / rows
        if self.track_running_stats:
            self._update(mean.detach(), variance.detach() * rows / (rows - 1))
        normalised = centred / (variance + self.eps).sqrt().view(shape)
        return (
            normalised * self.weight.view(shape) + self.bias.view(shape)
            if self.affine
            else normalised
        )

    def _update(self, mean: torch.Tensor, unbiased_variance: torch.Tensor) -> None:
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(unbiased_variance, share)


def _convert(module: nn.Module, group: dist.ProcessGroup) -> nn.Module:
    if isinstance(module, nn.BatchNorm1d):
        return GlobalBatchNorm1d(module, group)
    for name, child in module.named_children():
        setattr(module, name, _convert(child, group))
    return module
