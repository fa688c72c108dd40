"""The summary of the rows that is logged before a run, and its warnings."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from recbole_genci.config import Config
from recbole_genci.data.column_names import TIME_RANK
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.history import rounding_of
from recbole_genci.data.loaders import PARTS
from recbole_genci.utils.words import are, counted

_logger = logging.getLogger(__name__)

_NO_OTHERS = 'docs/faq.md, "All rows are clicks",'
_NEARLY_ALL = 0.95  # of rows or clicks: so many equal times are no chance
_FEW_TEST_ROWS = 1000  # with so many the standard error of an AUC is about .015
_FEW_STEPS = 10  # of an epoch; with fewer, early stopping ends a run that has hardly begun


def summarise(parts: Sequence[CTRDataset]) -> pd.DataFrame:
    """One line per part: rows, users, items, share of positives, history lengths.

    What rows do not have is left out.
    """
    rows = []
    for name, part in zip(PARTS, parts):
        feat = part.inter_feat
        line: dict[str, Any] = {"part": name, "rows": len(part)}
        for noun, field in part.id_fields.items():
            line[f"{noun}s"] = np.count_nonzero(_seen(part, field))
        line["positive"] = (
            feat[part.label_field].double().mean().item() if len(part) else float("nan")
        )
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
    """Log the summary, and warn about rows that would spoil the metrics.

    Raises:
        ValueError: a part has no rows, or the validation part has one class only.
    """
    whole, table = parts[0], summarise(parts)
    histories = "without histories"
    if whole.has_histories:
        histories = (
            f"histories: {whole.config['history_labels']} rows of "
            f"{'the past' if whole.history_source == 'past' else 'the training part'}, at most "
            f"{whole.config['MAX_ITEM_LIST_LENGTH']} items"
        )
    shown = table.round(4).rename_axis(None).to_string()
    _logger.info(f"Rows of {whole.dataset_name} ({histories})\n{shown}")
    for name, part in zip(PARTS, parts):
        if len(part) == 0:
            raise ValueError(_without_rows(parts, name))
    for name, part in zip(PARTS, parts):
        if table.loc[name, "positive"] in (0.0, 1.0):
            if table["positive"].nunique() == 1:
                rows, advice = "without a click", ""
                if table.loc[name, "positive"]:
                    rows = "clicks"
                    advice = f" {_NO_OTHERS} says what to do if the data have no others."
                raise ValueError(
                    f"All rows are {rows}: labels must be of both kinds, as nothing is sampled. "
                    f"Check threshold and the column that the label is made of.{advice}"
                )
            if name == "valid":  # early stopping compares its AUC
                raise ValueError(
                    "The valid part has one class only, so that its AUC, by which the best epoch "
                    "is chosen, is undefined. Change threshold or eval_args."
                )
            _logger.warning(
                f"The {name} part has one class "
                f"only{': its AUC is undefined' if name == 'test' else ''}."
            )
        if name != "train":
            _warn_of_new(parts, part, name)
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


def _without_rows(parts: Sequence[CTRDataset], name: str) -> str:
    """Say that the part ``name`` has no rows, and how many rows a split needs."""
    whole, rows = parts[0], sum(map(len, parts))
    args = whole.config["eval_args"]
    (mode, shares), grouped = next(iter(args["split"].items())), args["group_by"] == "user"
    there = f"there {are(rows)} {counted(rows, 'row')} in all"
    if mode == "LS" or mode == "RS" and grouped:
        assert whole.uid_field is not None
        users = np.concatenate([part.inter_feat[whole.uid_field].numpy() for part in parts])
        there += f", and no user has more than {np.bincount(users).max()}"
    takes = "which takes 3 for one in each part"
    if mode == "LS":
        there += f"; each user's last two rows are held out, {takes}"
    elif mode == "RS":
        whose = "each user's" if grouped else "all"
        there += f"; {whose} rows are divided, {takes} and about {_rows_of_ratio(shares)}"
    return (
        f"eval_args: the split leaves no {name} rows: {there}. Give more rows, or change split in "
        "eval_args."
    )


def _rows_of_ratio(shares: Sequence[float]) -> str:
    """How many rows a ratio takes: ``10 for 8:1:1``."""
    smallest, total = min(shares), sum(shares)
    ratio = ":".join(f"{round(share / smallest, 1):g}" for share in shares)
    return f"{math.ceil(total / smallest - 1e-9)} for {ratio}"


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
