"""The trials of one search: run them or read them from the journal, and rank them by validation."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from recbole_genci.tuning import trial
from recbole_genci.tuning.result import write_table
from recbole_genci.tuning.space import canonical
from recbole_genci.tuning.trial import Shared
from recbole_genci.utils.digests import SEAL, has_its_seal, sealed_line, without_seal
from recbole_genci.utils.failures import as_recorded, is_of_the_machine, log_failure
from recbole_genci.utils.journals import read_json_lines
from recbole_genci.utils.writing import write_text

_logger = logging.getLogger(__name__)

JOURNAL = "trials.jsonl"


class Study:
    """Runs trials and remembers them.

    To resume a search, replay it: it proposes the same points again, and points in the journal are
    answered from there. The algorithm sees the same scores as before, and continues as if the
    search had not stopped.

    Args:
        folder: the search's folder, which holds the journal and the trials' folders.
        shared: the data and configuration that all trials share.
        bigger: whether a higher validation score is better.
        early_stop: the search is hopeless after this many trials in a row without a better score;
            None means never.

    Raises:
        ValueError: the journal is damaged.
    """

    def __init__(
        self, folder: Path, shared: Shared, bigger: bool = True, early_stop: int | None = None
    ):
        self.folder, self.shared, self.bigger, self.early_stop = folder, shared, bigger, early_stop
        self.records = {
            canonical(record["params"]): record for record in read_journal(folder / JOURNAL)
        }
        self._best_seen: float | None = None
        self._without_improvement = 0
        self._proposed: set[str] = set()
        self.clean()

    def run(self, params: dict) -> tuple[float | None, bool]:
        """Run a trial, unless the journal has it.

        Returns:
            its loss (lower is better; None if it failed), and whether the search is now hopeless.

        Raises:
            MachineFailed: the machine failed, not the trial. The trial is not in the journal, so
                that a resumed search runs it again.
        """
        key = canonical(params)
        if key not in self.records:
            self.add(self._record(params))
        loss = self.loss(self.records[key])
        # A point that TPE repeats does not count as a trial without improvement.
        if key in self._proposed:
            return loss, False
        self._proposed.add(key)
        if loss is not None and (self._best_seen is None or loss < self._best_seen):
            self._best_seen, self._without_improvement = loss, 0
        else:
            self._without_improvement += 1
        hopeless = self.early_stop is not None and self._without_improvement >= self.early_stop
        if hopeless:
            _logger.info(
                f"The search ends after {self.early_stop} trials in a row without a better score."
            )
        return loss, hopeless

    def add(self, record: dict) -> None:
        """Write an ended trial into journal and table, and keep only the best trial's weights."""
        self.records[canonical(record["params"])] = record
        lines = [sealed_line(each) for each in self.ordered()]
        write_text(self.folder / JOURNAL, "\n".join(lines) + "\n")
        write_table(self.ordered(), self.folder)
        self.clean()
        values = ", ".join(f"{name}={value}" for name, value in record["params"].items())
        outcome = record["error"] or ("" if record["score"] is None else f"{record['score']:.6f}")
        best = self.best()
        shown = f" (best {best['score']:.6f}, trial {best['trial']})" if best else ""
        _logger.info(f"Trial {record['trial']}, {values}: {record['status']}, {outcome}{shown}")

    def ordered(self) -> list[dict]:
        """The ended trials in the order of their numbers."""
        return sorted(self.records.values(), key=lambda record: record["trial"])

    def loss(self, record: dict) -> float | None:
        """The validation score of a finished trial, negated if higher is better; else None."""
        if record["status"] != "finished":
            return None
        return -record["score"] if self.bigger else record["score"]

    def best(self) -> dict | None:
        """The finished trial with the best validation score, the first of equal ones; None if no
        trial has finished.
        """
        finished = [(self.loss(record), record) for record in self.ordered()]
        losses = [(loss, record) for loss, record in finished if loss is not None]
        return min(losses, key=lambda each: each[0])[1] if losses else None

    def test_best(self) -> dict:
        """Test the selected trial and no other; return the content of its ``metrics.json``."""
        best = self.best()
        assert best is not None
        return trial.finish(
            self.shared, best["params"], trial.folder_of(self.folder, best["trial"])
        )

    def _record(self, params: dict) -> dict:
        number = max((record["trial"] for record in self.records.values()), default=0) + 1
        record = empty_record(number, params)
        try:
            return (
                record
                | trial.train(self.shared, params, trial.folder_of(self.folder, number))
                | {"status": "finished"}
            )
        except Exception as error:  # the outcome of a failed trial; the search goes on
            if is_of_the_machine(error):
                _logger.exception(f"Trial {number} could not be run here.")
                raise trial.MachineFailed(number, as_recorded(error)) from error
            log_failure(_logger, f"Trial {number} failed.", error)
            return record | {"status": "failed", "error": as_recorded(error)}

    def clean(self) -> None:
        """Remove the weights of all trials but the best."""
        best = self.best()
        for record in self.records.values():
            if record is not best:
                trial.clean(trial.folder_of(self.folder, record["trial"]))


def empty_record(number: int, params: dict) -> dict:
    """A trial's record in the journal before its outcome is known."""
    return {
        "trial": number,
        "params": params,
        "status": None,
        "score": None,
        "valid": None,
        "best_epoch": None,
        "epochs": None,
        "training_s": None,
        "error": None,
        "folder": str(trial.folder_of(Path(), number)),
    }


def read_journal(file: Path) -> list[dict]:
    """The trials in a search's journal; an empty list if there is no journal yet.

    Raises:
        ValueError: a line is not the record of a trial; names the file and the line.
    """
    remedy = "Remove the line, and its trial is run again, or start a new search."
    records = read_json_lines(file, "resume_search", remedy, _wrong_with)
    numbers = [record["trial"] for record in records]
    if again := [number for number in numbers if numbers.count(number) > 1]:
        raise ValueError(f"resume_search: {file} has two lines of trial {again[0]}. {remedy}")
    return [without_seal(record) for record in records]


def _wrong_with(record: object) -> str | None:
    if not isinstance(record, dict):
        return f"{str(record)[:40]} is no record of a trial"
    if missing := [name for name in empty_record(0, {}) if name not in record]:
        return f"it lacks '{missing[0]}'"
    if not has_its_seal(record):
        return f"it was edited, as it has no digest of its own that fits it ({SEAL})"
    wrong = [name for name, fits in _FITS.items() if not fits(record[name])]
    if wrong or record["status"] != "failed" and record["score"] is None:
        name = wrong[0] if wrong else "score"
        return f"'{name}' is {str(record[name])[:40]}"
    return None


def _is_number(value: Any, kinds: type | tuple[type, ...] = (int, float)) -> bool:
    is_kind = isinstance(value, kinds) and not isinstance(value, bool)
    return is_kind and math.isfinite(value)


#: Checks of the fields that a search reads from its journal.
_FITS = {
    "trial": lambda value: _is_number(value, int) and value >= 1,
    "params": lambda value: isinstance(value, dict),
    "status": lambda value: value in ("finished", "stopped", "failed"),
    "score": lambda value: value is None or _is_number(value),
}
