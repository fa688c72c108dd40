"""Find repeated keys among more keys than fit into memory."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterator
from pathlib import Path

import numpy as np

_CHUNK = 1 << 16


class RepeatFinder:
    """Collects hashes of keys in a file, 8 bytes each, and finds repeated ones by sorting the file.

    Args:
        file: a scratch file, which is made here. Call either ``count`` or ``hashes``, once; both
            remove the file.
    """

    def __init__(self, file: Path):
        self._file, self._hashes, self._number = file, array("q"), 0
        file.write_bytes(b"")

    def add(self, key: Hashable) -> None:
        self._hashes.append(hash(key))
        if len(self._hashes) == _CHUNK:
            self._flush()

    def _flush(self) -> None:
        with self._file.open("ab") as file:
            self._hashes.tofile(file)
        self._number += len(self._hashes)
        self._hashes = array("q")

    def count(self) -> int:
        """How many additions had a key that was added before."""
        return sum(map(len, self._repeats()))

    def hashes(self) -> set[int]:
        """The hashes of keys that were added more than once.

        In about one of 10**5 files with 10**7 keys, two different keys share a 64-bit hash. Compare
        the rows themselves before dropping one.
        """
        return {value for part in self._repeats() for value in part.tolist()}

    def _repeats(self) -> Iterator[np.ndarray]:
        """Yield the second and later copies of hashes in chunks; remove the scratch file."""
        self._flush()
        if self._number:
            sorted_hashes = np.memmap(self._file, np.int64, "r+")
            sorted_hashes.sort()
            for start in range(0, self._number - 1, _CHUNK):
                part = sorted_hashes[start : start + _CHUNK + 1]
                yield part[1:][part[1:] == part[:-1]]
        self._file.unlink()
