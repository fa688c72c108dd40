"""Shims that RecBole 1.2.1 needs on today's numpy, pandas, torch and ray, and nothing else.

Each shim names the RecBole line that it mends. Nothing in site-packages is edited; a global change
only adds what a library has dropped.

Pandas, torch and RecBole are imported inside the functions that need them. `import recbole_genci`
is therefore quick, and a command can answer Ctrl-C while it imports the rest.

Two of RecBole's troubles need no shim, because this plugin does not use those lines:
quick_start/quick_start.py:20 imports ray unconditionally, so nothing here imports
``recbole.quick_start``; trainer/trainer.py:323, 583 unpickle a Config, which torch >= 2.6 refuses,
so ``recbole_genci.training.trainer`` saves and loads without pickle.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

# config/configurator.py:625-636 sets these names from `np.float_`, `np.unicode_`, ... which numpy 2
# removed, and data/interaction.py:31, model/abstract_recommender.py:309, model/layers.py:932, 1408
# use them later.
_NUMPY_ALIASES = {
    "bool": bool,
    "int": int,
    "float": float,
    "complex": complex,
    "object": object,
    "str": str,
    "unicode": str,
    "long": np.int64,
}


def add_numpy_aliases() -> None:
    """Give numpy the type names RecBole reads, where this numpy has none of its own."""
    for name, alias in _NUMPY_ALIASES.items():
        if name not in np.__dict__:
            setattr(np, name, alias)


@contextlib.contextmanager
def tensorboard_in(folder: Path) -> Iterator[None]:
    """Make a trainer that is built inside the block write its TensorBoard curves to ``folder``.

    trainer/trainer.py:115 names the curves after the log file (utils/utils.py:222), which is
    ``run.log`` for every run.
    """
    from recbole.trainer import trainer
    from torch.utils.tensorboard import SummaryWriter

    original = trainer.get_tensorboard
    trainer.get_tensorboard = lambda logger: SummaryWriter(str(folder))
    try:
        yield
    finally:
        trainer.get_tensorboard = original


@contextlib.contextmanager
def without_words_of_one_class() -> Iterator[None]:
    """Leave out what RecBole's AUC says of rows of one class (evaluator/metrics.py:362, 374): it
    names neither the rows nor a remedy, and our callers say it themselves.
    """

    def is_ours(record: logging.LogRecord) -> bool:
        return not record.getMessage().endswith("should be meaningless")

    logging.getLogger().addFilter(is_ours)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(is_ours)


@contextlib.contextmanager
def series_agg_len_by_row() -> Iterator[None]:
    """Make ``series.agg(len)`` return the length of each row again, inside the block only.

    data/dataset/dataset.py:712, 792, 809, 1217 rely on it; pandas 3 returns the length of the
    series instead.
    """
    import pandas as pd

    original = pd.Series.agg

    def agg(self: Any, func: Any = None, *args: Any, **kwargs: Any) -> Any:
        return self.map(len) if func is len else original(self, func, *args, **kwargs)

    pd.Series.agg = agg
    try:
        yield
    finally:
        pd.Series.agg = original


@contextlib.contextmanager
def anomaly_detection_as_it_was() -> Iterator[None]:
    """Restore autograd's anomaly detection after the block, in which RecBole's models are imported.

    model/sequential_recommender/sine.py:25 switches it on for the whole process when any
    sequential model is imported. Every operation then keeps a traceback and every gradient is
    searched for NaN.
    """
    import torch

    enabled = torch.is_anomaly_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(enabled)


@contextlib.contextmanager
def without_syntax_warnings() -> Iterator[None]:
    """Show no SyntaxWarning inside the block, which imports a model of RecBole.

    model/sequential_recommender/dien.py:394, 439 write ``\\p`` in docstrings. Python 3.12 and later
    warn of it when they first compile the file, which after an installation by uv is in the user's
    first run.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        yield


def keep_ranges_of_rows() -> None:
    """Let RecBole's loaders hold the ``range`` of their rows, and ask for a batch of them at once.

    data/dataloader/abstract_dataloader.py:65 makes a list of it, 36 bytes a row, for each loader in
    each process. torch then looks up each row of a batch by itself, which takes two fifths of the
    time of a batch for DeepFM.
    """
    from recbole.data.dataloader import abstract_dataloader

    module: Any = abstract_dataloader
    # Hides the builtin from this module alone, which makes no other lists.
    module.list = lambda rows: RowNumbers(rows) if isinstance(rows, range) else list(rows)


class RowNumbers:
    """The numbers of a loader's rows, as torch's DataLoader asks for them.

    Args:
        rows: from 0 on.
    """

    def __init__(self, rows: range) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> int:
        return self._rows[place]

    def __getitems__(self, places: list[int]) -> list[int]:
        return places


