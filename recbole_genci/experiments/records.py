"""``runs.jsonl``: one line of JSON for every ended run of an experiment, written atomically."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_genci.experiments.packed_scores import exact_runs, read_packed
from recbole_genci.utils.digests import SEAL, check_file, has_its_seal, sealed_line, without_seal
from recbole_genci.utils.journals import read_json_lines
from recbole_genci.utils.layout import WEIGHTS_FILE
from recbole_genci.utils.sha256 import sha256_of
from recbole_genci.utils.writing import write_atomically, write_text

_logger = logging.getLogger(__name__)

RUNS_FILE, SCORES_FILE = "runs.jsonl", "test_scores.npy"
PACKED = "packed_scores"  # entry of a record: the packed file that has its scores, and its SHA-256
FINISHED, FAILED = "finished", "failed"
_SAME_RUN = ("model", "settings", "seed")
# What reports read of a record, and its types.
_OF_ALL = {"config_hash": str, "model": str, "settings": dict, "seed": int}
_OF_FINISHED = {
    "folder": str,
    "test": dict,
    "best_valid": dict,
    "best_epoch": int,
    "training_s": (int, float),
    "latency_s": (int, float),
}


class Records:
    """The runs of one experiment on one dataset, by their hash.

    A finished run of another experiment in the same results folder is reused instead of trained
    again.

    Args:
        folder: ``results/NAME-DATASET``.
        neighbours: folders of the other experiments on the dataset.
        with_model: whether a finished run must still have its weights. Published records have only
            scores.

    Raises:
        ValueError: a file is damaged.
    """

    def __init__(self, folder: Path, neighbours: Sequence[Path] = (), with_model: bool = False):
        self.folder, self.neighbours = folder, [each for each in neighbours if each != folder]
        self._needed = (SCORES_FILE, WEIGHTS_FILE) if with_model else (SCORES_FILE,)
        self._records = {record["config_hash"]: record for record in read_runs(folder)}
        self._packed: dict[Path, dict[str, np.ndarray]] = {}

    def finished(self, config_hash: str) -> dict | None:
        """The finished run with this hash, from here or from a neighbour; None if there is none, or
        files of its folder are missing.
        """
        record = self._records.get(config_hash)
        if record and record["status"] == FINISHED:
            missing = self._missing(self.folder, record)
            if not missing:
                return record
            _logger.warning(
                f"{self.run_folder(record)} has lost {' and '.join(missing)}: what is missing is "
                "made again."
            )
        for neighbour in self.neighbours:
            for other in read_runs(neighbour):
                same = other["config_hash"] == config_hash and other["status"] == FINISHED
                if same and not self._missing(neighbour, other):
                    path = os.path.relpath(neighbour / other["folder"], self.folder)
                    reused = other | {
                        "folder": Path(path).as_posix(),
                        "taken_from": other["taken_from"] or neighbour.name,
                    }
                    self.add(reused)
                    return reused
        return None

    def _missing(self, folder: Path, record: dict) -> list[str]:
        return [
            name
            for name in self._needed
            if not (folder / record["folder"] / name).is_file()
            and not (name == SCORES_FILE and self._packed_file(folder, record))
        ]

    def _packed_file(self, folder: Path, record: dict) -> tuple[Path, str] | None:
        """The packed file with the scores of a run, and its SHA-256; None if they are not packed.

        The record of the experiment that trained the run names the file.
        """
        if record.get("taken_from"):
            folder = folder.parent / record["taken_from"]
        records = self.all() if folder == self.folder else read_runs(folder)
        packed = next((each.get(PACKED) for each in records if _same_hash(each, record)), None)
        if not packed or not (folder / packed["file"]).is_file():
            return None
        return folder / packed["file"], packed["sha256"]

    def all(self) -> list[dict]:
        """The record of every run, in the order of ``runs.jsonl``."""
        return list(self._records.values())

    def rewrite(self, records: Sequence[dict]) -> None:
        """Replace all records."""
        self._records = {record["config_hash"]: record for record in records}
        self._packed.clear()
        self._write()

    def add(self, record: dict) -> None:
        """Write an ended run. It replaces an earlier run with its hash, and failed runs of the same
        variant and seed.
        """
        self._records = {
            key: each
            for key, each in self._records.items()
            if each["status"] == FINISHED or any(each[name] != record[name] for name in _SAME_RUN)
        }
        self._records[record["config_hash"]] = record
        self._write()

    def _write(self) -> None:
        lines = [sealed_line(each) for each in self._records.values()]
        write_text(self.folder / RUNS_FILE, "\n".join(lines) + "\n")

    def scores(self, record: dict) -> np.ndarray:
        """The click probabilities ``[R]`` of a finished run for the test rows, in their order.

        Raises:
            ValueError: the file is damaged, or was packed and is not the one that was written.
        """
        file = scores_file(self.folder, record)
        packed = None if file.is_file() else self._packed_file(self.folder, record)
        if packed:
            if packed[0] not in self._packed:
                self._packed[packed[0]] = read_packed(*packed)
            found = self._packed[packed[0]].get(record["config_hash"])
            if found is None:
                raise ValueError(
                    f"{packed[0]} has no scores of the run {record['config_hash'][:16]}, for which "
                    f"{RUNS_FILE} names it. Fetch both from where the records came from."
                )
            return found
        remedy = "Delete it, and the run is scored again."
        if "scores_sha256" in record:  # earlier records have none
            check_file(file, record["scores_sha256"], remedy)
        try:
            return np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{file} is damaged ({error}). {remedy}") from error

    def has_scores(self, record: dict) -> bool:
        """Whether the file with the scores of a finished run is there."""
        return SCORES_FILE not in self._missing(self.folder, record)

    def is_exact(self, record: dict) -> bool:
        """Whether the scores of a run are packed, and keep every bit."""
        packed = self._packed_file(self.folder, record)
        return packed is not None and record["config_hash"] in exact_runs(*packed)

    def run_folder(self, record: dict) -> Path:
        """The folder of a finished run, for ``recbole_genci.load``."""
        return self.folder / record["folder"]


def scores_file(folder: Path, record: dict) -> Path:
    """The file of a finished run's test scores."""
    return folder / record["folder"] / SCORES_FILE


