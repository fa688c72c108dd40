"""The training state of a run in one file without pickled objects, from which it resumes exactly.

The file is a safetensors file: tensors by name, everything else as JSON in its header, and a digest
over both, which is checked before anything is restored. The state also says which configuration,
rows and weights lie beside it.

On a GPU a resumed run may differ in rounding, because the order in which its kernels add differs
from run to run.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from recbole.data.dataloader import AbstractDataLoader
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recbole_genci.training.random_state import random_state, set_random_state
from recbole_genci.training.saved_files import COPY_OR_ANEW
from recbole_genci.utils.digests import tensors_digest
from recbole_genci.utils.layout import (
    CONFIG_FILE,
    METRICS_FILE,
    NEXT_WEIGHTS_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
)
from recbole_genci.utils.mappings import read_mapping
from recbole_genci.utils.run_folders import newest_below
from recbole_genci.utils.sha256 import sha256_of
from recbole_genci.utils.words import counted
from recbole_genci.utils.writing import write_atomically

if TYPE_CHECKING:
    from recbole.trainer import Trainer

_ANEW = "Delete the folder and start the run anew."
_MODEL, _OPTIMIZER, _AVERAGE, _RANDOM = "model/", "optimizer/", "average/", "random/"


@dataclass(frozen=True)
class TrainingState:
    """The content of a state file, whose digest has been checked.

    Attributes:
        tensors: weights, the optimiser's moments and random states, by name.
        facts: everything else.
    """

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]

    def tensors_of(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors whose names begin with ``prefix``, by the rest of the name."""
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }


def save_training_state(
    folder: Path, trainer: Trainer, epoch: int, loader: AbstractDataLoader, identity: dict
) -> None:
    """Write the state file atomically, after an epoch and its evaluation.

    If the epoch is the best one so far, its weights lie in ``NEXT_WEIGHTS_FILE``. They take their
    place once the state that knows their digest is there, so that state and weights fit together
    whenever the process is killed.

    Args:
        folder: the run's folder.
        trainer: the trainer to save.
        epoch: the epoch that ended, from 0.
        loader: the training loader.
        identity: names and hashes of the training data; they must be the same on resuming.
    """
    random_tensors, random_facts = random_state(loader)
    moments, optimizer = _optimizer_state(trainer.optimizer)
    tensors = {
        **{_MODEL + name: tensor for name, tensor in trainer.objective.state_dict().items()},
        **{_OPTIMIZER + name: tensor for name, tensor in moments.items()},
        **{_RANDOM + name: tensor for name, tensor in random_tensors.items()},
    }
    if trainer.average:
        tensors |= {_AVERAGE + name: each for name, each in trainer.average.state().items()}
    facts = {
        "average_steps": trainer.average.steps if trainer.average else None,
        "optimizer": optimizer,
        "epoch": epoch,
        "training_s": trainer.training_s,
        "epochs_without_improvement": trainer.cur_step,
        "best_valid_score": float(trainer.best_valid_score),
        "best_valid_result": {k: float(v) for k, v in trainer.best_valid_result.items()},
        "best_epoch": trainer.best_epoch,
        "random": random_facts,
        "identity": identity,
        "weights_sha256": trainer.weights_sha256,
        **trainer.inputs,
    }
    write_state(folder / STATE_FILE, tensors, facts)
    settle_weights(folder, trainer.weights_sha256)


def write_state(file: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping) -> None:
    """Write a state file atomically. Tensors may share memory."""
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(facts)
    about = {"state": text, "sha256": tensors_digest(stored, text)}
    write_atomically(file, lambda path: save_file(stored, path, about))


def _optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict]:
    """An optimiser's state as tensors ``<parameter>/<name>`` and as JSON."""
    state = optimizer.state_dict()
    tensors, numbers = {}, []
    for parameter, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{parameter}/{name}"] = value
            else:
                numbers.append([parameter, name, value])
    return tensors, {"groups": state["param_groups"], "numbers": numbers}


