"""The training state of a run in one file without pickled objects, from which it resumes exactly.

On a GPU a resumed run may differ in rounding, because the order in which its kernels add differs
from run to run.
"""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader

from recbole_genci.utils.files import write_atomically
from recbole_genci.utils.layout import METRICS_FILE, STATE_FILE

if TYPE_CHECKING:
    from recbole.trainer import Trainer

_STATE = {
    "model",
    "optimizer",
    "epoch",
    "epochs_without_improvement",
    "best_valid_score",
    "best_valid_result",
    "best_epoch",
    "random",
    "identity",
}


def random_state(loader: AbstractDataLoader) -> dict:
    """The states of all random generators of training: torch's, its GPU's, numpy's, Python's and
    the loader's.
    """
    state = np.random.get_state()
    assert isinstance(state, tuple)  # a dict only where it is asked for
    name, keys, position, has_gauss, gauss = state
    return {
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "python": random.getstate(),
        "loader": loader.generator.get_state(),
    }


def set_random_state(state: dict, loader: AbstractDataLoader) -> None:
    """Restore the states that ``random_state`` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0])  # the GPU of this process
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, values, gauss_next = state["python"]
    random.setstate((version, tuple(values), gauss_next))
    loader.generator.set_state(state["loader"])


def save_training_state(
    folder: Path, trainer: Trainer, epoch: int, loader: AbstractDataLoader, identity: dict
) -> None:
    """Write ``training.pt`` atomically, after an epoch and its evaluation.

    Args:
        folder: the run's folder.
        trainer: the trainer to save.
        epoch: the epoch that ended, from 0.
        loader: the training loader.
        identity: names and hashes of the training data; they must be the same on resuming.
    """
    state = {
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "epoch": epoch,
        "epochs_without_improvement": trainer.cur_step,
        "best_valid_score": float(trainer.best_valid_score),
        "best_valid_result": {k: float(v) for k, v in trainer.best_valid_result.items()},
        "best_epoch": trainer.best_epoch,
        "random": random_state(loader),
        "identity": identity,
    }
    write_atomically(folder / STATE_FILE, lambda path: torch.save(state, path))


def training_state_file(folder: Path) -> Path:
    """The file that ``save_training_state`` wrote.

    Raises:
        FileNotFoundError: it does not exist, because the run stopped before its first epoch ended,
            or because it has finished.
    """
    file = folder / STATE_FILE
    if not file.is_file():
        if (folder / METRICS_FILE).is_file():
            raise FileNotFoundError(
                f"resume: the run in {folder} has finished. Its figures are in metrics.json, and "
                "recbole_genci.load reads its model."
            )
        raise FileNotFoundError(
            f"resume: {file} does not exist. The run stopped before its first epoch ended; start "
            "it anew."
        )
    return file


def load_training_state(
    folder: Path, trainer: Trainer, loader: AbstractDataLoader, identity: dict
) -> None:
    """Restore the state that ``save_training_state`` saved; the trainer continues with the next
    epoch.

    Raises:
        FileNotFoundError: the folder holds no training state.
        ValueError: the file is damaged, or the rows, semantic IDs, learning rate or weight decay
            differ from those that the run was trained with.
    """
    file = training_state_file(folder)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        missing = _STATE - set(state)
    except (
        RuntimeError,
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"resume: {file} is damaged ({reason}). Start the run anew.") from error
    if missing:
        raise ValueError(
            f"resume: {file} lacks {', '.join(sorted(missing))}; it is damaged or no training "
            "state. Start the run anew."
        )
    for name, now in identity.items():
        before = state["identity"].get(name)
        if before != now:
            raise ValueError(
                f"resume: {folder} was trained on {name} {str(before)[:12]}, but its configuration "
                f"now gives {str(now)[:12]}. Restore the files it read, or start a new run."
            )
    stored, configured = (
        each["param_groups"][0] for each in (state["optimizer"], trainer.optimizer.state_dict())
    )
    for key, name in (("lr", "learning_rate"), ("weight_decay", "weight_decay")):
        # The optimiser's state would silently restore the old value.
        if stored.get(key) != configured.get(key):
            raise ValueError(
                f"resume: {folder} was trained with {name} {stored[key]:g}, its configuration now "
                f"says {configured[key]:g}. Restore the value, or start a new run."
            )
    trainer.model.load_state_dict(state["model"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.start_epoch = state["epoch"] + 1
    trainer.epochs_trained = state["epoch"] + 1
    trainer.cur_step = state["epochs_without_improvement"]
    trainer.best_valid_score, trainer.best_valid_result = (
        state["best_valid_score"],
        state["best_valid_result"],
    )
    trainer.best_epoch = state["best_epoch"]
    set_random_state(state["random"], loader)