def tell_datasets_from_rows() -> None:
    """Let a loader's ``dataset`` be its row numbers only for torch, as an iteration begins.

    data/dataloader/abstract_dataloader.py:107-118 tell the two apart by a global of the module. One
    thread that begins an iteration changes what all other threads find in their loaders; and where
    the iteration cannot begin, as no process could be started or Ctrl-C was pressed, no loader of
    the program has its dataset again.
    """
    from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
    from torch.utils.data import DataLoader

    begins = ContextVar("begins", default=False)

    def begin(self: Any) -> Iterator[Any]:
        token = begins.set(True)
        try:
            return DataLoader.__iter__(self)
        finally:
            begins.reset(token)

    def attribute(self: Any, name: str) -> Any:
        return object.__getattribute__(
            self, "_dataset" if name == "dataset" and not begins.get() else name
        )

    loader: Any = AbstractDataLoader
    loader.__iter__, loader.__getattribute__ = begin, attribute


def use_current_grad_scaler() -> None:
    """Give RecBole's trainer ``torch.amp``, which has today's ``GradScaler``.

    trainer/trainer.py:30, 235 build ``torch.cuda.amp.GradScaler``, now deprecated, every epoch.
    """
    import recbole.trainer.trainer as recbole_trainer
    import torch

    recbole_trainer.amp = torch.amp


def keep_constants_on_the_device() -> None:
    """Let RecBole's embedding layers keep their constants where the model is.

    model/layers.py:155, 183 copy the offsets of fields from the host in every pass, and lines
    1047, 1097 and model/abstract_recommender.py:397, 467 an epsilon. A GPU's queue waits for such
    a copy, and a CUDA graph cannot capture it. The results are the same to the last bit.
    """
    import torch
    from recbole.model import layers
    from recbole.model.abstract_recommender import ContextRecommender

    def offsets_of(module: Any, index: torch.Tensor) -> torch.Tensor:
        kept = module.__dict__.get("_kept_offsets")
        if kept is None or kept[0] is not module.offsets or kept[1].device != index.device:
            offsets = torch.as_tensor(module.offsets, dtype=index.dtype, device=index.device)
            kept = module.__dict__["_kept_offsets"] = (module.offsets, offsets)
        return kept[1]

    def of_tokens(self: Any, input_x: torch.Tensor) -> torch.Tensor:
        return self.embedding(input_x + offsets_of(self, input_x))

    def of_numbers(self: Any, input_x: torch.Tensor) -> torch.Tensor:
        base, index = torch.split(input_x, [1, 1], dim=-1)
        index = index.squeeze(-1).long()
        return base * self.embedding(index + offsets_of(self, index))

    def mean(embedded: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        mask = (index != 0).float()
        total = (embedded * mask.unsqueeze(-1)).sum(dim=-2)
        return (total / (mask.sum(dim=-1, keepdim=True) + 1e-8)).unsqueeze(-2)

    def of_token_sequences(tables: Any, fields: list[torch.Tensor]) -> torch.Tensor:
        means = [mean(table(field), field) for table, field in zip(tables, fields, strict=True)]
        return torch.cat(means, dim=-2)

    def of_number_sequences(tables: Any, fields: list[torch.Tensor]) -> torch.Tensor:
        means = []
        for table, field in zip(tables, fields, strict=True):
            base, index = torch.split(field, [1, 1], dim=-1)
            index = index.squeeze(-1).long()
            means.append(mean(base * table(index), index))
        return torch.cat(means, dim=-2)

    layers.FMEmbedding.forward = of_tokens
    layers.FLEmbedding.forward = of_numbers
    of_side: Any = layers.ContextSeqEmbAbstractLayer
    of_model: Any = ContextRecommender
    for name, means in (
        ("token_seq", of_token_sequences),
        ("float_seq", of_number_sequences),
    ):
        _replace_means(of_model, name, means, sided=False)
        _replace_means(of_side, name, means, sided=True)


def _replace_means(owner: Any, kind: str, means: Any, *, sided: bool) -> None:
    """Let ``owner.embed_<kind>_fields`` take means by ``means``; sums and maxima stay RecBole's.

    ``sided`` layers have tables for users and for items, and the way of pooling as an attribute.
    """
    name, tables = f"embed_{kind}_fields", f"{kind}_embedding_table"
    original = getattr(owner, name)

    def of_model(self: Any, fields: Any, mode: str = "mean") -> Any:
        if not fields or mode != "mean":  # a model without such fields has no tables
            return original(self, fields, mode)
        return means(getattr(self, tables), fields)

    def of_side(self: Any, fields: Any, type: str) -> Any:
        if not fields or self.pooling_mode in ("max", "sum"):
            return original(self, fields, type)
        return means(getattr(self, tables)[type], fields)

    setattr(owner, name, of_side if sided else of_model)
