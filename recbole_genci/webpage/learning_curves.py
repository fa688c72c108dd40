"""Learning curves of runs, from the TensorBoard files of their folders."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from recbole_genci.utils.layout import TENSORBOARD_FOLDER
from recbole_genci.webpage.charts import Trace, chart
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
    runs: Mapping[str, Path], metric: str, highlighted: Sequence[str] = ()
) -> Section:
    """The section of learning curves.

    Args:
        runs: the folder of each run, by the run's name.
        metric: name of the validation metric.
        highlighted: names that stand out.
    """
    curves = {name: validation_curve(folder) for name, folder in runs.items()}
    traces = [
        Trace(name, epochs, scores, is_highlighted=name in highlighted)
        for name, (epochs, scores) in curves.items()
        if epochs
    ]
    if not traces:
        return absent("learning-curves", _TITLE, _NO_FILES)
    missing = [name for name in runs if not curves[name][0]]
    body = chart("chart-learning", traces, "epoch", f"validation {metric}")
    if missing:
        body += paragraph(f"Not available for {', '.join(missing)}: their folders are not here.")
    return Section("learning-curves", _TITLE, body, True)
