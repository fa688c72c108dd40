"""A person's own functions that are called during training: ``run(..., callbacks=[...])``.

They only watch: the random numbers of training are afterwards as they were before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_genci.config import Config
from recbole_genci.utils.own_code import described


@dataclass(frozen=True)
class EvaluatedEpoch:
    """The argument of a callback, which is called after each evaluated epoch.

    Attributes:
        model: name of the model that is trained.
        seed: seed of the run.
        epoch: number of the epoch, from 1.
        metric: name of ``valid_metric``.
        score: value of ``metric`` on the validation rows.
        folder: folder of the run.
    """

    model: str
    seed: int
    epoch: int
    metric: str
    score: float
    folder: Path


Callback = Callable[[EvaluatedEpoch], object]


def calling(
    callbacks: Sequence[Callback], config: Config, folder: Path
) -> Callable[[int, float], None] | None:
    """A function for RecBole's trainer, of epoch (from 0) and score, that calls every callback.

    None if there are no callbacks. The trainer restores the random numbers after them, so that one
    that draws some, or trains another model, does not change the run. If a callback fails, the
    function raises RuntimeError, which ends the run. What a callback returns is ignored.
    """
    if not callbacks:
        return None

    def call(epoch: int, score: float) -> None:
        event = EvaluatedEpoch(
            config["model"],
            config["seed"],
            epoch + 1,
            str(config["valid_metric"]),
            float(score),
            folder,
        )
        for callback in callbacks:
            try:
                callback(event)
            except (Exception, SystemExit) as error:  # a person's own function may raise anything
                name = getattr(callback, "__name__", type(callback).__name__)
                raise RuntimeError(
                    f"callbacks: {name} failed after epoch {event.epoch} of {event.model}, and the "
                    f"run ended there: {described(error)}"
                ) from error

    return call


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Raise ValueError if one of ``callbacks`` cannot be called."""
    for callback in callbacks:
        if not callable(callback):
            raise ValueError(
                f"callbacks: {callback!r} cannot be called; give a list of functions of one "
                "EvaluatedEpoch."
            )
