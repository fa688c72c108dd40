"""The results of an experiment's runs by variant, from which the reports make tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss, roc_auc_score

from recbole_genci.evaluation.calibration import calibration, logits_of
from recbole_genci.evaluation.scoring import users_of_part
from recbole_genci.experiments.definition import Variant
from recbole_genci.experiments.records import FINISHED, Records
from recbole_genci.experiments.request import Request
from recbole_genci.experiments.tables import Column, Estimate, Table
from recbole_genci.results import ExperimentResult, FailedRun, RunResult
from recbole_genci.tokenizer import SemanticIDs

CALIBRATION = (
    Column("LogLoss recalibrated", error="sd"),
    Column("predicted / observed clicks", error="sd"),
)
AVERAGED = (
    Column("AUC of averaged logits", page_name="AUC of the seeds' ensemble"),
    Column("LogLoss of averaged logits", page_name="LogLoss of the seeds' ensemble"),
)
AVERAGED_DEFINITION = (
    "'Averaged logits', on the page 'the seeds' ensemble': the mean of the seeds' logits is scored "
    "as one model. What it gains over the mean of the seeds is what the noise of one training "
    "costs."
)


@dataclass(frozen=True)
class Report:
    """The content of ``table.md`` and of the files beside it.

    Attributes:
        tables: each table by the name of its CSV file; the first is ``table``.
        remarks: sentences for ``table.md`` that depend on the results.
        pictures: names of the PNG files.
        captions: what a picture shows, by its name; ``about`` by default.
        split: which rows the tables are about, at the start of a sentence.
        about: a sentence about the experiment that depends on the results; empty stands for the
            definition's.
    """

    tables: dict[str, Table]
    remarks: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    captions: dict[str, str] = field(default_factory=dict)
    split: str = "Test split"
    about: str = ""


@dataclass(frozen=True)
class Outcome:
    """The runs of an experiment.

    Attributes:
        request: the checked request.
        runs: the record of each run, failed ones too, by name of the variant and seed.
        parts: the training, validation and test part that all runs share.
        store: gives access to the runs' scores and folders.
        semantic_ids: those that each variant's model reads, by the variant's name; None if it reads
            none.
        controls: names of the variants that the report has compared others with.
        tables: names of the tables that are written.
    """

    request: Request
    runs: dict[tuple[str, int], dict]
    parts: list
    store: Records
    semantic_ids: dict[str, SemanticIDs | None] = field(default_factory=dict)
    controls: set[str] = field(default_factory=set)
    tables: set[str] = field(default_factory=set)

    def of_variant(self, variant: Variant) -> list[dict]:
        """The finished runs of a variant, in the order of seeds."""
        runs = [self.runs[(variant.name, seed)] for seed in self.request.seeds]
        return [run for run in runs if run["status"] == FINISHED]

    def failed(self) -> list[dict]:
        """The runs that failed."""
        return [run for run in self.runs.values() if run["status"] != FINISHED]

    def result(self) -> ExperimentResult:
        """What ``experiment`` returns, once the tables are written."""
        folder = self.request.folder
        variants = {
            variant.name: tuple(
                RunResult.of(run, self.store.run_folder(run)) for run in self.of_variant(variant)
            )
            for variant in self.request.variants
        }
        failed = tuple(
            FailedRun(variant, run["model"], run["seed"], run["error"])
            for (variant, _), run in self.runs.items()
            if run["status"] != FINISHED
        )
        tables = {each: pd.read_csv(folder / f"{each}.csv") for each in sorted(self.tables)}
        name, command = self.request.definition.name, self.request.command
        return ExperimentResult(name, variants, failed, tables, folder, command)

    def complete(self, variant: Variant) -> bool:
        """Whether every seed of a variant has finished; only then it is averaged."""
        return len(self.of_variant(variant)) == len(self.request.seeds)

    def complete_variants(self) -> list[Variant]:
        """The variants whose seeds have all finished."""
        return [variant for variant in self.request.variants if self.complete(variant)]

    def status(self, variant: Variant) -> str:
        """``3 seeds``; or the error, with the AUC of each finished seed, which are not averaged."""
        runs, number = self.of_variant(variant), len(self.request.seeds)
        if self.complete(variant):
            return f"{number} seed{'s' if number > 1 else ''}"
        error = next(
            run["error"]
            for seed in self.request.seeds
            if (run := self.runs[(variant.name, seed)])["status"] != FINISHED
        )
        aucs = ", ".join(f"{run['seed']}: AUC {_shown(run['test']['auc'])}" for run in runs)
        start = "failed" if not runs else f"incomplete, {len(runs)} of {number} seeds ({aucs})"
        return f"{start}; {error}"

    def values(self, variant: Variant, metric: str) -> np.ndarray:
        """A test metric of a variant's finished runs ``[seeds]``, float64; NaN if undefined."""
        return np.array([run["test"][metric] for run in self.of_variant(variant)], dtype=float)

    def mean(self, variant: Variant, metric: str) -> Estimate | None:
        """Mean and standard deviation of a metric over all seeds; None if one is missing."""
        return Estimate.mean(self.values(variant, metric)) if self.complete(variant) else None

    def valid_values(self, variant: Variant, metric: str) -> np.ndarray:
        """A validation metric at the best epochs of a variant's finished runs ``[seeds]``; NaN if
        undefined.
        """
        values = [run["best_valid"].get(metric) for run in self.of_variant(variant)]
        return np.array(values, dtype=float)

    def valid_mean(self, variant: Variant, metric: str) -> Estimate | None:
        """As ``mean``, on validation rows."""
        values = self.valid_values(variant, metric)
        return Estimate.mean(values) if self.complete(variant) else None

    def valid_auc(self, variant: Variant) -> float | None:
        """Mean validation AUC of the best epochs over all seeds; None if one is missing."""
        mean = self.valid_mean(variant, "auc")
        return mean.value if mean else None

    def axis(self, metric: str) -> str:
        """Label of a picture's axis that shows means of a metric."""
        seeds = len(self.request.seeds)
        return f"test {metric}" + (f" (mean ± sd of {seeds} seeds)" if seeds > 1 else "")

    def number(
        self, variant: Variant, key: str, combine: Callable[[Sequence[float]], float] = np.median
    ) -> float | None:
        """Combine a number of the runs' records, such as ``latency_s``, over all seeds; None if a
        seed is missing.
        """
        return (
            float(combine([run[key] for run in self.of_variant(variant)]))
            if self.complete(variant)
            else None
        )

    @cached_property
    def test_users(self) -> np.ndarray:
        """The user ID of each test row ``[R]``.

        Where rows have no user, each of them is one by itself: draws of users become draws of rows.
        """
        users = users_of_part(self.parts[2])
        return np.arange(len(self.parts[2])) if users is None else users

    @property
    def has_users(self) -> bool:
        """Whether rows have users."""
        return self.parts[0].uid_field is not None

    @cached_property
    def test_labels(self) -> np.ndarray:
        """The label of each test row ``[R]``, 0 or 1."""
        test = self.parts[2]
        return test.inter_feat[test.label_field].numpy().astype(np.int64)

    def scores(self, variant: Variant) -> np.ndarray:
        """Scores of the test rows ``[seeds, R]``, float64, from the finished runs by seed."""
        return np.stack([self.store.scores(run) for run in self.of_variant(variant)]).astype(
            np.float64
        )

    def averaged(self, variant: Variant) -> list[float | None]:
        """The entries of the columns ``AVERAGED``; None with one seed, where a seed is missing, or
        where AUC is undefined.
        """
        if not self.complete(variant) or len(self.request.seeds) < 2:
            return [None] * len(AVERAGED)
        mean = 1 / (1 + np.exp(-logits_of(self.scores(variant)).mean(axis=0)))
        both = len(np.unique(self.test_labels)) > 1
        return [
            float(roc_auc_score(self.test_labels, mean)) if both else None,
            float(log_loss(self.test_labels, mean, labels=[0, 1])),
        ]

    def calibration(self, variant: Variant) -> list[Estimate | None]:
        """The entries of the columns ``CALIBRATION`` over all seeds; None where a seed is missing
        or a value is undefined.
        """
        if not self.complete(variant):
            return [None] * len(CALIBRATION)
        by_seed = [calibration(self.test_labels, scores) for scores in self.scores(variant)]
        return [
            Estimate.mean([each.log_loss for each in by_seed]),
            Estimate.mean([each.ratio for each in by_seed]),
        ]


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
