"""RecBole's loaders over the parts of a CTRDataset."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader, TrainDataLoader
from recbole.data.interaction import Interaction
from recbole.data.utils import get_dataloader

from recbole_genci import compat
from recbole_genci.config import Config
from recbole_genci.data.column_names import HISTORY_END, HISTORY_FIRST, HISTORY_START
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.shuffling import ShuffledRows
from recbole_genci.utils.distributed import ALONE, Processes
from recbole_genci.utils.words import counted

_logger = logging.getLogger(__name__)
compat.keep_ranges_of_rows()
compat.tell_datasets_from_rows()

PARTS = ("train", "valid", "test")


class AlignedCodes(Protocol):
    """What a loader asks of ``SemanticIDs``."""

    def aligned(self, id_tokens: Sequence[str], /) -> np.ndarray:
        """Codes ``[V, N]`` in the order of RecBole's ids; row 0, the padding, is -1."""


def create_loaders(
    config: Config,
    parts: Sequence[CTRDataset],
    semantic_ids: AlignedCodes | None = None,
    processes: Processes = ALONE,
) -> list[AbstractDataLoader]:
    """The training, validation and test loader of one model.

    Args:
        config: the model's Config; its ``model_class`` decides which columns a batch gets.
        parts: the three parts of ``CTRDataset.build()``; models share them, and nothing here
            changes them.
        semantic_ids: ``SemanticIDs`` of the items, for models that read them.
        processes: those that train the model together; the training loader returns this one's share
            of each batch.
    """
    loaders = [
        create_loader(
            config,
            part,
            semantic_ids,
            phase,
            phase == "train" and config["shuffle"],
            processes if config["shard_rows"] else ALONE,
        )
        for phase, part in zip(PARTS, parts)
    ]
    if not config["shard_rows"]:
        processes.share_training(loaders[0])
    return loaders


def create_loader(
    config: Config,
    part: CTRDataset,
    semantic_ids: AlignedCodes | None,
    phase: str,
    shuffle: bool = False,
    shards: Processes = ALONE,
) -> AbstractDataLoader:
    """RecBole's loader of ``phase`` over one part; arguments as for ``create_loaders``.

    Args:
        shards: the processes among which the rows of training are divided (``shard_rows``).
    """
    view = model_view(config, part, semantic_ids)
    loader: Any
    if phase != "train":
        loader = get_dataloader(config, phase)(config, view, None, shuffle=shuffle)
    else:
        grouped = shuffle and config["group_rows_by_history"]
        kind = GroupedTrainDataLoader if grouped else CTRTrainDataLoader
        loader = kind(config, view, None, shuffle, shards)
    if config["worker"] and "fork" in multiprocessing.get_all_start_methods():
        # Else a process of nproc, macOS and Python 3.14 would pickle the loader, which cannot be.
        loader.multiprocessing_context = "fork"
    return loader


def model_view(config: Config, part: CTRDataset, semantic_ids: AlignedCodes | None) -> CTRDataset:
    """One part as a model reads it; arguments as for ``create_loaders``."""
    codes = None
    if config.model_class.reads_semantic_ids:
        assert semantic_ids is not None
        codes = semantic_ids.aligned(part.field2id_token[part.iid_field])
    return part.view(config, codes)


class CTRTrainDataLoader(TrainDataLoader):
    """RecBole's training loader, which never leaves a last batch of one row.

    Batch normalisation (DIN, DIEN, DCNV2, NFM) cannot train on one row. If ``train_batch_size``
    would leave such a batch, all batches are slightly smaller, for every model alike.

    Several processes may divide the rows among them (``shards``): each reads a block of rows that
    follow one another, in its own order, and its batches are its share of ``train_batch_size``.
    All make the same number of batches.

    Attributes:
        step: RecBole's name for the rows of a batch, here of this process's share.

    Raises:
        ValueError: there are fewer rows than processes, or no share of ``train_batch_size`` makes
            the same number of batches of each block.
    """

    step: int

    def __init__(
        self,
        config: Config,
        dataset: CTRDataset,
        sampler: None,
        shuffle: bool = False,
        shards: Processes = ALONE,
    ) -> None:
        self._shards = shards
        self.block = shards.block(len(dataset))
        super().__init__(config, dataset, sampler, shuffle)
        rows: Any = self.batch_sampler
        if shards.size > 1:
            rows.sampler = self.block
            self.generator.manual_seed(config["seed"] + shards.rank)
        if shuffle:
            rows.sampler = ShuffledRows(self.block, generator=self.generator)

    def _init_batch_size_and_step(self) -> None:
        super()._init_batch_size_and_step()
        rows, configured, processes = self.sample_size, self.step, self._shards.size
        if processes > 1:
            self.step = _share_of_batch(rows, configured, processes)
            why = f"give {processes} processes no equal shares of equally many batches"
        else:
            sizes = range(configured, 1, -1)
            self.step = next((size for size in sizes if rows % size != 1), configured)
            why = "leave a last batch of one row, on which batch normalisation cannot train"
        self.set_batch_size(self.step)
        if self.batch_rows != configured:
            _logger.warning(
                f"train_batch_size: {rows} training rows in batches of {configured} {why}; batches "
                f"have {self.batch_rows} rows instead."
            )

    @property
    def batch_rows(self) -> int:
        """Rows of a whole batch, of all ``shards``."""
        return self.step * self._shards.size


