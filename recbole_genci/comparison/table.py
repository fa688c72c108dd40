"""The comparison table: one line per model, with mean and standard deviation over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from recbole_genci.comparison.lines import check_lines
from recbole_genci.config.metric_names import KNOWN
from recbole_genci.evaluation.metrics import rela_impr, why_no_rela_impr

BASE_MODEL = "LR"


def comparison_table(runs: Sequence[Mapping]) -> pd.DataFrame:
    """Aggregate runs into one line per model, in the order in which the models first ran.

    Arguments and errors are those of ``check_lines``.
    """
    check_lines(runs)
    more = _further_metrics(runs)
    table = _aggregated(_of_runs(runs, more), [_title(name) for name in more])
    if BASE_MODEL in table.index:
        base = table.loc[BASE_MODEL, "AUC"]
        if not why_no_rela_impr(BASE_MODEL, base):
            table.insert(4, "RelaImpr [%]", [rela_impr(auc, base) for auc in table["AUC"]])
    return table


def _further_metrics(runs: Sequence[Mapping]) -> list[str]:
    """The metrics beside AUC and LogLoss that all runs have, as ``metrics.json`` names them."""
    return [
        name
        for name in runs[0]["test"]
        if name not in ("auc", "logloss") and all(name in r["test"] for r in runs)
    ]


def _of_runs(runs: Sequence[Mapping], more: Sequence[str]) -> pd.DataFrame:
    """One line per run, with the metrics ``more``."""
    frame = pd.DataFrame(
        [
            {
                "model": r["model"],
                "seed": r["seed"],
                "AUC": r["test"]["auc"],
                "LogLoss": r["test"]["logloss"],
                "valid AUC": r["best_valid"]["auc"],
                "best epoch": r["best_epoch"],
                "latency [s]": r["latency_s"],
                "training [s]": r["training_s"],
            }
            for r in runs
        ]
    )
    for name in more:
        frame[_title(name)] = pd.Series([r["test"][name] for r in runs], dtype=float)
    return frame


def _aggregated(frame: pd.DataFrame, more: Sequence[str]) -> pd.DataFrame:
    """One line per model of the lines of its runs; ``more`` are the columns of further metrics."""
    groups = frame.groupby("model", sort=False)
    # A metric that one seed lacks has no mean: pandas would take that of the other seeds. Before
    # pandas 3, groups.mean() has no skipna.
    table = groups[["AUC", "LogLoss", *more, "valid AUC"]].agg(
        lambda column: column.mean(skipna=False)
    )
    for column in ("AUC", "LogLoss"):
        table.insert(table.columns.get_loc(column) + 1, f"{column} sd", groups[column].std(ddof=1))
    # One seed has a whole number, several have a mean.
    epochs = {
        model: int(of.iloc[0]) if len(of) == 1 else float(of.mean())
        for model, of in groups["best epoch"]
    }
    table["best epoch"] = pd.Series(epochs, dtype=object)
    table["latency [s]"] = groups["latency [s]"].median()
    table["training [s]"] = groups["training [s]"].mean()
    table["seeds"] = groups.size()
    return table


def _title(metric: str) -> str:
    """The column of a further metric: ``GAUC``, or a person's own metric as in ``metrics.json``."""
    return next((name for name in KNOWN if name.lower() == metric), metric)
