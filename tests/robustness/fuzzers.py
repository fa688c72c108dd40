"""The fuzzers by name. Each is called with a seed, a count and a folder, and yields cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from robustness import files, histories
from robustness.harness import Case

FUZZERS: dict[str, Callable[[int, int, Path], Iterator[Case]]] = {
    "files": files.cases,
    "histories": histories.cases,
}
