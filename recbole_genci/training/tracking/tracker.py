"""What every tracking program is told of a run: the one interface that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class RunFacts:
    """What a tracking program shows of a run beside its figures.

    Attributes:
        folder: the run's folder, whose name the run has.
        keys: its configuration, as plain values.
        tags: ``model``, ``dataset`` and ``seed``.
        key: the key that asks for the program, for messages.
    """

    folder: Path
    keys: Mapping[str, Any]
    tags: Mapping[str, str]
    key: str


class Tracker(Protocol):
    """A run in a tracking program, open from its making to ``close``.

    The run of a folder that was opened before continues, where the program can.

    Attributes:
        errors: what its methods raise if the program, its server or its disk fails.
        continues: whether the program has shown the run before.
    """

    errors: tuple[type[Exception], ...]
    continues: bool

    def log(self, part: str, figures: Mapping[str, float], epoch: int) -> None:
        """Show the figures of an epoch.

        Args:
            part: ``train`` for losses, ``valid`` for metrics.
            figures: by name; ``train_loss`` is the sum of the losses, others are its parts.
            epoch: number of the epoch, from 1.
        """

    def log_test(self, metrics: Mapping[str, float]) -> None:
        """Show the test metrics of the best epoch."""

    def close(self, exit_code: int) -> None:
        """End the run.

        Args:
            exit_code: 0 if it has finished, 1 if it failed, that of the signal if one stopped it.
        """
