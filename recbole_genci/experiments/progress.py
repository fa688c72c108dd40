"""An estimate of the time left, from the measured times of finished runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from recbole_genci.utils.durations import duration


@dataclass(frozen=True)
class TimeLeft:
    """An estimate of the training time left.

    Attributes:
        seconds: the estimate; None before the first run has been timed.
    """

    seconds: float | None

    def __str__(self) -> str:
        if self.seconds is None:
            return "time left unknown until a run has been timed"
        return f"about {duration(self.seconds)} left"


class Timer:
    """Remembers how long runs took, and estimates the others.

    The estimate of a run is the mean time of its variant, else of its model, else of all runs.
    """

    def __init__(self) -> None:
        self._times: list[tuple[str, str, float]] = []

    def add(self, variant: str, model: str, seconds: float | None) -> None:
        """Add the time of a run; None, the unknown time of a resumed run, is ignored."""
        if seconds is not None:
            self._times.append((variant, model, seconds))

    def left(self, runs: Iterable[tuple[str, str]]) -> TimeLeft:
        """Estimate the time left for the ``(variant, model)`` of each run still to be trained."""
        total, runs = 0.0, list(runs)
        if not runs:
            return TimeLeft(0.0)
        if not self._times:
            return TimeLeft(None)
        for variant, model in runs:
            known = [s for other, _, s in self._times if other == variant] or [
                s for _, other, s in self._times if other == model
            ]
            known = known or [seconds for *_, seconds in self._times]
            total += sum(known) / len(known)
        return TimeLeft(total)
