"""Score a file of rows into another file, a chunk at a time."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from recbole_genci.config import Config
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.evaluation.scoring import metrics_of
from recbole_genci.serving.given_cells import CellError
from recbole_genci.serving.ranker import Ranker
from recbole_genci.serving.row_files import ROWS_AT_ONCE, chunks_of, place_of_row, written_table
from recbole_genci.serving.rows import RowReader
from recbole_genci.serving.scorer import Rows
from recbole_genci.serving.seen_in_training import TrainingRows

_logger = logging.getLogger(__name__)

_LEFT_OUT = "metrics would be too high by this leak, and are left out"


def check_rows(
    ranker: Ranker,
    file: Path,
    user_features: pd.DataFrame | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> int:
    """Read a file of rows without scoring them; return their number.

    Raises:
        ValueError, FileNotFoundError, ImportError: as for `predict_file`.
    """
    reader, rows = ranker.row_reader(user_features), 0
    for chunk in chunks_of(file, ranker.run.config, rows_at_once):
        try:
            for read in (reader.read, reader.times, reader.labels, reader.counted):
                read(chunk)
        except CellError as error:
            place = place_of_row(file, ranker.run.config, rows + error.cell)
            error.add_note(f"(In {file}, {place}.)")
            raise
        except ValueError as error:
            error.add_note(f"(In {file}.)")
            raise
        rows += len(chunk)
    return rows


def predict_file(
    ranker: Ranker,
    file: Path,
    output: Path,
    user_features: pd.DataFrame | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> dict[str, float]:
    """Write the click probability of each row of a file; see ``Ranker.score_rows``.

    Only ``rows_at_once`` rows are in memory at a time; with labels also 16 bytes of each row, for
    the metrics. ``output`` appears complete or not at all.

    Args:
        ranker: scores the rows.
        file: an atomic .inter, .csv or .parquet file.
        output: a .parquet or .csv file: ``user``, ``item``, ``time`` and ``label`` if the file has
            them, and ``score``, in the order of the file. A run without users and items has none.
        user_features: as for ``Ranker.score_rows``.
        rows_at_once: rows in memory.

    Returns:
        dict: the run's metrics, if the file has labels; else empty. Also empty, with a warning, if
            the model reads histories and the file gives neither times nor histories: each row's
            history is then all clicks of its user, its own included; and if times seem to be in
            another unit than the run's. A warning counts the rows that the run was trained on.

    Raises:
        ValueError: a column is missing, an item is unknown, or a value is wrong.
        FileNotFoundError: there is no such file.
        ImportError: pyarrow, for Parquet, is not installed.
    """
    reader, whole = ranker.row_reader(user_features), ranker.run.parts[0]
    measured, is_first, misleads = _MeasuredRows(), True, False
    training: TrainingRows | None = None
    with written_table(output) as writer:
        for chunk in chunks_of(file, ranker.run.config, rows_at_once):
            if is_first:
                reader.tell_unread(chunk)
                reader.warn_of_times(chunk, _LEFT_OUT)
                misleads, is_first = reader.lacks_times(chunk), False
            rows = reader.read(chunk)
            columns = _columns(reader, whole, chunk, rows)
            if "label" in columns:
                training = training or TrainingRows(whole, by_time="time" in columns)
                counted = reader.counted(chunk)
                measured.add(columns, counted)
                training.count(rows, columns.get("time"), counted)
                columns["label"] = columns["label"].astype(np.int8)
            writer.write(pd.DataFrame(columns))
    misleads |= reader.misplaces_times
    reader.report()
    if misleads:
        return {}
    if training is not None:
        training.warn()
    return measured.metrics(ranker.run.config, whole.uid_field is not None, file)


def _columns(
    reader: RowReader, whole: CTRDataset, chunk: pd.DataFrame, rows: Rows
) -> dict[str, Any]:
    """Ids, times, labels and scores ``[R]`` of the rows of a chunk, as far as it has them."""
    scores = reader.scores(rows)
    columns: dict[str, Any] = {noun: chunk[field] for noun, field in whole.id_fields.items()}
    columns |= {"time": reader.times(chunk), "label": reader.labels(chunk), "score": scores}
    return {name: column for name, column in columns.items() if column is not None}


class _MeasuredRows:
    """The scores, labels and users of the rows that metrics count."""

    def __init__(self) -> None:
        self._users, self._chunks = _Users(), list[list[np.ndarray]]()

    def add(self, columns: Mapping[str, Any], counted: np.ndarray) -> None:
        """Keep what metrics need of a chunk, of those of its rows that are ``counted``."""
        scores, labels = columns["score"], columns["label"]
        users = self._users.numbers(columns.get("user"), len(scores))
        self._chunks.append([each[counted] for each in (scores, labels, users)])

    def metrics(self, config: Config, has_users: bool, file: Path) -> dict[str, float]:
        """The run's metrics; empty without rows.

        Args:
            file: that of the rows, for a warning.
        """
        if not self._chunks:
            return {}
        scores, labels, users = (np.concatenate(each) for each in zip(*self._chunks))
        if not len(scores):
            return {}
        if labels.min() == labels.max():
            _logger.warning(
                f"rows: all {len(labels)} labels of {file} are {labels[0]:g}, so that AUC and GAUC "
                "are undefined."
            )
        return metrics_of(
            config,
            torch.from_numpy(scores),
            torch.from_numpy(labels),
            users if has_users else None,
        )


class _Users:
    """Numbers users by the order in which they come."""

    def __init__(self) -> None:
        self._number: dict[object, int] = {}

    def numbers(self, names: pd.Series | None, rows: int) -> np.ndarray:
        """Numbers ``[rows]`` of names; zeros if rows have no user."""
        if names is None:
            return np.zeros(rows, dtype=np.int64)
        codes, found = pd.factorize(names)
        numbers = [self._number.setdefault(name, len(self._number)) for name in found]
        return np.array(numbers, dtype=np.int64)[codes]
