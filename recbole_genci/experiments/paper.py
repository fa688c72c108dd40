"""The figures that the paper prints, by table, dataset and line; ``paper.yaml`` holds them."""

from __future__ import annotations

import functools
from pathlib import Path

import yaml


@functools.cache
def _tables() -> dict:
    return yaml.safe_load(Path(__file__).with_name("paper.yaml").read_text(encoding="utf-8"))


def figure(table: int, dataset: str, line: str, column: str) -> float | None:
    """The figure in a table of the paper; None if the table lacks the dataset, line or column."""
    return _tables()[f"table {table}"].get(dataset, {}).get(line, {}).get(column)


def has(table: int, dataset: str) -> bool:
    """Whether a table of the paper is about the dataset."""
    return dataset in _tables()[f"table {table}"]


def remark(table: int, dataset: str) -> str:
    """A sentence for ``table.md``: which columns are the paper's, or that there are none."""
    if has(table, dataset):
        return f"Columns named `paper` are from the paper's Table {table}."
    datasets = ", ".join(_tables()[f"table {table}"])
    return f"The paper has no figures for {dataset} (its Table {table} has {datasets})."
