"""Parts that nothing can be trained or chosen by: those without rows, or of one class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from recbole_genci.config.metric_names import GAUC
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.loaders import PARTS
from recbole_genci.utils.words import are, counted

_NO_OTHERS = 'docs/faq.md, "All rows are clicks",'


def check_parts(parts: Sequence[CTRDataset]) -> None:
    """Refuse rows that no model can be trained on, or by which no epoch can be chosen.

    Raises:
        ValueError: a part has no rows, or the validation part has one class only.
    """
    for name, part in zip(PARTS, parts):
        if len(part) == 0:
            raise ValueError(_without_rows(parts, name))
    shares = {name: share_of_clicks(part) for name, part in zip(PARTS, parts)}
    if set(shares.values()) in ({0.0}, {1.0}):
        rows, advice = "without a click", ""
        if shares["train"]:
            rows = "clicks"
            advice = f" {_NO_OTHERS} says what to do if the data have no others."
        raise ValueError(
            f"All rows are {rows}: labels must be of both kinds, as nothing is sampled. "
            f"Check threshold and the column that the label is made of.{advice}"
        )
    if shares["valid"] in (0.0, 1.0):
        metric = str(parts[0].config["valid_metric"])
        fault = "does not say how well clicks are told from other rows"
        if metric.lower() in ("auc", GAUC.lower()):
            fault = "is undefined"
        raise ValueError(
            f"The valid part has one class only, so that its {metric}, by which the best epoch "
            f"is chosen, {fault}. Change threshold or eval_args."
        )


def share_of_clicks(part: CTRDataset) -> float:
    """The share of a part's rows that are clicks; NaN if it has no rows."""
    return part.inter_feat[part.label_field].double().mean().item() if len(part) else float("nan")


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
