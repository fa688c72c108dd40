"""The order of rows in an epoch, in little memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import RandomSampler

_CHUNK = 1 << 16  # rows whose numbers are Python objects at a time


class ShuffledRows(RandomSampler):
    """torch's ``RandomSampler`` with 4 bytes a row instead of 48, for at most 2**31 rows.

    torch makes a list of all row numbers, of Python objects (sampler.py). The order is the same,
    and so is what is drawn from the generator.

    Attributes:
        data_source: the rows, a ``range``.
    """

    data_source: range

    def __iter__(self) -> Iterator[int]:
        rows, first = len(self.data_source), self.data_source.start
        order = torch.randperm(rows, generator=self.generator, dtype=torch.int32)
        for chunk in order.split(_CHUNK):
            yield from (chunk + first).tolist()
        del order
        # torch draws once more, for rows that are left over; there are none.
        torch.randperm(rows, generator=self.generator, dtype=torch.int32)
