"""The results that ``run``, ``resume``, ``tune`` and ``experiment`` return.

- ``run``: ``Results``, a sequence of ``RunResult``, with the comparison as a table.
- ``resume``: one ``RunResult``.
- ``tune``, ``resume_search``: ``SearchResult``, with the tested ``RunResult`` of the selected
  values.
- ``experiment``: for each experiment an ``ExperimentResult``, with the runs of each variant of
  its table.

A ``RunResult`` is also the content of its ``metrics.json``, and a ``SearchResult`` that of its
``hyper_result.json``: ``result["test"]``, ``result["folder"]``, ``dict(result)``. All can be
pickled; for JSON write ``dict(result)``. ``print`` shows the table that the console shows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import pandas as pd

from recbole_genci.comparison.notes import notes
from recbole_genci.comparison.table import comparison_table
from recbole_genci.comparison.text import as_markdown
from recbole_genci.comparison.text_tables import aligned, markdown_table
from recbole_genci.config.metric_names import is_better_when_smaller
from recbole_genci.serving.saved_run import SavedRun, load
from recbole_genci.utils.value_checks import nearest
from recbole_genci.utils.words import counted

_SHOWN_TRIALS = 10


class _Content(Mapping):
    """A result that is also the mapping that its file holds."""

    @property
    @abstractmethod
    def _content(self) -> dict:
        """The mapping."""

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


@dataclass(frozen=True, eq=False, repr=False)
class RunResult(_Content):
    """One trained and tested model; also the mapping ``metrics``.

    Attributes:
        metrics: the whole content of the run's ``metrics.json``.
        folder: the run's folder. If several machines train one model, it exists only on the first.
    """

    metrics: dict
    folder: Path

    @classmethod
    def of(cls, metrics: Mapping, folder: str | Path | None = None) -> RunResult:
        """The result with this ``metrics.json``.

        Args:
            metrics: the content of the file.
            folder: the run's folder now; by default the folder in which it was trained.
        """
        folder = Path(folder if folder is not None else metrics["folder"])
        return cls({**metrics, "folder": str(folder)}, folder)

    @property
    def _content(self) -> dict:
        return self.metrics

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.metrics["model"]

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.metrics["dataset"]

    @property
    def seed(self) -> int:
        """Seed of initialisation, batches and dropout."""
        return self.metrics["seed"]

    @property
    def test(self) -> dict[str, float | None]:
        """Metrics of the test rows by name in lower case; None if undefined."""
        return self.metrics["test"]

    @property
    def best_valid(self) -> dict[str, float | None]:
        """Metrics of the validation rows in the best epoch."""
        return self.metrics["best_valid"]

    @property
    def best_epoch(self) -> int:
        """Number of the epoch whose weights were tested, from 1."""
        return self.metrics["best_epoch"]

    @property
    def epochs(self) -> int:
        """Number of trained epochs."""
        return self.metrics["epochs"]

    def load(self, model: str | type | None = None, trust_code: bool = False) -> SavedRun:
        """Load model, rows and configuration; arguments and errors as ``recbole_genci.load``."""
        return load(self.folder, model, trust_code)

    def __repr__(self) -> str:
        return (
            f"RunResult({self.model} on {self.dataset}, seed {self.seed}: "
            f"test {_in_words(self.test)}; {self.folder})"
        )

    def __str__(self) -> str:
        return aligned(as_markdown(comparison_table([self])))


@dataclass(frozen=True)
class Results(Sequence):
    """The runs of one command, seed by seed and model by model; a sequence of ``RunResult``.

    ``runs["DeepFM"]`` is the run of that model; with several seeds, that of the first seed.

    Attributes:
        runs: the runs.
        folder: folder of their table, ``results/<dataset>-<time>``. If several machines train one
            model, it is None except on the first.
        command: the command line that does the same.
    """

    runs: tuple[RunResult, ...]
    folder: Path | None
    command: str

    @overload
    def __getitem__(self, index: int | str) -> RunResult: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[RunResult, ...]: ...

    def __getitem__(self, index: int | str | slice) -> RunResult | tuple[RunResult, ...]:
        if isinstance(index, int) and not -len(self) <= index < len(self):
            last = f", from 0 to {len(self) - 1}" if len(self) else ""
            raise IndexError(f"runs: there is no run {index}; there are {len(self)}{last}.")
        if not isinstance(index, str):
            return self.runs[index]
        models = list(dict.fromkeys(run.model for run in self.runs))
        if index not in models:
            raise ValueError(
                f"model: there is no run of '{index}', only of {', '.join(models) or 'none'}."
                f"{nearest(index, models)}"
            )
        return next(run for run in self.runs if run.model == index)

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def table(self) -> pd.DataFrame:
        """The comparison of ``table.csv``: one line per model, with mean and standard deviation
        over seeds.
        """
        return comparison_table(list(self.runs))

    def best(self, metric: str = "auc", smaller_is_better: bool | None = None) -> RunResult:
        """The run with the best *validation* value of a metric, the first of equal ones.

        Args:
            metric: name of the metric, in any case.
            smaller_is_better: the direction; by default the metric's own. It must be given for a
                metric of yours that this process has not imported.

        Raises:
            ValueError: no run has the metric, it is undefined in all of them, or its direction is
                not known.
        """
        name = metric.lower()
        known = sorted({each for run in self.runs for each in run.best_valid})
        if name not in known:
            raise ValueError(
                f"metric: '{metric}' was not measured; the runs have {', '.join(known)}."
                f"{nearest(name, known)}"
            )
        defined = [
            (run, value) for run in self.runs if (value := run.best_valid.get(name)) is not None
        ]
        if not defined:
            raise ValueError(f"metric: {metric} of the validation rows is undefined in all runs.")
        if smaller_is_better is None:
            listed = [
                each for run in self.runs for each in run.get("config", {}).get("metrics", ())
            ]
            smaller_is_better = is_better_when_smaller(name, listed)
        if smaller_is_better is None:
            raise ValueError(
                f"metric: whether a smaller {metric} is better is not known here, as the metric is "
                "your own. Give smaller_is_better=True or smaller_is_better=False."
            )
        sign = 1 if smaller_is_better else -1
        return min(defined, key=lambda each: sign * each[1])[0]

    def __repr__(self) -> str:
        return "\n".join(["Results(", *(f"  {run!r}," for run in self.runs), f"  {self.folder})"])

    def __str__(self) -> str:
        # Without a folder this is not the first of several machines, which alone knows the figures.
        if self.folder is None:
            return repr(self)
        table = self.table
        return aligned("\n\n".join([as_markdown(table), *notes(list(self.runs), table)]))


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult(_Content):
    """A finished search; also the mapping ``content``.

    Attributes:
        content: the whole content of ``hyper_result.json``.
        run: the run with the selected values, the only one that was tested.
        trials: one line per trial, in the order of numbers, as in ``hyper_result.csv``.
        folder: the search's folder, ``results/hyper-<model>-<dataset>-<time>``.
    """

    content: dict
    run: RunResult
    trials: pd.DataFrame
    folder: Path

    @property
    def _content(self) -> dict:
        return self.content

    @property
    def params(self) -> dict:
        """The selected values of the keys that were searched."""
        return self.content["selected"]["params"]

    @property
    def score(self) -> float:
        """The validation score of the selected values, by ``valid_metric``."""
        return self.content["selected"]["score"]

    @property
    def command(self) -> str:
        """The command line that does the same; a comment names what no command line can hold."""
        return self.content["command"]

    def __repr__(self) -> str:
        return (
            f"SearchResult({self.content['model']} on {self.content['dataset']}, best of "
            f"{counted(len(self.trials), 'trial')} by validation {self.content['valid_metric']}: "
            f"{self.params}, {self.score:.4f}; test {_in_words(self.run.test)}; {self.folder})"
        )

    def __str__(self) -> str:
        selected = self.content["selected"]
        return (
            f"{aligned(self._best_trials())}\n"
            f"Selected: trial {selected['trial']}, {self.params}; test {self.run.test}"
        )

    def _best_trials(self) -> str:
        """A Markdown table of the best finished trials by validation."""
        trials = [trial for trial in self.content["trials"] if trial["status"] == "finished"]
        is_larger_better = self.score >= max(trial["score"] for trial in trials)
        trials.sort(key=lambda trial: -trial["score"] if is_larger_better else trial["score"])
        names = list(trials[0]["params"])
        heads = ["trial", f"valid {self.content['valid_metric']}", *names, "best epoch"]
        rows = []
        for trial in trials[:_SHOWN_TRIALS]:
            values = trial["params"].values()
            shown = [f"{each:.4g}" if isinstance(each, float) else str(each) for each in values]
            best = str(trial["best_epoch"])
            rows.append([str(trial["trial"]), f"{trial['score']:.4f}", *shown, best])
        return markdown_table(heads, rows)


@dataclass(frozen=True)
class FailedRun:
    """A run of an experiment that failed; the others went on.

    Attributes:
        variant: name of the variant, the table's line.
        model: name of the model.
        seed: seed of the run.
        error: the error in one sentence.
    """

    variant: str
    model: str
    seed: int
    error: str


@dataclass(frozen=True, eq=False, repr=False)
class ExperimentResult:
    """A finished experiment.

    Attributes:
        name: name of the experiment.
        variants: the finished runs of each variant, by seed. Their ``metrics`` come from
            ``runs.jsonl``, and also have GAUC and the variant's own keys (``settings``).
        failed: the runs that failed.
        tables: the tables by the name of their CSV file; ``table`` is that of ``table.md``.
        folder: ``results/NAME-DATASET``.
        command: the command line that does the same.
    """

    name: str
    variants: dict[str, tuple[RunResult, ...]]
    failed: tuple[FailedRun, ...]
    tables: dict[str, pd.DataFrame]
    folder: Path
    command: str

    @property
    def runs(self) -> tuple[RunResult, ...]:
        """The finished runs; a run that two variants of a sweep share is there once."""
        by_folder = {run.folder: run for runs in self.variants.values() for run in runs}
        return tuple(by_folder.values())

    @property
    def table(self) -> pd.DataFrame:
        """The table of ``table.md``, with all digits."""
        return self.tables["table"]

    def __repr__(self) -> str:
        runs = counted(len(self.runs), "run")
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"ExperimentResult({self.name}: {runs}{failed}; {self.folder})"

    def __str__(self) -> str:
        file = self.folder / "table.md"
        return aligned(file.read_text(encoding="utf-8")) if file.is_file() else repr(self)


def _in_words(metrics: Mapping[str, float | None]) -> str:
    return ", ".join(
        f"{name} {'undefined' if value is None else format(value, '.4f')}"
        for name, value in metrics.items()
    )
