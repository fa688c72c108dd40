"""RecBole's loaders over the parts of a CTRDataset, and the summary that is logged before a run."""

from __future__ import annotations

import logging
import math
import multiprocessing
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from recbole.data.dataloader import AbstractDataLoader, TrainDataLoader
from recbole.data.interaction import Interaction
from recbole.data.utils import get_dataloader

from recbole_genci import compat
from recbole_genci.config import Config
from recbole_genci.data.column_names import HISTORY_END, HISTORY_FIRST, HISTORY_START, TIME_RANK
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.history import rounding_of
from recbole_genci.data.shuffling import ShuffledRows
from recbole_genci.utils.distributed import ALONE, Processes
from recbole_genci.utils.words import are, counted

_logger = logging.getLogger(__name__)
compat.keep_ranges_of_rows()
compat.tell_datasets_from_rows()

PARTS = ("train", "valid", "test")
_NO_OTHERS = 'docs/faq.md, "All rows are clicks",'
_NEARLY_ALL = 0.95  # of rows or clicks: so many equal times are no chance
_FEW_TEST_ROWS = 1000  # with so many the standard error of an AUC is about .015
_FEW_STEPS = 10  # of an epoch; with fewer, early stopping ends a run that has hardly begun


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
    codes = None
    if config.model_class.reads_semantic_ids:
        assert semantic_ids is not None
        codes = semantic_ids.aligned(part.field2id_token[part.iid_field])
    view = part.view(config, codes)
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
        # The loader iterates over positions in order; collate_fn maps them to rows.
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


def summarise(parts: Sequence[CTRDataset]) -> pd.DataFrame:
    """One line per part: rows, users, items, share of positives, history lengths.

    What rows do not have is left out.
    """
    rows = []
    for name, part in zip(PARTS, parts):
        feat = part.inter_feat
        line: dict[str, Any] = {"part": name, "rows": len(part)}
        for noun, field in part.id_fields.items():
            line[f"{noun}s"] = np.count_nonzero(_seen(part, field))
        line["positive"] = (
            feat[part.label_field].double().mean().item() if len(part) else float("nan")
        )
        if part.has_histories:
            length = part.history_lengths
            line |= {
                "mean history": length.mean() if len(part) else float("nan"),
                "median history": np.median(length) if len(part) else float("nan"),
                "empty history": (length == 0).mean() if len(part) else float("nan"),
            }
        rows.append(line)
    return pd.DataFrame(rows).set_index("part")


def _seen(part: CTRDataset, field: str) -> np.ndarray:
    """Which ids ``[V]`` bool of a token field are in a part's rows."""
    seen = np.zeros(len(part.field2id_token[field]), dtype=bool)
    seen[part.inter_feat[field].numpy()] = True
    return seen


def log_summary(parts: Sequence[CTRDataset]) -> None:
    """Log the summary, and warn about rows that would spoil the metrics.

    Raises:
        ValueError: a part has no rows, or the validation part has one class only.
    """
    whole, table = parts[0], summarise(parts)
    histories = "without histories"
    if whole.has_histories:
        histories = (
            f"histories: {whole.config['history_labels']} rows of "
            f"{'the past' if whole.history_source == 'past' else 'the training part'}, at most "
            f"{whole.config['MAX_ITEM_LIST_LENGTH']} items"
        )
    shown = table.round(4).rename_axis(None).to_string()
    _logger.info(f"Rows of {whole.dataset_name} ({histories})\n{shown}")
    for name, part in zip(PARTS, parts):
        if len(part) == 0:
            raise ValueError(_without_rows(parts, name))
    for name, part in zip(PARTS, parts):
        if table.loc[name, "positive"] in (0.0, 1.0):
            if table["positive"].nunique() == 1:
                rows, advice = "without a click", ""
                if table.loc[name, "positive"]:
                    rows = "clicks"
                    advice = f" {_NO_OTHERS} says what to do if the data have no others."
                raise ValueError(
                    f"All rows are {rows}: labels must be of both kinds, as nothing is sampled. "
                    f"Check threshold and the column that the label is made of.{advice}"
                )
            if name == "valid":  # early stopping compares its AUC
                raise ValueError(
                    "The valid part has one class only, so that its AUC, by which the best epoch "
                    "is chosen, is undefined. Change threshold or eval_args."
                )
            _logger.warning(
                f"The {name} part has one class "
                f"only{': its AUC is undefined' if name == 'test' else ''}."
            )
        if name != "train":
            _warn_of_new(parts, part, name)
    _warn_of_rounded_times(whole)
    _warn_of_few_steps(whole.config, len(whole))
    if (tested := len(parts[-1])) < _FEW_TEST_ROWS:
        _logger.info(
            f"With {counted(tested, 'test row')} two models may differ by several hundredths of "
            "AUC by chance; --experiment=compare gives intervals."
        )


