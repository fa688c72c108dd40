"""Tell which rows of a file a run was trained on, so that their metrics are too good."""

from __future__ import annotations

import logging

import numpy as np

from recbole_genci.data.column_names import TIME_RANK
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.history import earlier_times, rounding_error
from recbole_genci.data.order import stable_order
from recbole_genci.data.times import OtherUnits
from recbole_genci.serving.scorer import Rows
from recbole_genci.utils.words import counted

_logger = logging.getLogger(__name__)


class TrainingRows:
    """Counts the rows of a file that are training rows of a run.

    Such a row has the user, item and time of a training row. Without times to compare, user and
    item are enough. Rows of a run without users and items are not compared.

    Args:
        part: the run's training rows.
        by_time: whether the file has times.
    """

    def __init__(self, part: CTRDataset, by_time: bool) -> None:
        self._part, self._by_time = part, by_time and part.rank_times is not None
        self._units = OtherUnits(part.time_field, part.rank_times)
        self._found = self._of = 0
        self._has_ids = part.uid_field is not None and part.iid_field is not None
        if not self._has_ids:
            return
        table = part.inter_feat
        pairs = self._pair(table[part.uid_field].numpy(), table[part.iid_field].numpy())
        order = stable_order(pairs)
        pairs = pairs[order]
        is_first = np.append(True, pairs[1:] != pairs[:-1])
        self._pairs = pairs[is_first]
        if self._by_time:  # numbers of users, items and times together may need more than 64 bits
            place = np.cumsum(is_first) - 1
            self._rows = np.sort(place * part.num_time_ranks + table[TIME_RANK].numpy()[order])

    def count(self, rows: Rows, times: np.ndarray | None, measured: np.ndarray) -> None:
        """Look at the rows ``[R]`` of a chunk.

        Args:
            times: ``[R]`` exact times; None if the file has none.
            measured: ``[R]`` which rows metrics count.
        """
        if self._has_ids:
            self._found += int(np.count_nonzero(self.among(rows, times) & measured))
            self._of += int(np.count_nonzero(measured))
            if self._by_time:
                assert times is not None
                self._units.count(times, measured)

    def among(self, rows: Rows, times: np.ndarray | None) -> np.ndarray:
        """Which rows ``[R]`` are training rows; arguments as for ``count``."""
        users = rows.users
        if rows.user_feat is not None:
            users = rows.user_feat[self._part.uid_field].numpy()[users]
        place, found = _places(self._pairs, self._pair(users, rows.items))
        if not self._by_time:
            return found
        assert times is not None and self._part.rank_times is not None
        known = self._part.rank_times
        rank = earlier_times(known, times)
        is_known = np.abs(known.take(rank, mode="clip") - times) <= rounding_error(times)
        return found & is_known & _places(self._rows, place * self._part.num_time_ranks + rank)[1]

    def warn(self) -> None:
        """Say how many of the rows are training rows, if any are, or that times cannot tell it."""
        unseen = "training rows among them are not found"
        self._units.warn(unseen, unseen)
        if not self._found:
            return
        is_one = self._found == 1
        if self._by_time:
            what = f"{'is a training row' if is_one else 'are training rows'} of this run"
            metrics = "the metrics are too good"
        else:
            what = (
                f"{'has' if is_one else 'have'} the user and item of a training row of this run, "
                "and no time to compare"
            )
            metrics = "the metrics may be too good"
        _logger.warning(
            f"{self._found:,} of {counted(self._of, 'row')} {what}: {metrics}. Leave them out to "
            "see how good it is on new rows."
        )

    def _pair(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """A number ``[R]`` for each user and item."""
        return users.astype(np.int64) * self._part.item_num + items


def _places(known: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where ``numbers`` ``[R]`` stand in sorted numbers, and whether they are there."""
    order = np.argsort(numbers)  # searched in their order, numbers are found several times faster
    place = np.empty_like(order)
    place[order] = np.searchsorted(known, numbers[order])
    return place, known.take(place, mode="clip") == numbers
