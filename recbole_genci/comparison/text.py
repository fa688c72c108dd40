"""The comparison table as text, for a console, Markdown or LaTeX."""

from __future__ import annotations

import pandas as pd

from recbole_genci.comparison.text_tables import markdown_table


def as_text(table: pd.DataFrame, times: bool = True) -> pd.DataFrame:
    """The comparison as text, ``mean ± sd`` for several seeds; ``times`` adds latency and
    training.
    """
    shown = pd.DataFrame(index=table.index)
    for column in ("AUC", "LogLoss"):
        sd = table[f"{column} sd"]
        shown[column] = [
            f"{m:.4f}" + (f" ± {s:.4f}" if pd.notna(s) else "") for m, s in zip(table[column], sd)
        ]
    if "RelaImpr [%]" in table:
        shown["RelaImpr"] = [f"{value:.2f} %" for value in table["RelaImpr [%]"]]
    known = (
        "AUC",
        "LogLoss",
        "RelaImpr [%]",
        "valid AUC",
        "best epoch",
        "latency [s]",
        "training [s]",
        "seeds",
    )
    for column in [name for name in table if name not in known and not name.endswith(" sd")]:
        shown[column] = ["-" if pd.isna(value) else f"{value:.4f}" for value in table[column]]
    shown["valid AUC"] = [f"{value:.4f}" for value in table["valid AUC"]]
    shown["best epoch"] = [
        str(value) if isinstance(value, int) else f"{value:.1f}" for value in table["best epoch"]
    ]
    if times:
        shown["latency"] = [f"{value:.3g} s" for value in table["latency [s]"]]
        shown["training"] = [f"{value:.0f} s" for value in table["training [s]"]]
    shown["seeds"] = table["seeds"].astype(str)
    return shown


def as_markdown(table: pd.DataFrame) -> str:
    """A Markdown table, ``mean ± sd`` for several seeds, with latency and training."""
    return markdown_table(*entries(as_text(table)))


def entries(shown: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of a table of texts."""
    rows = [[name, *row] for name, row in zip(shown.index, shown.to_numpy().tolist())]
    return ["model", *shown.columns], rows
