"""``--pack``: put the test scores of an experiment's runs into one compressed file."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Set
from pathlib import Path

import numpy as np

from recbole_genci.experiments.outcome import Outcome
from recbole_genci.experiments.packed_scores import digits_needed, write_packed
from recbole_genci.experiments.records import (
    FINISHED,
    PACKED,
    RUNS_FILE,
    SCORES_FILE,
    Records,
    read_runs,
    scores_file,
)
from recbole_genci.utils.words import counted
from recbole_genci.utils.writing import remove_leftovers

_logger = logging.getLogger(__name__)

#: Values of ``--pack``: all runs of the folder, or only those that its tables show.
ALL, SHOWN = "all", "shown"
CHOICES = (ALL, SHOWN)
_ROWS = "rows_fingerprint"


def pack(outcome: Outcome, choice: str) -> None:
    """Pack the scores of an experiment's folder after its tables are written.

    With ``shown``, records of runs that neither this table shows nor another experiment of the
    results folder lists go, and their scores with them; other files of their folders stay. Runs of
    the lines that others are compared with keep every bit of their scores, since the draws of the
    bootstrap depend on them; so do runs that an earlier packing kept exactly. Runs on other rows
    (another split, for example) stay as they are: their users and labels are not at hand. So do
    runs that have lost their scores; a warning names them.

    Args:
        outcome: the experiment, whose report has been made.
        choice: one of ``CHOICES``.
    """
    records = outcome.store.all()
    if choice == SHOWN:
        shown = {run["config_hash"] for run in outcome.runs.values()}
        shown |= _listed_elsewhere(outcome.request.folder)
        records = [record for record in records if record["config_hash"] in shown]
    rows = {run.get(_ROWS) for run in outcome.runs.values() if run["status"] == FINISHED}
    own = [r for r in records if _has_scores(r) and r.get(_ROWS) in rows]
    if lost := [r for r in own if not outcome.store.has_scores(r)]:
        own = [r for r in own if r not in lost]
        names = ", ".join(
            f"{r['model']} seed {r['seed']} ({outcome.store.run_folder(r)})" for r in lost
        )
        _logger.warning(
            f"pack: left out, as their {SCORES_FILE} is gone: {names}. A command whose table has "
            "them makes them again."
        )
    scores = {record["config_hash"]: outcome.store.scores(record) for record in own}
    digits, never = digits_needed(scores, outcome.test_users, outcome.test_labels)
    exact = never | {
        run["config_hash"]
        for (variant, _), run in outcome.runs.items()
        if variant in outcome.controls
    }
    exact |= {r["config_hash"] for r in own if outcome.store.is_exact(r)}
    replace_scores(outcome.store, records, scores, outcome.test_users, exact, digits)


def replace_scores(
    store: Records,
    records: list[dict],
    scores: dict[str, np.ndarray],
    users: np.ndarray,
    exact: Set[str],
    digits: int,
) -> None:
    """Write the packed file, then the records that name it, then remove what it replaces.

    A stop at any point leaves records whose scores are there.

    Args:
        store: the experiment's records.
        records: those that stay.
        scores, users, exact, digits: as for ``write_packed``.
    """
    before = store.all()
    remove_leftovers(store.folder, ["scores.npz"])
    packed = None
    if scores:
        file, sha256 = write_packed(store.folder, scores, users, exact, digits)
        packed = {"file": file, "sha256": sha256}
    store.rewrite([r | {PACKED: packed} if r["config_hash"] in scores else r for r in records])
    named = {record[PACKED]["file"] for record in store.all() if record.get(PACKED)}
    for old in store.folder.glob("scores-*.npz"):
        if old.name not in named:
            old.unlink()
    left = {record["config_hash"] for record in records} - set(scores)
    for record in before:
        if _has_scores(record) and record["config_hash"] not in left:
            _remove_scores(scores_file(store.folder, record))
    size = f", {(store.folder / packed['file']).stat().st_size / 1e6:.1f} MB" if packed else ""
    _logger.info(
        f"{store.folder}: the scores of {counted(len(scores), 'run')} are packed{size}; "
        f"{counted(len(before) - len(records), 'record')} went."
    )


def _has_scores(record: dict) -> bool:
    """Whether the run's scores belong to its own experiment."""
    return record["status"] == FINISHED and not record["taken_from"]


def _listed_elsewhere(folder: Path) -> set[str]:
    """Hashes of the runs that other experiments have taken from this one."""
    others = (file.parent for file in folder.parent.glob(f"*/{RUNS_FILE}"))
    return {
        record["config_hash"]
        for other in others
        if other != folder
        for record in read_runs(other)
        if record.get("taken_from") == folder.name
    }


def _remove_scores(file: Path) -> None:
    file.unlink(missing_ok=True)
    for folder in list(file.parents)[:3]:  # the run, its hash, and runs/
        with contextlib.suppress(OSError):  # it has other files
            folder.rmdir()