def trains_in_few_steps(rows: int, batch_size: int) -> bool:
    """Whether an epoch over so many training rows has only a few steps."""
    return -(-rows // batch_size) < _FEW_STEPS


def _warn_of_few_steps(config: Config, rows: int) -> None:
    """Warn of batches that are so large, for so few rows, that no model learns much in an epoch."""
    size, smaller = config["train_batch_size"], 2
    if not trains_in_few_steps(rows, size):
        return
    while not trains_in_few_steps(rows, 2 * smaller):
        smaller *= 2
    if smaller >= size:
        return
    made = (
        f"train_batch_size: {counted(rows, 'training row')} in batches of {size} make only "
        f"{counted(-(-rows // size), 'step')} an epoch"
    )
    if config["min_patience_steps"] >= _FEW_STEPS * (config["stopping_step"] + 1):
        _logger.info(
            f"{made}, so that a run takes many epochs. --train_batch_size={smaller} takes fewer."
        )
    else:
        _logger.warning(
            f"{made}, so that early stopping may end a run before the model has learned; set a "
            f"smaller one, such as --train_batch_size={smaller}."
        )


def _without_rows(parts: Sequence[CTRDataset], name: str) -> str:
    """Say that the part ``name`` has no rows, and how many rows a split needs."""
    whole, rows = parts[0], sum(map(len, parts))
    args = whole.config["eval_args"]
    (mode, shares), grouped = next(iter(args["split"].items())), args["group_by"] == "user"
    there = f"there {are(rows)} {counted(rows, 'row')} in all"
    if mode == "LS" or mode == "RS" and grouped:
        assert whole.uid_field is not None
        users = np.concatenate([part.inter_feat[whole.uid_field].numpy() for part in parts])
        there += f", and no user has more than {np.bincount(users).max()}"
    takes = "which takes 3 for one in each part"
    if mode == "LS":
        there += f"; each user's last two rows are held out, {takes}"
    elif mode == "RS":
        whose = "each user's" if grouped else "all"
        there += f"; {whose} rows are divided, {takes} and about {_rows_of_ratio(shares)}"
    return (
        f"eval_args: the split leaves no {name} rows: {there}. Give more rows, or change split in "
        "eval_args."
    )


def _rows_of_ratio(shares: Sequence[float]) -> str:
    """How many rows a ratio takes: ``10 for 8:1:1``."""
    smallest, total = min(shares), sum(shares)
    ratio = ":".join(f"{round(share / smallest, 1):g}" for share in shares)
    return f"{math.ceil(total / smallest - 1e-9)} for {ratio}"


def _warn_of_new(parts: Sequence[CTRDataset], part: CTRDataset, name: str) -> None:
    """Warn of items that training has not seen, and of rows none of which has a history."""
    whole = parts[0]
    if whole.iid_field is not None:
        new = ~_seen(whole, whole.iid_field)[part.inter_feat[whole.iid_field].numpy()]
        if new.any():
            _logger.warning(
                f"{new.sum()} of {len(part)} {name} rows ({new.mean():.2%}) {are(new.sum())} about "
                "items unseen in training."
            )
    if whole.has_histories and not part.history_lengths.any():
        _logger.warning(
            f"No {name} row has a history: models that read histories have nothing to read"
            f"{_why_no_history(parts)}"
        )


def _why_no_history(parts: Sequence[CTRDataset]) -> str:
    """The rest of the sentence which says if equal times are why rows have no history."""
    whole = parts[0]
    ranks = np.concatenate([part.inter_feat[TIME_RANK].numpy() for part in parts])
    same, clicks, tied = np.bincount(ranks).max(), len(whole.history.keys), whole.history.num_tied()
    if same >= _NEARLY_ALL * len(ranks):
        share = "all" if same == len(ranks) else f"{same:,} of"
        what = f"{share} {counted(len(ranks), 'row')} have the same '{whole.time_field}'"
    elif clicks and tied >= _NEARLY_ALL * clicks:
        share = "all" if tied == clicks else f"{tied:,} of"
        what = (
            f"{share} {counted(clicks, 'click')} share their '{whole.time_field}' with another "
            "click of their user"
        )
    else:
        return "."
    return f", as {what}; is it the right column (TIME_FIELD)?"


def _warn_of_rounded_times(whole: CTRDataset) -> None:
    """Warn if times are rounded so that most clicks are of the same time as another of their user.

    Ties alone are no fault: two of three clicks of MovieLens have one, and times may be days.
    """
    rounding = None if whole.rank_times is None else rounding_of(whole.rank_times)
    if rounding is None or not whole.has_histories:
        return
    clicks, tied = len(whole.history.keys), whole.history.num_tied()
    if tied > clicks / 2:
        _logger.warning(
            f"'{whole.time_field}' seems to be rounded to {rounding}: {tied:,} of "
            f"{counted(clicks, 'click')} share their time with another click of their user, and "
            "neither is in the other's history. Write times with all their digits."
        )
