"""How much is left: an estimate from the measured times of the runs that have ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from recbole_genci.utils.durations import duration


@dataclass(frozen=True)
class TimeLeft:
    """An estimate.

    Attributes:
        seconds: of training left; None as long as nothing has been timed.
        guessed: runs whose line and model have not been timed yet, counted with the mean of all
            others.
    """

    seconds: float | None
    guessed: int

    def __str__(self) -> str:
        if self.seconds is None:
            return "time left unknown until a run has been timed"
        of = f"; {self.guessed} of the runs by the mean of other models" if self.guessed else ""
        return (
            f"about {duration(self.seconds)} left (an estimate from the times measured so far{of})"
        )


class Timer:
    """Remembers what runs took.

    A line's own mean is the best guess, then that of its model's other lines, then that of all
    runs.
    """

    def __init__(self) -> None:
        self._times: list[tuple[str, str, float]] = []

    def add(self, line: str, model: str, seconds: float | None) -> None:
        """Note a run; None, of a run that was resumed and so is known in part only, is left out."""
        if seconds is not None:
            self._times.append((line, model, seconds))

    def left(self, runs: Iterable[tuple[str, str]]) -> TimeLeft:
        """The estimate for ``(line, model)`` of each run that is still to be trained."""
        total, guessed, runs = 0.0, 0, list(runs)
        if not runs:
            return TimeLeft(0.0, 0)
        if not self._times:
            return TimeLeft(None, len(runs))
        for line, model in runs:
            known = [s for other, _, s in self._times if other == line] or [
                s for _, other, s in self._times if other == model
            ]
            guessed += not known
            known = known or [seconds for *_, seconds in self._times]
            total += sum(known) / len(known)
        return TimeLeft(total, guessed)
