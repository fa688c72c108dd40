"""Warn of times that do not say in which order the rows happened."""

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


def in_a_finer_unit(times: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which of ``times`` ``[R]`` are so much later than all of the sorted times ``known`` that they
    seem to be in a finer unit: ``[R]`` bool.
    """
    if not len(known) or known[-1] < LEAST_STAMP:
        return np.zeros(len(times), dtype=bool)
    return times > OTHER_UNIT * known[-1]


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
