"""Functions of one's own that are called during training, as ``run(..., callbacks=[...])`` takes
them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_genci.config import Config
from recbole_genci.utils.own_code import described


@dataclass(frozen=True)
class EvaluatedEpoch:
    """What a callback is called with, after each epoch that was evaluated.

    Attributes:
        model: name of the model that is trained.
        seed: of the run.
        epoch: counting from 1.
        metric: name of ``valid_metric``.
        score: its value over the validation rows.
        folder: of the run.
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
    """What RecBole's trainer calls with its epoch, from 0, and score: every callback in turn; None
    without callbacks.

    The function raises RuntimeError where a callback fails, which ends the run; what it returns is
    not looked at.
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
            except Exception as error:  # whatever a person's own function dies of
                name = getattr(callback, "__name__", type(callback).__name__)
                raise RuntimeError(
                    f"callbacks: {name} failed after epoch {event.epoch} of {event.model}, and the "
                    "run ended there: "
                    f"{described(error)}"
                ) from error

    return call


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Raises ValueError for what cannot be called."""
    for callback in callbacks:
        if not callable(callback):
            raise ValueError(
                f"callbacks: {callback!r} cannot be called; give a list of functions of one "
                "EvaluatedEpoch."
            )
