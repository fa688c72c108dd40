"""Every shim that RecBole 1.2.1 needs on today's numpy, pandas, torch and ray, and nothing else.

Pandas, torch and RecBole are imported where they are needed: `import recbole_genci` is quick, so
    that a command can answer Ctrl-C
while it imports the rest.

Each names the RecBole line it mends. Nothing in site-packages is edited; global changes only add
what a library dropped.

Two of RecBole's troubles need no shim, because this plugin goes round the lines in question:
quick_start/quick_start.py:20 imports ray unconditionally, so nothing here imports
``recbole.quick_start``; trainer/trainer.py:323, 583 unpickle a Config, which torch >= 2.6 refuses,
so ``recbole_genci.training.trainer`` saves and loads without pickle.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
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
    """Have a trainer that is made inside the block write its curves to ``folder``.

    trainer/trainer.py:115 names them after the log file (utils/utils.py:222), which is ``run.log``
    for every run.
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
def series_agg_len_by_row() -> Iterator[None]:
    """Make ``series.agg(len)`` the length of each row again, inside the block only.

    data/dataset/dataset.py:712, 792, 809, 1217 rely on it; since pandas 3 it is the length of the
    series itself.
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
    """model/sequential_recommender/sine.py:25 switches autograd's anomaly detection on, for the
    whole process, as soon as any
    sequential model is imported: every operation then keeps a traceback and every gradient is
        searched for NaN.
    """
    import torch

    enabled = torch.is_anomaly_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(enabled)


@contextlib.contextmanager
def without_syntax_warnings():
    """model/sequential_recommender/dien.py:394, 439 write ``\\p`` in docstrings. Python 3.12 and later warn of it when they first
    compile the file, which after an installation by uv is in the user's first run.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        yield


def use_current_grad_scaler() -> None:
    """trainer/trainer.py:30, 235 build ``torch.cuda.amp.GradScaler`` every epoch, which torch has
    deprecated.
    """
    import recbole.trainer.trainer as recbole_trainer
    import torch

    recbole_trainer.amp = torch.amp
