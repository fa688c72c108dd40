"""The fuzzers by name. Each is called with a seed, a count and a folder, and yields cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from robustness import configurations, files, histories, parameter_files, run_folders
from robustness.harness import Case

FUZZERS: dict[str, Callable[[int, int, Path], Iterator[Case]]] = {
    "configurations": configurations.cases,
    "files": files.cases,
    "histories": histories.cases,
    "parameter_files": parameter_files.cases,
    "run_folders": run_folders.cases,
}
