"""Progress of building semantic IDs: a line per stage; in long stages a bar, or lines with the
time left.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tqdm import tqdm

from recbole_genci.utils.durations import duration

_logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 30.0
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}"


class Steps:
    """The steps of one stage; a context manager that closes the bar.

    Args:
        label: the beginning of the lines and the bar.
        total: number of steps, in any unit.
        bar: whether to show a bar; else a line is logged if enough time has passed.
        clock: returns the time in seconds.
    """

    def __init__(self, label: str, total: int, bar: bool, clock: Callable[[], float]):
        self.label, self.total, self.done = label, total, 0
        self._clock = clock
        self._started = self._last_line = clock()
        self._bar = tqdm(total=total, desc=label, bar_format=_BAR) if bar else None

    def advance(self, steps: int = 1, **figures: str) -> None:
        """Count steps as done; ``figures`` are shown behind the bar."""
        self.done += steps
        if self._bar is not None:
            if figures:
                self._bar.set_postfix(figures, refresh=False)
            self._bar.update(steps)
            return
        now = self._clock()
        if now - self._last_line >= _SECONDS_BETWEEN_LINES and 0 < self.done < self.total:
            self._last_line = now
            left = (now - self._started) * (self.total - self.done) / self.done
            _logger.info(
                f"{self.label}: {self.done / self.total:.0%} done, about {duration(left)} left."
            )

    def skip_to(self, step: int) -> None:
        """Count all steps up to this one as done."""
        self.advance(step - self.done)

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()


class BuildProgress:
    """Reports the stages of one build in order.

    Args:
        stages: number of stages.
        bars: whether to show bars; else lines are logged at most every 30 s.
        clock: returns the time in seconds.
    """

    def __init__(
        self, stages: int, bars: bool = False, clock: Callable[[], float] = time.monotonic
    ):
        self.stages, self.number = stages, 0
        self._bars, self._clock = bars, clock

    @property
    def _label(self) -> str:
        return f"Semantic IDs, stage {self.number} of {self.stages}"

    def stage(self, what: str) -> None:
        """Begin the next stage."""
        self.number += 1
        _logger.info(f"{self._label}: {what}.")

    def steps(self, total: int) -> Steps:
        """Count the steps of the current stage."""
        return Steps(self._label, total, self._bars, self._clock)


class _SilentSteps(Steps):
    def __init__(self) -> None:
        self.total = self.done = 0

    def advance(self, steps: int = 1, **figures: str) -> None:
        pass

    def skip_to(self, step: int) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


class _Silent(BuildProgress):
    def stage(self, what: str) -> None:
        pass

    def steps(self, total: int) -> Steps:
        return NO_STEPS


#: For callers that want neither lines nor bars.
SILENT, NO_STEPS = _Silent(0), _SilentSteps()
