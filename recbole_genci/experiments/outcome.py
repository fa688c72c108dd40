"""What an experiment's runs came to, line by line, for the modules that make tables of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from recbole_genci.evaluation.calibration import calibration
from recbole_genci.experiments.definition import Line
from recbole_genci.experiments.records import FINISHED, Records
from recbole_genci.experiments.request import Request
from recbole_genci.experiments.tables import Column, Estimate, Table
from recbole_genci.results import ExperimentResult, FailedRun, RunResult

CALIBRATION = (
    Column("LogLoss recalibrated", error="sd"),
    Column("predicted / observed clicks", error="sd"),
)


@dataclass(frozen=True)
class Report:
    """What goes into ``table.md`` and beside it.

    Attributes:
        tables: by the name of their CSV file; the first is ``table``.
        remarks: sentences for the header that only the results can tell.
        pictures: names of the PNG files written.
    """

    tables: dict[str, Table]
    remarks: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """The runs of a request.

    Attributes:
        request: what was asked for.
        runs: the records by line and seed, failed ones among them.
        parts: training, validation and test part that all runs share.
        store: where the runs' scores and folders lie.
    """

    request: Request
    runs: dict[tuple[str, int], dict]
    parts: list
    store: Records

    def of_line(self, line: Line) -> list[dict]:
        """The finished runs of a line, by seed."""
        runs = [self.runs[(line.name, seed)] for seed in self.request.seeds]
        return [run for run in runs if run["status"] == FINISHED]

    def failed(self) -> list[dict]:
        """The runs that failed."""
        return [run for run in self.runs.values() if run["status"] != FINISHED]

    def result(self) -> ExperimentResult:
        """What ``experiment`` returns, once the tables are written."""
        folder = self.request.folder
        lines = {
            line.name: tuple(
                RunResult.of(run, self.store.run_folder(run)) for run in self.of_line(line)
            )
            for line in self.request.lines
        }
        failed = tuple(
            FailedRun(line, run["model"], run["seed"], run["error"])
            for (line, _), run in self.runs.items()
            if run["status"] != FINISHED
        )
        tables = {file.stem: pd.read_csv(file) for file in sorted(folder.glob("*.csv"))}
        name, command = self.request.definition.name, self.request.command
        return ExperimentResult(name, lines, failed, tables, folder, command)

    def complete(self, line: Line) -> bool:
        """Whether every seed of a line has finished, so that it may be averaged."""
        return len(self.of_line(line)) == len(self.request.seeds)

    def complete_lines(self) -> list[Line]:
        """The lines that may be averaged."""
        return [line for line in self.request.lines if self.complete(line)]

    def status(self, line: Line) -> str:
        """``3 seeds``, or what is missing, with the figures of the seeds that are there: those are
        not averaged.
        """
        runs, number = self.of_line(line), len(self.request.seeds)
        if self.complete(line):
            return f"{number} seed{'s' if number > 1 else ''}"
        error = next(
            run["error"]
            for seed in self.request.seeds
            if (run := self.runs[(line.name, seed)])["status"] != FINISHED
        )
        seen = ", ".join(f"{run['seed']}: AUC {_shown(run['test']['auc'])}" for run in runs)
        start = "failed" if not runs else f"incomplete, {len(runs)} of {number} seeds ({seen})"
        return f"{start}; {error}"

    def values(self, line: Line, metric: str) -> np.ndarray:
        """A metric of a line's finished test runs ``[seeds]``, in float64; NaN where it is
        undefined.
        """
        return np.array([run["test"][metric] for run in self.of_line(line)], dtype=float)

    def mean(self, line: Line, metric: str) -> Estimate | None:
        """Mean and standard deviation of a metric over all seeds; None if one is missing."""
        return Estimate.mean(self.values(line, metric)) if self.complete(line) else None

    def axis(self, metric: str) -> str:
        """Label of a picture's axis for the means of a metric."""
        seeds = len(self.request.seeds)
        return f"test {metric}" + (f" (mean ± sd of {seeds} seeds)" if seeds > 1 else "")

    def number(
        self, line: Line, key: str, combine: Callable[[Sequence[float]], float] = np.median
    ) -> float | None:
        """A number of the runs' records over all seeds, as ``latency_s``; None if a seed is
        missing.
        """
        return (
            float(combine([run[key] for run in self.of_line(line)]))
            if self.complete(line)
            else None
        )

    @cached_property
    def test_users(self) -> np.ndarray:
        """User of each test row ``[R]``, as the rows number them."""
        test = self.parts[2]
        return test.inter_feat[test.uid_field].numpy()

    @cached_property
    def test_labels(self) -> np.ndarray:
        """Label of each test row ``[R]``, 0 or 1."""
        test = self.parts[2]
        return test.inter_feat[test.label_field].numpy().astype(np.int64)

    def scores(self, line: Line) -> np.ndarray:
        """Scores of the test rows ``[seeds, R]`` in float64, of the finished runs by seed."""
        return np.stack([self.store.scores(run) for run in self.of_line(line)]).astype(np.float64)

    def calibration(self, line: Line) -> list[Estimate | None]:
        """The entries of the columns ``CALIBRATION`` over all seeds; None where a seed is missing
        or undefined.
        """
        if not self.complete(line):
            return [None] * len(CALIBRATION)
        found = [calibration(self.test_labels, scores) for scores in self.scores(line)]
        return [
            Estimate.mean([each.log_loss for each in found]),
            Estimate.mean([each.ratio for each in found]),
        ]


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