def _restored_optimizer(tensors: Mapping[str, torch.Tensor], facts: Mapping) -> dict:
    """What ``_optimizer_state`` took apart."""
    state: dict[int, dict[str, Any]] = {}
    for path, tensor in tensors.items():
        parameter, _, name = path.partition("/")
        state.setdefault(int(parameter), {})[name] = tensor
    for parameter, name, value in facts["numbers"]:
        state.setdefault(parameter, {})[name] = value
    groups = [
        {
            name: tuple(value) if isinstance(value, list) and name != "params" else value
            for name, value in group.items()
        }
        for group in facts["groups"]
    ]
    return {"state": state, "param_groups": groups}


def training_state_file(folder: Path) -> Path:
    """The file that ``save_training_state`` wrote.

    Raises:
        FileNotFoundError: it does not exist, because the run has finished, has lost its figures, or
            stopped before its first epoch ended.
        ValueError: the run keeps no state.
    """
    file = folder / STATE_FILE
    if not file.is_file():
        if (folder / METRICS_FILE).is_file():
            raise FileNotFoundError(
                f"resume: the run in {folder} has finished. Its figures are in metrics.json, and "
                "recbole_genci.load reads its model."
            )
        kind = ValueError if _had_several_processes(folder) else FileNotFoundError
        raise kind(f"resume: {why_not_finished(folder)}")
    return file


def why_not_finished(folder: Path) -> str:
    """Sentences on the folder of a run without ``metrics.json``: why, and what to do."""
    if (folder / STATE_FILE).is_file():
        return (
            f"{folder} has no {METRICS_FILE}: the run has not finished. Resume it by "
            f"--resume={folder}."
        )
    if _had_several_processes(folder):
        return (
            f"{folder} was trained by several processes (nproc) and has no {METRICS_FILE}: it has "
            "not finished, or lost the file, and such a run keeps no state to resume from. Start "
            "it anew."
        )
    # The state is removed once the figures are there, and there are no weights before the state.
    if (folder / WEIGHTS_FILE).is_file():
        return (
            f"{folder} has no {METRICS_FILE} although the run had finished: {WEIGHTS_FILE} is "
            f"there, and {STATE_FILE} is not. Take {METRICS_FILE} from a copy of the folder, or "
            "train the run anew."
        )
    if below := newest_below("run", folder, CONFIG_FILE):  # of a search, which has a config.yaml
        return f"{folder} is not the folder of a run: it has no {METRICS_FILE}.{below}"
    return (
        f"{folder} has no {METRICS_FILE} and no {STATE_FILE}: the run stopped before its first "
        "epoch ended. Start it anew."
    )


