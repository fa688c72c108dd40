"""Paired differences between lines of a table, each with its interval over users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recbole_genci.experiments.definition import Variant
from recbole_genci.experiments.outcome import Outcome
from recbole_genci.experiments.significance import (
    METRICS,
    Difference,
    UserBootstrap,
    holm,
    paired_t_test,
)
from recbole_genci.experiments.tables import Column, Interval, Table

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
READING = (
    "Differences are paired: of the means over the seeds, on the same rows. Intervals are 95 % "
    "percentile intervals of a bootstrap that draws whole users, the same for both lines and all "
    "seeds, and ask whether other users would show the difference. 'AUC p' is of the same draws; "
    "'Holm' corrects it for the number of lines that one line is compared with. The t-test pairs "
    "the seeds and asks whether training both again would show the difference again; it needs 3 "
    "seeds, and so few find only large differences."
)


def reading(outcome: Outcome) -> str:
    """How to read the table."""
    if outcome.has_users:
        return READING
    return f"{READING} Rows have no user here, so that single rows are drawn."


def of_one(
    outcome: Outcome, one: Variant, others: Sequence[Variant], rows: np.ndarray | None = None
) -> list[list]:
    """``one`` minus each of the others: entries of ``COLUMNS``, a list for each.

    Args:
        one: a line whose seeds have all finished, as all others' have.
        rows: ``[R]`` bool, which test rows count; all by default. There is no t-test for a part of
            them.
    """
    return _entries(outcome, one, others, rows, turned=False)


def against(outcome: Outcome, control: Variant, others: Sequence[Variant]) -> list[list]:
    """Each of the others minus ``control``; otherwise as ``of_one``."""
    return _entries(outcome, control, others, None, turned=True)


def against_each(outcome: Outcome, names: Sequence[str]) -> list[list]:
    """Every line minus each of those that ``names`` has, a pair once; as ``against``."""
    complete = outcome.complete_variants()
    controls = [variant for variant in complete if variant.name in names]
    return [
        row for one, others in _pairs(controls, complete) for row in against(outcome, one, others)
    ]


def of_each(
    outcome: Outcome, ones: Sequence[Variant], rows: np.ndarray | None = None
) -> list[list]:
    """Each of ``ones`` minus every other line, a pair once; as ``of_one``."""
    pairs = _pairs(ones, outcome.complete_variants())
    return [row for one, others in pairs for row in of_one(outcome, one, others, rows)]


def _pairs(
    ones: Sequence[Variant], complete: Sequence[Variant]
) -> Iterator[tuple[Variant, list[Variant]]]:
    """Each of ``ones`` with all lines but itself and those of ``ones`` before it."""
    for place, one in enumerate(ones, start=1):
        yield one, [each for each in complete if each not in ones[:place]]


def table(rows: Sequence[list], first: Sequence[Column] = ()) -> Table:
    """The table of such rows, with further columns in front."""
    return Table((*first, *COLUMNS), list(rows))


def _entries(
    outcome: Outcome,
    one: Variant,
    others: Sequence[Variant],
    rows: np.ndarray | None,
    turned: bool,
) -> list[list]:
    outcome.controls.add(one.name)
    chosen = slice(None) if rows is None else rows
    bootstrap = UserBootstrap(
        outcome.test_users[chosen], outcome.test_labels[chosen], outcome.scores(one)[:, chosen]
    )
    measured = [bootstrap.differences(outcome.scores(other)[:, chosen]) for other in others]
    corrected = holm([_p_value(each["auc"]) for each in measured])
    entries = []
    for other, by_metric, p_holm in zip(others, measured, corrected):
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
        end = [auc.standard_error if auc else None, _p_value(auc), p_holm, t_test]
        entries.append([*names, *numbers, *end, auc.draws if auc else None])
    return entries


def _p_value(difference: Difference | None) -> float | None:
    return difference.p_value if difference else None
