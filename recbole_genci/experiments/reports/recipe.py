"""Settings chosen by validation: the test figures stand in a table of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from recbole_genci.experiments.definition import Variant
from recbole_genci.experiments.outcome import AVERAGED, Outcome, Report
from recbole_genci.experiments.reports import differences
from recbole_genci.experiments.tables import Column, Interval, Table

_COLUMNS = (
    Column("line"),
    Column("valid AUC", error="sd"),
    Column("valid LogLoss", error="sd"),
    Column("best epoch", ".1f"),
    Column("minus"),
    Column("valid AUC difference", "+.4f", interval=True),
    Column("valid LogLoss difference", "+.4f", interval=True),
    Column("training [s]", ".0f"),
    Column("runs"),
)
_TEST = (
    Column("line"),
    Column("AUC", error="sd"),
    Column("LogLoss", error="sd"),
    Column("GAUC", error="sd"),
    *AVERAGED,
)
_SETTINGS = (
    Column("settings"),
    Column("valid AUC below the model's best, mean", ".4f"),
    Column("at most", ".4f"),
    Column("by", ""),
    Column("valid LogLoss above the model's best, mean", ".4f"),
    Column("models", ",d"),
)
OPTIONAL = ("settings", "test_differences")  # tables of some requests
_READING = (
    "Choose by the first table: the mean over seeds of validation AUC at the best epochs. Its "
    "differences are paired by seed; their 95 % intervals are those of a paired t-test over the "
    "seeds, and ask whether training again would show the difference again. Test figures choose "
    "nothing."
)


def report(outcome: Outcome, folder: Path) -> Report:
    """Return the tables: by validation, the settings over all models, and the test figures."""
    variants = outcome.request.variants
    rows = [row for variant in variants for row in _rows(outcome, variant)]
    tables = {"table": Table(_COLUMNS, rows).without_empty_columns()}
    remarks = [_READING]
    if settings := _settings(outcome):
        tables["settings"] = Table(_SETTINGS, settings)
        remarks.append(
            "'settings': how far each setting's mean validation AUC is below that of the model's "
            "best setting here, over the models that have finished all settings."
        )
    test = [_tested(outcome, variant) for variant in variants]
    tables["test"] = Table(_TEST, test).without_empty_columns()
    if found := differences.against_each(outcome, outcome.request.definition.against):
        tables["test_differences"] = differences.table(found)
        remarks.append(differences.reading(outcome))
    return Report(tables, remarks, split="Validation split, but for tables that say test")


def _controls(outcome: Outcome, variant: Variant) -> list[Variant]:
    """The lines that a line is compared with: the definition's, or the model's first."""
    variants, names = outcome.request.variants, outcome.request.definition.against
    if names:
        return [each for each in variants if each.name in names and each != variant]
    first = next(each for each in variants if each.model == variant.model)
    return [] if first == variant else [first]


def _rows(outcome: Outcome, variant: Variant) -> list[list]:
    """The line's row; one for each control, the figures of the line itself in the first."""
    controls = _controls(outcome, variant)
    own = [
        outcome.valid_mean(variant, "auc"),
        outcome.valid_mean(variant, "logloss"),
        outcome.number(variant, "best_epoch", np.mean),
    ]
    end = [outcome.number(variant, "training_s", np.mean), outcome.status(variant)]
    rows: list[list] = []
    compared_with: list[Variant | None] = [*controls] or [None]
    for control in compared_with:
        compared = [None] * 3 if control is None else _compared(outcome, variant, control)
        rows.append([variant.name, *own, *compared, *end])
        own, end = [None, None, None], [None, None]
    return rows


def _compared(outcome: Outcome, variant: Variant, control: Variant) -> list:
    if not (outcome.complete(variant) and outcome.complete(control)):
        return [control.name, None, None]
    differences_of = (
        outcome.valid_values(variant, name) - outcome.valid_values(control, name)
        for name in ("auc", "logloss")
    )
    return [control.name, *map(_interval, differences_of)]


def _interval(values: np.ndarray) -> Interval | None:
    """The mean of paired differences with its 95 % interval by Student's t."""
    if not len(values) or not np.isfinite(values).all():
        return None
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, None, None)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half)


def _settings(outcome: Outcome) -> list[list]:
    """A row for each setting, the smallest mean distance first."""
    by_model: dict[str, dict[str, tuple[float, float]]] = {}
    for variant in outcome.request.variants:
        auc, logloss = (outcome.valid_mean(variant, name) for name in ("auc", "logloss"))
        if variant.settings and auc and logloss:
            by_model.setdefault(variant.model, {})[variant.settings] = auc.value, logloss.value
    names = list(dict.fromkeys(v.settings for v in outcome.request.variants if v.settings))
    return distances(names, {m: each for m, each in by_model.items() if len(each) == len(names)})


def distances(names: Sequence[str], cases: dict[str, dict[str, tuple[float, float]]]) -> list[list]:
    """How far each setting is from the best one of each case, entries of the table ``settings``.

    Args:
        names: the settings.
        cases: for each model (or model on a dataset) the validation AUC and LogLoss by setting.
    """
    rows = []
    for name in names if cases else ():
        below = {
            case: max(auc for auc, _ in found.values()) - found[name][0]
            for case, found in cases.items()
        }
        above = [
            found[name][1] - min(loss for _, loss in found.values()) for found in cases.values()
        ]
        worst = max(below, key=lambda case: below[case])
        mean = float(np.mean(list(below.values())))
        rows.append([name, mean, below[worst], worst, float(np.mean(above)), len(cases)])
    return sorted(rows, key=lambda row: row[1])


def _tested(outcome: Outcome, variant: Variant) -> list:
    means = [outcome.mean(variant, name) for name in ("auc", "logloss", "gauc")]
    return [variant.name, *means, *outcome.averaged(variant)]