def _had_several_processes(folder: Path) -> bool:
    """Whether a run's ``config.yaml`` says so."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        return False
    saved = read_mapping(file, ["model", "dataset"], COPY_OR_ANEW)
    numbers = [saved.get(key) for key in ("nproc", "world_size")]
    return any(isinstance(number, int) and number > 1 for number in numbers)


def read_state(folder: Path) -> TrainingState:
    """Read the training state of a folder, and check its digest.

    Raises:
        FileNotFoundError: the folder holds no training state.
        ValueError: the file is damaged.
    """
    file = training_state_file(folder)
    try:
        with safe_open(file, "pt") as stored:
            about = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"resume: {file} is damaged ({reason}). {_ANEW}") from error
    text = about.get("state", "")
    if about.get("sha256") != tensors_digest(tensors, text):
        raise ValueError(
            f"resume: {file} is damaged: its content does not fit its own digest. {_ANEW}"
        )
    return TrainingState(tensors, json.loads(text))


def settle_weights(folder: Path, sha256: str) -> None:
    """Put the best weights with this digest in their place; forget others that wait there.

    Raises:
        ValueError: the weights that lie there are others.
    """
    file, waiting = folder / WEIGHTS_FILE, folder / NEXT_WEIGHTS_FILE
    if waiting.is_file():
        if sha256_of(waiting) == sha256:
            os.replace(waiting, file)
            return
        waiting.unlink()  # of an epoch whose state was not written
    if not file.is_file() or sha256_of(file) != sha256:
        what = "is missing"
        if file.is_file():
            what = f"is damaged or of another run: {STATE_FILE} holds another digest"
        raise ValueError(
            f"resume: {file} {what}. Take it from a copy, or delete the folder and start the run "
            "anew."
        )


def _check_groups(folder: Path, saved: Sequence[Mapping], configured: Sequence[Mapping]) -> None:
    """Refuse a learning rate or a decay that has changed since the groups were saved.

    The optimiser's state would silently restore the old value, or give moments to other weights.
    """
    for key, name in (("lr", "learning_rate"), ("weight_decay", "weight_decay")):
        before, now = _by_parameter(saved, key), _by_parameter(configured, key)
        if before != now:
            raise ValueError(
                f"resume: {folder} was trained with {name} {_of_parameters(before)}, its "
                f"configuration now says {_of_parameters(now)}. Restore the value, or start a new "
                "run."
            )
    sizes, now_sizes = _sizes(saved), _sizes(configured)
    if sizes != now_sizes:
        raise ValueError(
            f"resume: {folder} was trained with another weight_decay_of: its groups have "
            f"{sizes} parameters, by its configuration now {now_sizes}. Restore the value, or "
            "start a new run."
        )


def _by_parameter(groups: Sequence[Mapping], key: str) -> dict[int, float]:
    """The groups' value of ``key``, by the numbers of their parameters."""
    return {number: group[key] for group in groups for number in group["params"]}


def _sizes(groups: Sequence[Mapping]) -> list[int]:
    return [len(group["params"]) for group in groups]


def _of_parameters(numbers: Mapping[int, float]) -> str:
    """``0.1``, or of groups that differ ``0.1 (2 parameters), 0 (7 parameters)``."""
    counts = Counter(f"{number:g}" for number in numbers.values())
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(
        f"{number} ({counted(times, 'parameter')})" for number, times in counts.items()
    )


def load_training_state(
    folder: Path, trainer: Trainer, loader: AbstractDataLoader, identity: dict
) -> None:
    """Restore the state that ``save_training_state`` saved; the trainer continues with the next
    epoch.

    Raises:
        FileNotFoundError: the folder holds no training state.
        ValueError: a file is damaged, or the rows, semantic IDs, learning rate or weight decay of
            some weights differ from those that the run was trained with.
    """
    state = read_state(folder)
    facts = state.facts
    for name, now in identity.items():
        before = facts["identity"].get(name)
        if before != now:
            raise ValueError(
                f"resume: {folder} was trained on {name} {str(before)[:12]}, but its configuration "
                f"now gives {str(now)[:12]}. Restore the files it read, or start a new run."
            )
    saved_groups = facts["optimizer"]["groups"]
    _check_groups(folder, saved_groups, trainer.optimizer.state_dict()["param_groups"])
    settle_weights(folder, facts["weights_sha256"])
    trainer.objective.load_state_dict(state.tensors_of(_MODEL))
    trainer.optimizer.load_state_dict(
        _restored_optimizer(state.tensors_of(_OPTIMIZER), facts["optimizer"])
    )
    if trainer.average:
        trainer.average.load(state.tensors_of(_AVERAGE), facts["average_steps"])
    trainer.seconds_before = facts["training_s"]
    trainer.start_epoch = facts["epoch"] + 1
    trainer.epochs_trained = facts["epoch"] + 1
    trainer.cur_step = facts["epochs_without_improvement"]
    trainer.best_valid_score, trainer.best_valid_result = (
        facts["best_valid_score"],
        facts["best_valid_result"],
    )
    trainer.best_epoch = facts["best_epoch"]
    trainer.weights_sha256 = facts["weights_sha256"]
    set_random_state(state.tensors_of(_RANDOM), facts["random"], loader)
