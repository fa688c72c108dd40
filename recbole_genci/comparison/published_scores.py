"""Scores that others have published for the same rows, beside those of a comparison."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def published_scores(file: Path) -> pd.DataFrame:
    """AUC and LogLoss by model, from a CSV file with the columns ``model``, ``AUC``, ``LogLoss``.

    Raises:
        ValueError: the file cannot be read so, or names a model twice; says what it lacks.
        FileNotFoundError: there is no such file.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"published: {file} does not exist or is no file. prepare --format=bars writes one "
            "beside the rows of a dataset of BARS, "
            "but none with --check=False: the scores are of other rows."
        )
    try:
        scores = pd.read_csv(file, dtype={"model": str})
        scores = (
            scores.dropna(subset=["model"]).set_index("model")[["AUC", "LogLoss"]].astype(float)
        )
    except (OSError, UnicodeError, ValueError, KeyError) as error:
        raise ValueError(
            f"published: {file} cannot be read as a CSV file with the columns model, AUC and "
            f"LogLoss ({' '.join(str(error).split())})."
        ) from error
    if scores.index.has_duplicates:
        twice = scores.index[scores.index.duplicated()][0]
        raise ValueError(f"published: {file} has two lines for {twice}. Keep one.")
    return scores


def with_published(shown: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """``as_text``'s table with published scores right of ours, ``-`` where there is none."""
    shown = shown.copy()
    for place, column in ((2, "AUC"), (3, "LogLoss")):
        values = scores[column].reindex(shown.index)
        texts = ["-" if pd.isna(value) else f"{value:.4f}" for value in values]
        shown.insert(place, f"published {column}", texts)
    return shown