def _share_of_batch(rows: int, batch: int, processes: int) -> int:
    """The largest share of a batch that makes equally many batches of all blocks of rows.

    Blocks may differ by one row, which must not begin a batch: the others would wait for ever. If
    possible, no batch has a single row, on which some models of RecBole cannot train.
    """
    shortest, longest = rows // processes, -(-rows // processes)
    if not shortest:
        raise ValueError(
            f"shard_rows: {counted(rows, 'training row')} cannot be divided among {processes} "
            "processes, each of which reads rows of its own. Give fewer processes (nproc, "
            "world_size), or leave out shard_rows."
        )
    if batch // processes >= longest:  # one batch
        return batch // processes
    for least in (2, 1):
        for share in range(batch // processes, 0, -1):
            last = (shortest - 1) % share + 1
            if last >= least and last + longest - shortest <= share:
                return share
    raise ValueError(
        f"shard_rows: {rows} training rows in batches of {batch} (train_batch_size) cannot be "
        f"divided among {processes} processes so that all have the same number of batches. Give "
        "larger batches, or leave out shard_rows."
    )


class GroupedTrainDataLoader(CTRTrainDataLoader):
    """Shuffles histories instead of rows (``group_rows_by_history``).

    Rows with the same history, a user's rows between two clicks, follow one another; for a model
    that reads segments of clicks, all rows whose last click is in one segment do. A model that
    encodes each distinct history, or segment, of a batch once then has fewer to encode. Every row
    comes once per epoch, in batches of ``train_batch_size``, in an order that the loader's
    generator draws for each epoch.
    """

    def __init__(
        self,
        config: Config,
        dataset: CTRDataset,
        sampler: None,
        shuffle: bool = True,
        shards: Processes = ALONE,
    ) -> None:
        # The loader iterates over positions in order; collate_fn maps them to rows. ``shuffle`` is
        # there for RecBole's signature alone: whoever does not shuffle makes the class above.
        super().__init__(config, dataset, sampler, False, shards)
        own = slice(self.block.start, self.block.stop)
        start, end = (dataset.inter_feat[column][own] for column in (HISTORY_START, HISTORY_END))
        last, segment = end - 1, dataset.segment_clicks
        if segment > 1:  # the last click of a history is in this segment
            first = dataset.inter_feat[HISTORY_FIRST][own]
            last = first + (last - first) // segment * segment
        # Rows with an empty history are not grouped, or those of all new users would be in one
        # batch.
        self._groups = torch.where(end > start, last, -1 - torch.arange(len(end))).unique(
            return_inverse=True
        )[1]
        self._order: np.ndarray | None = None

    def __iter__(self) -> Iterator[Interaction]:
        self._order = grouped_order(self._groups, self.generator).numpy()
        return super().__iter__()

    def collate_fn(self, index: Any) -> Interaction:
        assert self._order is not None  # drawn by __iter__
        first = self.block.start
        return super().collate_fn(first + self._order[np.asarray(index) - first])


def grouped_order(groups: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random order of the rows ``[R]`` that keeps the rows of a group together, in random order.

    Args:
        groups: ``[R]`` group numbers from 0 on.
    """
    rows = torch.randperm(len(groups), generator=generator)
    places = torch.randperm(int(groups.max()) + 1, generator=generator)
    return rows[torch.argsort(places[groups[rows]], stable=True)]
