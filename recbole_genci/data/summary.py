"""The summary of the rows that is logged before a run, and its warnings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from recbole_genci.config import Config
from recbole_genci.data.column_names import TIME_RANK
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.history import rounding_of
from recbole_genci.data.loaders import PARTS
from recbole_genci.data.part_checks import share_of_clicks
from recbole_genci.utils.words import are, counted

_logger = logging.getLogger(__name__)

_NEARLY_ALL = 0.95  # of rows or clicks: so many equal times are no chance
_FEW_TEST_ROWS = 1000  # with so many the standard error of an AUC is about .015
_FEW_STEPS = 10  # of an epoch; with fewer, early stopping ends a run that has hardly begun


def summarise(parts: Sequence[CTRDataset]) -> pd.DataFrame:
    """One line per part: rows, users, items, share of positives, history lengths.

    What rows do not have is left out.
    """
    rows = []
    for name, part in zip(PARTS, parts):
        line: dict[str, Any] = {"part": name, "rows": len(part)}
        for noun, field in part.id_fields.items():
            line[f"{noun}s"] = np.count_nonzero(_seen(part, field))
        line["positive"] = share_of_clicks(part)
        if part.has_histories:
            length = part.history_lengths
            line |= {
                "mean history": length.mean() if len(part) else float("nan"),
                "median history": np.median(length) if len(part) else float("nan"),
                "empty history": (length == 0).mean() if len(part) else float("nan"),
            }
        rows.append(line)
    return pd.DataFrame(rows).set_index("part")


def _seen(part: CTRDataset, field: str) -> np.ndarray:
    """Which ids ``[V]`` bool of a token field are in a part's rows."""
    seen = np.zeros(len(part.field2id_token[field]), dtype=bool)
    seen[part.inter_feat[field].numpy()] = True
    return seen


def log_summary(parts: Sequence[CTRDataset]) -> None:
    """Log the summary."""
    whole = parts[0]
    histories = "without histories"
    if whole.has_histories:
        histories = (
            f"histories: {whole.config['history_labels']} rows of "
            f"{'the past' if whole.history_source == 'past' else 'the training part'}, at most "
            f"{whole.config['MAX_ITEM_LIST_LENGTH']} items"
        )
    shown = summarise(parts).round(4).rename_axis(None).to_string()
    _logger.info(f"Rows of {whole.dataset_name} ({histories})\n{shown}")


def warn_of_rows(parts: Sequence[CTRDataset]) -> None:
    """Warn about rows that would spoil the metrics; ``check_parts`` has let them pass."""
    for name, part in zip(PARTS, parts):
        if share_of_clicks(part) in (0.0, 1.0):
            _logger.warning(
                f"The {name} part has one class "
                f"only{': its AUC is undefined' if name == 'test' else ''}."
            )
        if name != "train":
            _warn_of_new(parts, part, name)
    whole = parts[0]
    _warn_of_rounded_times(whole)
    _warn_of_few_steps(whole.config, len(whole))
    if (tested := len(parts[-1])) < _FEW_TEST_ROWS:
        _logger.info(
            f"With {counted(tested, 'test row')} two models may differ by several hundredths of "
            "AUC by chance; --experiment=compare gives intervals."
        )


def trains_in_few_steps(rows: int, batch_size: int) -> bool:
    """Whether an epoch over so many training rows has only a few steps."""
    return -(-rows // batch_size) < _FEW_STEPS


def _warn_of_few_steps(config: Config, rows: int) -> None:
    """Warn of batches that are so large, for so few rows, that no model learns much in an epoch."""
    size, smaller = config["train_batch_size"], 2
    if not trains_in_few_steps(rows, size):
        return
    while not trains_in_few_steps(rows, 2 * smaller):
        smaller *= 2
    if smaller >= size:
        return
    made = (
        f"train_batch_size: {counted(rows, 'training row')} in batches of {size} make only "
        f"{counted(-(-rows // size), 'step')} an epoch"
    )
    if config["min_patience_steps"] >= _FEW_STEPS * (config["stopping_step"] + 1):
        _logger.info(
            f"{made}, so that a run takes many epochs. --train_batch_size={smaller} takes fewer."
        )
    else:
        _logger.warning(
            f"{made}, so that early stopping may end a run before the model has learned; set a "
            f"smaller one, such as --train_batch_size={smaller}."
        )


def _warn_of_new(parts: Sequence[CTRDataset], part: CTRDataset, name: str) -> None:
    """Warn of items that training has not seen, and of rows none of which has a history."""
    whole = parts[0]
    if whole.iid_field is not None:
        new = ~_seen(whole, whole.iid_field)[part.inter_feat[whole.iid_field].numpy()]
        if new.any():
            _logger.warning(
                f"{new.sum()} of {len(part)} {name} rows ({new.mean():.2%}) {are(new.sum())} about "
                "items unseen in training."
            )
    if whole.has_histories and not part.history_lengths.any():
        _logger.warning(
            f"No {name} row has a history: models that read histories have nothing to read"
            f"{_why_no_history(parts)}"
        )


def _why_no_history(parts: Sequence[CTRDataset]) -> str:
    """The rest of the sentence which says if equal times are why rows have no history."""
    whole = parts[0]
    ranks = np.concatenate([part.inter_feat[TIME_RANK].numpy() for part in parts])
    same, clicks, tied = np.bincount(ranks).max(), len(whole.history.keys), whole.history.num_tied()
    if same >= _NEARLY_ALL * len(ranks):
        share = "all" if same == len(ranks) else f"{same:,} of"
        what = f"{share} {counted(len(ranks), 'row')} have the same '{whole.time_field}'"
    elif clicks and tied >= _NEARLY_ALL * clicks:
        share = "all" if tied == clicks else f"{tied:,} of"
        what = (
            f"{share} {counted(clicks, 'click')} share their '{whole.time_field}' with another "
            "click of their user"
        )
    else:
        return "."
    return f", as {what}; is it the right column (TIME_FIELD)?"


def _warn_of_rounded_times(whole: CTRDataset) -> None:
    """Warn if times are rounded so that most clicks are of the same time as another of their user.

    Ties alone are no fault: two of three clicks of MovieLens have one, and times may be days.
    """
    rounding = None if whole.rank_times is None else rounding_of(whole.rank_times)
    if rounding is None or not whole.has_histories:
        return
    clicks, tied = len(whole.history.keys), whole.history.num_tied()
    if tied > clicks / 2:
        _logger.warning(
            f"'{whole.time_field}' seems to be rounded to {rounding}: {tied:,} of "
            f"{counted(clicks, 'click')} share their time with another click of their user, and "
            "neither is in the other's history. Write times with all their digits."
        )
