"""Warn of times that do not say in which order the rows happened, or are in another unit."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from recbole.data.dataset import Dataset

from recbole_genci.data.file_checks import place_of_row
from recbole_genci.utils.words import are, counted

_logger = logging.getLogger(__name__)

EXACT_UP_TO = 2**53  # RecBole reads times as float64, exact for whole numbers up to here
#: A time from here on counts seconds since 1970, or finer units, of which the next is 1,000 times
#: as large. So a time that is so many times larger than another is in another unit.
LEAST_STAMP, OTHER_UNIT = 1e8, 50


class OtherUnits:
    """Counts times that seem to be in another unit than those of a run.

    Args:
        field: the column of times.
        known: ``[T]`` the run's times, distinct and sorted. Small ones may count from any day on:
            beside them no time is in another unit.

    Attributes:
        later, earlier: how many were so far from all known ones, and so in a finer or in a coarser
            unit.
    """

    def __init__(self, field: str | None, known: np.ndarray | None) -> None:
        self._field, self._known = field, np.zeros(0) if known is None else known
        self.later = self.earlier = 0

    def __bool__(self) -> bool:
        return self.later + self.earlier > 0

    def count(self, times: np.ndarray, among: np.ndarray | None = None) -> None:
        """Look at ``times`` ``[R]``; at those that ``among`` ``[R]`` chooses, if it is given."""
        if not len(self._known) or self._known[-1] < LEAST_STAMP:
            return
        times = times if among is None else times[among]
        self.later += int(np.count_nonzero(times > OTHER_UNIT * self._known[-1]))
        if self._known[0] >= LEAST_STAMP:
            self.earlier += int(np.count_nonzero(np.abs(times) * OTHER_UNIT < self._known[0]))

    def warn(self, of_later: str, of_earlier: str) -> None:
        """Say how many times were in another unit since the last call, and what follows."""
        if not self:
            return
        first, last = self._known[[0, -1]]
        for number, than, so in (
            (self.later, f"later than the run's last, {last:.0f}", of_later),
            (self.earlier, f"earlier than the run's first, {first:.0f}", of_earlier),
        ):
            if number:
                _logger.warning(
                    f"rows: '{self._field}' of {counted(number, 'row')} is far {than}, "
                    f"so that {so}: write times in the unit of the run's .inter file."
                )
        self.later = self.earlier = 0


def warn_of_times(dataset: Dataset, folder: Path) -> None:
    """Warn of rows whose times are too large to be exact, or seem to be in two units.

    Args:
        folder: holds the dataset's files, as they were read.
    """
    field = dataset.time_field
    if field not in dataset.inter_feat or not len(dataset.inter_feat):
        return
    times = dataset.inter_feat[field].to_numpy(dtype=float)
    latest, middle = np.abs(times).max(), float(np.median(times))
    if latest > EXACT_UP_TO:
        _logger.warning(
            f"'{field}' reaches {latest:g}, where a number of 64 bits is no longer exact: rows "
            f"less than {np.spacing(latest):g} apart may count as one instant. Give it in a "
            "coarser unit."
        )
    far = (times > middle * OTHER_UNIT) | (times * OTHER_UNIT < middle)
    if middle >= LEAST_STAMP and far.any():
        row, number = int(far.argmax()), int(far.sum())
        _logger.warning(
            f"'{field}' is {times[row]:.0f} in {place_of_row(dataset, folder, row)}, and "
            f"{middle:.0f} in a usual row; {counted(number, 'row')} of {len(times)} {are(number)} "
            "so far from it. Such rows are the first or the last of their user, and change the "
            "histories of the others: write all times in one unit, and remove rows without a time."
        )
