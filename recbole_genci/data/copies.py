"""Rows that are equal to an earlier one: counted with 8 bytes a row, and warned of."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from recbole.data.dataset import Dataset
from recbole.utils import FeatureType

_logger = logging.getLogger(__name__)

_CHUNK = 1 << 20  # rows
_SHOWN_FIELDS = 6  # of those in which rows are the same


def warn_of_copies(dataset: Dataset) -> None:
    """Warn of rows that say the same as another row: a model may train on one and be tested on the
    other.

    Rows without users and items are not looked at: among them equal features are no repetition.
    """
    has_ids = dataset.uid_field is not None and dataset.iid_field is not None
    if not has_ids or dataset.config["rm_dup_inter"] is not None:
        return
    rows, kinds = dataset.inter_feat, dataset.field2type
    single = (FeatureType.TOKEN, FeatureType.FLOAT)
    fields = [field for field in rows if kinds[field] in single]
    copies = count_copies([rows[field].to_numpy() for field in fields])
    if not copies:
        return
    shown = ", ".join(fields[:_SHOWN_FIELDS])
    if (more := len(fields) - _SHOWN_FIELDS) > 0:
        shown += f" and {more} more"
    remedy = "take them out of the files"
    if not dataset.benchmark_filename_list:  # whose rows are taken as they are
        remedy += ", or keep one row of each user and item by rm_dup_inter: first"
    _logger.warning(
        f"{copies:,} of {len(rows):,} rows {'is a copy' if copies == 1 else 'are copies'} of an "
        f"earlier one (the same {shown}), so that a model may be tested on a row that it was "
        f"trained on; {remedy}."
    )


def count_copies(columns: Sequence[np.ndarray]) -> int:
    """How many rows are equal to an earlier one in all columns.

    Rows are compared by hashes of 64 bits. In about one of 4,000 data sets of 10**8 rows two
    different ones share a hash, and count as copies.

    Args:
        columns: ``[R]`` each, whole numbers or floats.
    """
    hashes = np.zeros(len(columns[0]), dtype=np.uint64)
    for start in range(0, len(hashes), _CHUNK):
        part = hashes[start : start + _CHUNK]
        for column in columns:
            _mix(part, _bits(column[start : start + _CHUNK]))
    hashes.sort()
    copies = 0
    for start in range(0, len(hashes), _CHUNK):
        part = hashes[start : start + _CHUNK + 1]
        copies += int(np.count_nonzero(part[1:] == part[:-1]))
    return copies


def _bits(values: np.ndarray) -> np.ndarray:
    wide = np.float64 if values.dtype.kind == "f" else np.int64
    return np.ascontiguousarray(values, dtype=wide).view(np.uint64)


def _mix(hashes: np.ndarray, bits: np.ndarray) -> None:
    """Take one more column into the hashes, in place, by the finaliser of SplitMix64."""
    hashes += np.uint64(0x9E3779B97F4A7C15)
    hashes ^= bits
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashes ^= hashes >> np.uint64(shift)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(31)
