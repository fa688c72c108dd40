"""One trial: the search's configuration with some values changed, trained on the shared rows in a
folder of its own.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from safetensors import SafetensorError

from recbole_genci.config import Config
from recbole_genci.config.key_source import DICT, FILE
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.training.console import Heading
from recbole_genci.training.resuming import train_or_resume
from recbole_genci.tuning.space import canonical
from recbole_genci.utils.layout import CONFIG_FILE, LOG_FILE

_logger = logging.getLogger(__name__)

KEPT = (CONFIG_FILE, LOG_FILE)  # of a trial that is not the best

_TORCH_CANNOT_WRITE = (
    "PytorchStreamWriter failed",
    "inline_container.cc",
)  # its RuntimeErrors of a full disk
# A searched value that names a file which is not there, or under which a run saves no weights, is a
# bad value.
_OF_VALUES = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class MachineFailed(RuntimeError):
    """A trial could not be run here (a full disk, no memory), whatever its values: that is no
    outcome of theirs.
    """

    def __init__(self, number: int, reason: str):
        super().__init__(number, reason)
        self.number, self.reason = number, reason

    def __str__(self):
        return (
            f"trial {self.number} could not be run here ({self.reason}). The search has kept the "
            "trials before it: mend the "
            "machine and go on by --resume_search=<folder>, which runs this trial again."
        )


def is_of_the_machine(error: Exception) -> bool:
    """Whether a trial died of where it ran, and not of its values or its model. Memory of a GPU
    that values are too large for is theirs, as torch's OutOfMemoryError is.
    """
    if isinstance(error, (OSError, MemoryError, SafetensorError)):
        return not isinstance(error, _OF_VALUES)
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in _TORCH_CANNOT_WRITE
    )


def described(error: Exception) -> str:
    """An error as tables and journals show it."""
    return f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class Shared:
    """What all trials of a search share.

    Attributes:
        config_file: YAML file of the configuration that trials start from.
        parts: training, validation and test part.
        semantic_ids: of the items, where the model reads them.
        placement: keys that say where trials run here.
    """

    config_file: Path
    parts: list
    semantic_ids: SemanticIDs | None
    placement: dict = field(default_factory=dict)

    def config(self, params: dict, folder: Path) -> Config:
        """The Config of a trial whose run lies below ``folder``; raises ValueError where the values
        do not fit together.
        """
        asked = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        values = params | self.placement | {"checkpoint_dir": str(folder)}
        config = Config(asked["model"], asked["dataset"], [str(self.config_file)], values)
        config.model_class.check_settings(config)
        return config


def folder_of(search_folder: Path, number: int) -> Path:
    """Where a trial's run lies."""
    return search_folder / "trials" / f"{number:04d}"


def train(
    shared: Shared,
    params: dict,
    folder: Path,
    callback_fn: Callable[[int, float], None] | None = None,
) -> dict:
    """Train a trial and validate it; its test rows are not looked at. A trial that was stopped goes
    on.

    Args:
        folder: of this trial alone, as ``folder_of`` names it.
        callback_fn: called with each evaluated epoch and its validation score.

    Returns:
        dict: ``score`` (of ``valid_metric``), ``valid`` metrics, ``best_epoch``, ``epochs``,
            ``training_s``.

    Raises:
        ValueError: values that do not fit together, a loss or a score that is not finite.
    """
    config = shared.config(params, folder)
    _forget_other_values(params, folder)
    heading = _heading(config, f"trial {int(folder.name)}" if folder.name.isdigit() else "a trial")
    run = train_or_resume(
        config, shared.parts, shared.semantic_ids, folder, False, callback_fn, heading
    )
    score = run["best_valid"][str(config["valid_metric"]).lower()]
    if score is None:
        raise ValueError(
            f"valid_metric: {config['valid_metric']} of the validation rows is undefined."
        )
    return {
        "score": score,
        "valid": run["best_valid"],
        **{k: run[k] for k in ("best_epoch", "epochs", "training_s")},
    }


def _forget_other_values(params: dict, folder: Path) -> None:
    """Remove a stopped run of other values: with lines taken out of the journal, trials are
    numbered anew.
    """
    for file in folder.glob(f"*/{CONFIG_FILE}"):
        before = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        if canonical({name: before.get(name) for name in params}) != canonical(params):
            _logger.warning(
                f"{file.parent} holds a stopped run of other values; it is removed, and the trial "
                "starts anew."
            )
            shutil.rmtree(file.parent)


def finish(shared: Shared, params: dict, folder: Path) -> dict:
    """Test a trained trial: the content of its ``metrics.json``."""
    config = shared.config(params, folder)
    heading = _heading(config, "the selected trial")
    return train_or_resume(config, shared.parts, shared.semantic_ids, folder, heading=heading)


def _heading(config, which: str) -> Heading:
    return Heading.of(
        config, f"{which}, seed {config['seed']}", {DICT: "this trial", FILE: "the search"}
    )


def clean(folder: Path) -> None:
    """Remove weights, rows and training state of a trial; its configuration and log stay."""
    for path in folder.glob("*/*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in KEPT:
            path.unlink()
