"""A run's figures go to each program that ``track`` names, and the run ends where ours ends."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from recbole_genci.config import Config
from recbole_genci.config.trackers import MLFLOW, TENSORBOARD, WANDB, key_of, trackers
from recbole_genci.training.tracking.mlflow import MlflowRun
from recbole_genci.training.tracking.tensorboard import TensorboardRun
from recbole_genci.training.tracking.tracker import RunFacts, Tracker
from recbole_genci.training.tracking.wandb import WandbRun
from recbole_genci.utils.interrupts import exit_status
from recbole_genci.utils.layout import TRACKED_FILE
from recbole_genci.utils.mappings import read_mapping
from recbole_genci.utils.value_checks import is_whole
from recbole_genci.utils.writing import write_json

_logger = logging.getLogger(__name__)

_LONGEST_REASON = 200  # characters; MLflow's hold whole SQL statements
_OPENED: Mapping[str, Callable[[RunFacts], Tracker]] = {WANDB: WandbRun, MLFLOW: MlflowRun}


def check_trackers(config: Config) -> None:
    """Check before anything is read that the programs of ``track`` can be had.

    Raises:
        ImportError: a package is not installed.
        ValueError: the host program has a W&B run open, which all models would share.
    """
    names = trackers(config)
    for name in names:
        package, key = importlib.util.find_spec(name), key_of(config, name)
        # W&B leaves a folder wandb/ where it runs, which is not the package.
        if package is None or package.origin is None:
            raise ImportError(
                f"{key}: it needs the package {name}, which is not installed: pip install {name}. "
                f"Or {_without(key, name)}."
            )
    host = sys.modules.get("wandb") if WANDB in names else None
    if getattr(host, "run", None) is not None:
        key = key_of(config, WANDB)
        raise ValueError(
            f"{key}: this program has a W&B run open already, but each model gets one of its own. "
            f"Call wandb.finish() first, or {_without(key, WANDB)}."
        )


def _without(key: str, name: str) -> str:
    return f"leave {name} out of track" if key == "track" else f"leave {key} out"


class TrackedRun:
    """A run in all programs that show it; none until ``open`` is called.

    A program that fails while the run is trained gets no further figures; a warning says so, and
    the run goes on, as its own folder has everything. A run that was stopped between two
    evaluations trains some epochs again when it is resumed: no program is told them twice.

    Args:
        folder: the run's folder, which keeps what was told; None if no program is opened.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._trackers: dict[str, Tracker] = {}
        self._in_event_file: RunFacts | None = None
        self._file = folder and folder / TRACKED_FILE
        # By program and part: the number of the last epoch.
        self._told = _read_told(self._file) if self._file and self._file.is_file() else {}

    def open(self, name: str, facts: RunFacts) -> None:
        """Open the run in a program; in TensorBoard, once there is a writer.

        Raises:
            ConnectionError: the program opened none.
        """
        if name == TENSORBOARD:
            self._in_event_file = facts
        else:
            self._add(name, _OPENED[name](facts))

    def write_to(self, writer: SummaryWriter) -> None:
        """Let TensorBoard, if it is one of the programs, show the run in RecBole's event file."""
        if self._in_event_file is not None:
            self._add(TENSORBOARD, TensorboardRun(writer, self._in_event_file))

    def _add(self, name: str, tracker: Tracker) -> None:
        self._trackers[name] = tracker
        if not tracker.continues:
            self._told.pop(name, None)

    def log(self, part: str, figures: Mapping[str, float], epoch: int) -> None:
        """Losses (``train``) or metrics (``valid``) of an epoch, from 1."""
        new = {name for name in self._trackers if epoch > self._told.get(name, {}).get(part, 0)}
        self._tell(lambda tracker: tracker.log(part, figures, epoch), new)
        for name in new & self._trackers.keys():
            self._told.setdefault(name, {})[part] = epoch
        if new and self._file:
            write_json(self._file, {"told": self._told})

    def log_test(self, metrics: Mapping[str, float]) -> None:
        """The test metrics of the best epoch."""
        self._tell(lambda tracker: tracker.log_test(metrics))

    def close(self, exit_code: int) -> None:
        """End the run; see `Tracker.close`."""
        self._tell(lambda tracker: tracker.close(exit_code))

    def _tell(self, say: Callable[[Tracker], None], to: Collection[str] | None = None) -> None:
        for name, tracker in list(self._trackers.items()):
            if to is not None and name not in to:
                continue
            try:
                say(tracker)
            except tracker.errors as error:
                del self._trackers[name]
                _logger.warning(
                    f"track: {name} failed and gets no more figures of this run, which goes on: "
                    f"{textwrap.shorten(str(error), _LONGEST_REASON)}"
                )


def _read_told(file: Path) -> dict[str, dict[str, int]]:
    remedy = "Delete it; epochs that are trained again may then be shown twice."
    told = read_mapping(file, ["told"], remedy, "track")["told"]
    parts = list(told.values()) if isinstance(told, dict) else [None]
    if not all(isinstance(each, dict) and all(map(is_whole, each.values())) for each in parts):
        raise ValueError(f"track: {file} is damaged. {remedy}")
    return told


@contextlib.contextmanager
def tracked_run(config: Config, folder: Path, keys: Mapping[str, Any]) -> Iterator[TrackedRun]:
    """Show a run in the programs of ``track`` inside the block, named after ``folder``.

    It ends with the block, as failed if the block raises. If an earlier block has opened it in a
    program, it continues there.

    Args:
        config: the run's Config.
        folder: the run's folder.
        keys: the configuration, as plain values.

    Raises:
        ConnectionError: a program opened no run; says why.
    """
    tags = {name: str(config[name]) for name in ("model", "dataset", "seed")}
    run = TrackedRun(folder)
    try:
        for name in trackers(config):
            run.open(name, RunFacts(folder, keys, tags, key_of(config, name)))
        yield run
    except KeyboardInterrupt as stop:
        run.close(exit_status(stop))
        raise
    except BaseException:
        run.close(1)
        raise
    run.close(0)
