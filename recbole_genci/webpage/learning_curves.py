"""Learning curves of runs, from the TensorBoard files of their folders."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from recbole_genci.utils.layout import TENSORBOARD_FOLDER
from recbole_genci.webpage.charts import Look, Trace, chart
from recbole_genci.webpage.page import Section, absent, paragraph

_TITLE = "Learning curves"
_VALIDATION = "Vaild_score"  # as RecBole spells it
_NO_FILES = "the folders of these runs, which hold their TensorBoard files, are not here."


def validation_curve(folder: Path) -> tuple[list[int], list[float]]:
    """Epochs, from 1, and the validation score after each of them; empty without files."""
    files = folder / TENSORBOARD_FOLDER
    if not any(files.glob("events.out.tfevents.*")):
        return [], []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tb_logging

    logger = tb_logging.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of files that a resumed run has written twice
    try:
        events = EventAccumulator(str(files)).Reload()
    finally:
        logger.setLevel(level)
    if _VALIDATION not in events.Tags()["scalars"]:
        return [], []
    last = {event.step: event.value for event in events.Scalars(_VALIDATION)}
    return [step + 1 for step in sorted(last)], [last[step] for step in sorted(last)]


def learning_curves(
    runs: Mapping[tuple[str, int], Path], metric: str, looks: Mapping[str, Look]
) -> Section:
    """The section of learning curves: one colour for each model, one line for each seed.

    Args:
        runs: the folder of each run, by the model's name and the seed.
        metric: name of the validation metric.
        looks: how each model is drawn.
    """
    curves = {run: validation_curve(folder) for run, folder in runs.items()}
    names = [name for name, _ in runs]
    traces = [
        Trace(name, epochs, scores, f"{name}, seed {seed}", is_thin=names.count(name) > 1)
        for (name, seed), (epochs, scores) in curves.items()
        if epochs
    ]
    if not traces:
        return absent("learning-curves", _TITLE, _NO_FILES)
    about = "One line for each seed, in the model's colour." if len(runs) > len(set(names)) else ""
    body = paragraph(about) if about else ""
    body += chart("chart-learning", traces, "epoch", f"validation {metric}", looks=looks)
    missing = [f"{name}, seed {seed}" for (name, seed), (epochs, _) in curves.items() if not epochs]
    if missing:
        body += paragraph(f"Not available for {'; '.join(missing)}: their folders are not here.")
    return Section("learning-curves", _TITLE, body, True)