def _same_hash(record: dict, other: dict) -> bool:
    return record["config_hash"] == other["config_hash"]


def write_scores(folder: Path, scores: np.ndarray) -> str:
    """Save the test scores ``[R]`` of a run in its folder; return the digest of the file."""

    def save(path: Path) -> None:
        with open(path, "wb") as file:  # np.save would add .npy to the temporary name
            np.save(file, scores, allow_pickle=False)

    write_atomically(folder / SCORES_FILE, save)
    return sha256_of(folder / SCORES_FILE)


def read_runs(folder: Path) -> list[dict]:
    """The runs that an experiment has written; an empty list if it has not begun.

    Raises:
        ValueError: a line is not the record of a run, or was edited; names the file and the line.
    """
    remedy = "Remove the line, and its run is trained again."
    records = read_json_lines(folder / RUNS_FILE, "experiment", remedy, _wrong_with)
    return [without_seal(record) for record in records]


def _wrong_with(record: object) -> str | None:
    if not isinstance(record, dict):
        return f"{str(record)[:40]} is no record of a run"
    if not has_its_seal(record):
        return f"it was edited, as it has no digest of its own that fits it ({SEAL})"
    status = record.get("status")
    if status not in (FINISHED, FAILED):
        return f"'status' is {str(status)[:40]}"
    needed: dict[str, Any] = _OF_ALL | (_OF_FINISHED if status == FINISHED else {})
    for name, kind in needed.items():
        if not isinstance(record.get(name), kind):
            return f"'{name}' is {str(record.get(name))[:40]}"
    if (packed := record.get(PACKED)) is not None and not _names_a_file(packed):
        return f"'{PACKED}' is {str(packed)[:40]}"
    tested = record["test"] if status == FINISHED else {}
    if status == FINISHED and not {"auc", "logloss"} <= set(tested):
        return "'test' lacks auc or logloss"
    return None


def _names_a_file(packed: object) -> bool:
    """Whether a record's packed file is one beside it, never one elsewhere."""
    if not isinstance(packed, dict):
        return False
    file, digest = packed.get("file"), packed.get("sha256")
    return (
        isinstance(file, str) and file == Path(file).name and file != "" and isinstance(digest, str)
    )
