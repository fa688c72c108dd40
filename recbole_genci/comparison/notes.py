"""Sentences that a reader of a comparison needs beside its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from recbole_genci.comparison.table import BASE_MODEL
from recbole_genci.evaluation.metrics import why_no_rela_impr

#: Keys that models of one command must have alike, and why.
_SAME_TERMS = {
    "train_batch_size": "which decides how many steps an epoch has",
    "metric_decimal_place": "to which metrics are rounded",
}


def missing_rela_impr(table: pd.DataFrame) -> str | None:
    """Why a comparison with the base model has no RelaImpr; None if it has, or needs none."""
    if BASE_MODEL not in table.index or len(table) == 1:
        return None
    return why_no_rela_impr(BASE_MODEL, table.loc[BASE_MODEL, "AUC"])


def notes(runs: Sequence[Mapping], table: pd.DataFrame) -> list[str]:
    """Sentences that a reader of the comparison needs beside it.

    Args:
        runs: the contents of their ``metrics.json``.
        table: what ``comparison_table`` makes of them.
    """
    why = missing_rela_impr(table)
    return [*([why] if why else []), *_unlike_lines(runs), *_not_ended(runs)]


def _unlike_lines(runs: Sequence[Mapping]) -> list[str]:
    """What is not the same in all lines, if something is not."""
    said = []
    of_rows = _lines_by([(run["model"], run["rows_fingerprint"]) for run in runs])
    if len(of_rows) > 1:
        said.append(
            "Not all lines read the same features or histories of the rows: "
            + "; ".join(f"{', '.join(lines)} (rows {rows[:12]})" for rows, lines in of_rows.items())
            + ". The keys load_col, history_source and history_labels decide them, for example."
        )
    for key, why in _SAME_TERMS.items():
        values = _lines_by([(run["model"], run["config"][key]) for run in runs])
        if len(values) > 1:
            said.append(
                f"Not all lines have the same {key}, {why}: "
                + "; ".join(f"{', '.join(lines)} {value}" for value, lines in values.items())
                + "."
            )
    metrics = _lines_by([(run["model"], run["config"]["valid_metric"]) for run in runs])
    if len(metrics) > 1:
        said.append(
            "Not all lines chose their best epoch by the same metric (valid_metric): "
            + "; ".join(f"{', '.join(lines)} by {metric}" for metric, lines in metrics.items())
            + "."
        )
    return said


def _lines_by(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The lines that have each value."""
    found: dict[str, list[str]] = {}
    for line, value in dict.fromkeys(pairs):
        found.setdefault(str(value), []).append(line)
    return found


def _not_ended(runs: Sequence[Mapping]) -> list[str]:
    return not_ended(
        [
            (run["model"], run["best_epoch"], run["config"]["epochs"], run["config"]["eval_step"])
            for run in runs
        ]
    )


def not_ended(runs: Sequence[tuple[str, int, int | None, int]]) -> list[str]:
    """Which models or lines had their best epoch last, so that further ones may be better still.

    Args:
        runs: of each its name, its best epoch, after which one it would have ended (None if the
            record does not say so), and every how many epochs it was evaluated.
    """
    last: dict[tuple[int, int], Counter[str]] = {}
    for name, best, epochs, eval_step in runs:
        if epochs is not None and best == epochs - epochs % max(eval_step, 1):
            last.setdefault((best, epochs), Counter())[name] += 1
    all_runs = Counter(name for name, *_ in runs)
    return [
        ", ".join(
            name if count == all_runs[name] else f"{name} ({count} of {all_runs[name]} seeds)"
            for name, count in counts.items()
        )
        + f": the last {'' if best == epochs else 'evaluated '}epoch ({best}) was the best, so "
        "training may not have ended; set more --epochs."
        for (best, epochs), counts in last.items()
    ]
