"""Paired differences between lines of a table, each with its interval over users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recbole_genci.config.metric_names import SMALLER_IS_BETTER
from recbole_genci.experiments.definition import Variant
from recbole_genci.experiments.outcome import Outcome
from recbole_genci.experiments.plots import interval_plot
from recbole_genci.experiments.significance import (
    FEW_USERS,
    METRICS,
    UserBootstrap,
    holm,
    paired_t_test,
)
from recbole_genci.experiments.tables import Column, Interval, Table
from recbole_genci.utils.words import counted

PICTURE = "differences.png"
_WIDEST = 56  # characters below a panel
_TITLES = {"auc": "AUC", "logloss": "LogLoss", "gauc": "GAUC"}
COLUMNS = (
    Column("line"),
    Column("minus"),
    *(Column(f"{_TITLES[name]} difference", "+.4f", interval=True) for name in METRICS),
    Column("AUC se"),
    Column("AUC p", ".3g"),
    Column("AUC p, Holm", ".3g"),
    Column("AUC t-test over seeds, p", ".3g"),
    Column("draws", ",d"),
)
_P, _P_HOLM = ([column.name for column in COLUMNS].index(f"AUC p{end}") for end in ("", ", Holm"))
_READING = (
    "Differences are paired: of the means over the seeds, on the same rows. Intervals are 95 % "
    "percentile intervals of a bootstrap that draws whole users, the same for both lines and all "
    "seeds, and ask whether other users would show the difference. 'AUC p' is of the same draws; "
    "'Holm' corrects it for the number of pairs {pairs}. The t-test pairs "
    "the seeds and asks whether training both again would show the difference again; it needs 3 "
    "seeds, and so few find only large differences."
)


def reading(outcome: Outcome, groups: Mapping[str, np.ndarray] | None = None) -> str:
    """How to read the table.

    Args:
        groups: which test rows ``[R]`` each group of users has, if each is compared by itself.
    """
    pairs = "that are compared here" if groups is None else "within each group"
    sentences = [_READING.format(pairs=pairs)]
    if not outcome.has_users:
        sentences.append("Rows have no user here, so that single rows are drawn.")
    for group, rows in (groups or {"": np.ones(len(outcome.test_users), dtype=bool)}).items():
        number = len(np.unique(outcome.test_users[rows]))
        drawn = counted(number, f"{group} {'user' if outcome.has_users else 'row'}".strip())
        if number == 1:
            sentences.append(f"There is {drawn} alone, and so neither an interval nor a p.")
        elif 1 < number < FEW_USERS:
            sentences.append(f"Intervals and p are rough with only {drawn}.")
    return " ".join(sentences)


def of_each(
    outcome: Outcome, ones: Sequence[Variant], rows: np.ndarray | None = None
) -> list[list]:
    """Each of ``ones`` minus every other line, a pair once: entries of ``COLUMNS``, a list a pair.

    Args:
        ones: lines whose seeds have all finished.
        rows: ``[R]`` bool, which test rows count; all by default. There is no t-test for a part of
            them.
    """
    return _pairs(outcome, ones, rows, turned=False)


def against_each(outcome: Outcome, names: Sequence[str]) -> list[list]:
    """Every line minus each of those that ``names`` has, a pair once; otherwise as ``of_each``."""
    controls = [variant for variant in outcome.complete_variants() if variant.name in names]
    return _pairs(outcome, controls, None, turned=True)


def table(rows: Sequence[list], first: Sequence[Column] = ()) -> Table:
    """The table of such rows, with further columns in front."""
    return Table((*first, *COLUMNS), list(rows))


def draw(folder: Path, outcome: Outcome, rows: Sequence[list], ranked: bool = False) -> str:
    """Draw AUC and LogLoss of such rows, and return the picture's name.

    Args:
        rows: at least one, as ``of_each`` and ``against_each`` return them.
        ranked: whether the lowest difference of AUC comes first, which of one line to many is the
            best of the many, instead of the first row.
    """
    dataset = outcome.request.config["dataset"]
    if ranked:
        aucs = [row[2].value if row[2] else np.inf for row in rows]
        rows = [rows[i] for i in np.argsort(aucs, kind="stable")]
    first, second = ({row[i] for row in rows} for i in (0, 1))
    if len(first) == 1 < len(second):
        names, one, other = [row[1] for row in rows], *first, "the other"
        title = f"{one} minus each line, {dataset}"
    elif len(second) == 1:
        names, one, other = [row[0] for row in rows], "the line", *second
        title = f"Each line minus {other}, {dataset}"
    else:
        names, one, other = [f"{row[0]} minus {row[1]}" for row in rows], "the first", "the second"
        title = f"Differences, {dataset}"
    panels = []
    for place, metric in enumerate(METRICS[:2], start=2):
        left, right = (one, other) if metric in SMALLER_IS_BETTER else (other, one)
        sides = f"\u2190 {left} is better", f"{right} is better \u2192"
        below = (" " * 6).join(sides)
        what = f"difference of test {_TITLES[metric]} (95 % over {_drawn(outcome)})"
        label = "\n".join([what, below] if len(below) <= _WIDEST else [what, *sides])
        panels.append((label, [row[place] for row in rows]))
    interval_plot(folder / PICTURE, title, names, panels)
    return PICTURE


def caption(outcome: Outcome) -> str:
    """What the picture shows."""
    return (
        f"Paired differences of test AUC and LogLoss, with 95 % intervals over {_drawn(outcome)}."
    )


def _drawn(outcome: Outcome) -> str:
    return "users" if outcome.has_users else "rows"


def _pairs(
    outcome: Outcome, ones: Sequence[Variant], rows: np.ndarray | None, turned: bool
) -> list[list]:
    complete, entries = outcome.complete_variants(), []
    for place, one in enumerate(ones, start=1):
        others = [each for each in complete if each not in ones[:place]]
        entries += _entries(outcome, one, others, rows, turned)
    for entry, corrected in zip(entries, holm([entry[_P] for entry in entries]), strict=True):
        entry[_P_HOLM] = corrected  # of all pairs: whoever asks for more has to pay for it
    return entries


def _entries(
    outcome: Outcome,
    one: Variant,
    others: Sequence[Variant],
    rows: np.ndarray | None,
    turned: bool,
) -> list[list]:
    """``one`` minus each of the others, or turned; without Holm's p-values."""
    outcome.controls.add(one.name)
    chosen = slice(None) if rows is None else rows
    bootstrap = UserBootstrap(
        outcome.test_users[chosen], outcome.test_labels[chosen], outcome.scores(one)[:, chosen]
    )
    entries = []
    for other in others:
        by_metric = bootstrap.differences(outcome.scores(other)[:, chosen])
        found = [by_metric[name] for name in METRICS]
        if turned:
            found = [each and each.negated() for each in found]
        auc = found[0]
        t_test = (
            paired_t_test(outcome.values(one, "auc"), outcome.values(other, "auc"))
            if rows is None
            else None
        )
        names = [other.name, one.name] if turned else [one.name, other.name]
        numbers = [each and Interval(each.value, each.low, each.high) for each in found]
        of_auc = [auc.standard_error, auc.p_value] if auc else [None, None]
        entries.append([*names, *numbers, *of_auc, None, t_test, auc.draws if auc else None])
    return entries
