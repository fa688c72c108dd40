"""Markdown and CSV of one table."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

from recbole_genci.experiments.tables import MISSING, Column, Estimate, Interval, Table

TABLE = Table(
    (
        Column("model"),
        Column("AUC", error="sd"),
        Column("gain", "+.3f", error="se"),
        Column("time [s]", ".3g"),
        Column("rows"),
    ),
    [
        ["LR", Estimate(0.83881, 0.00034), None, 0.012345, 1234],
        ["a|b", Estimate(0.5), Estimate(-0.0124, 0.25), None, 7],
    ],
)


def test_markdown_and_csv_say_the_same():
    assert TABLE.markdown().splitlines() == [
        "| model | AUC (± sd) | gain (± se) | time [s] | rows |",
        "| --- | --- | --- | --- | --- |",
        f"| LR | 0.8388 ± 0.0003 | {MISSING} | 0.0123 | 1,234 |",
        f"| a/b | 0.5000 | -0.012 ± 0.250 | {MISSING} | 7 |",
    ]
    head, *lines = csv.reader(io.StringIO(TABLE.csv()))
    assert head == ["model", "AUC", "AUC sd", "gain", "gain se", "time [s]", "rows"]
    assert lines == [
        ["LR", "0.83881", "0.00034", "", "", "0.012345", "1234"],
        ["a|b", "0.5", "", "-0.0124", "0.25", "", "7"],
    ]


def test_an_interval_is_one_cell_and_three_columns():
    table = Table(
        (Column("difference", "+.3f", interval=True),),
        [[Interval(0.0014, 0.0002, 0.0028)], [Interval(-0.1, None, None)], [None]],
    )
    assert table.markdown().splitlines() == [
        "| difference (95 %) |",
        "| --- |",
        "| +0.001 (+0.000 to +0.003) |",
        "| -0.100 |",
        f"| {MISSING} |",
    ]
    assert list(csv.reader(io.StringIO(table.csv()))) == [
        ["difference", "difference 95 % from", "difference 95 % to"],
        ["0.0014", "0.0002", "0.0028"],
        ["-0.1", "", ""],
        ["", "", ""],
    ]


COMMITTED = sorted((Path(__file__).parents[2] / "benchmarks" / "experiments").glob("*/table.md"))


def numbers(text):
    """Numbers in a cell, each with half a unit of its last decimal."""
    found = re.findall(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", text)
    return [
        (
            float(number.replace(",", "")),
            0.5 * 10.0 ** -len(number.partition(".")[2].partition("e")[0]),
        )
        for number in found
    ]


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.parent.name)
def test_committed_tables_are_their_csv_files(file):
    """Every cell of Markdown is the CSV's value, rounded, and its error behind it."""
    blocks = re.split(r"^## (.+)\n", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for name, block in zip(["table", *blocks[1::2]], blocks[::2], strict=True):
        lines = [
            [cell.strip() for cell in line.strip("| ").split(" | ")]
            for line in block.splitlines()
            if line.startswith("| ")
        ]
        head, rows = lines[0], lines[2:]
        with (file.parent / f"{name}.csv").open(encoding="utf-8") as opened:
            records = list(csv.DictReader(opened))
        assert len(records) == len(rows) > 0
        for row, record in zip(rows, records):
            for column, cell in zip(head, row, strict=True):
                plain, _, error = column.partition(" (± ")
                plain, _, interval = plain.partition(" (95 %")
                value = record[plain]
                try:
                    expected = [float(value)]
                except ValueError:
                    assert cell == (value.replace("|", "/") or MISSING), column
                    continue
                if error and record[f"{plain} {error[:-1]}"]:
                    expected.append(float(record[f"{plain} {error[:-1]}"]))
                if interval and record[f"{plain} 95 % from"]:
                    expected += [float(record[f"{plain} 95 % {end}"]) for end in ("from", "to")]
                shown = numbers(cell)
                assert len(shown) == len(expected), column
                for (number, half), exact in zip(shown, expected):
                    assert abs(number - exact) <= half * 1.001 * max(
                        1, 10 ** (len(str(int(abs(exact)))) - 3)
                    ), column


def test_a_column_nobody_fills_is_left_out_and_a_wrong_row_refused():
    narrow = Table(TABLE.columns, [["LR", None, None, None, 3]]).without_empty_columns()
    assert (
        narrow.markdown().splitlines()[0] == "| model | rows |"
        and narrow.csv() == "model,rows\nLR,3\n"
    )
    with pytest.raises(ValueError, match="5 columns was given a row of 1"):
        Table(TABLE.columns, [["LR"]])


def test_means_need_every_value():
    values = [0.8, 0.82, 0.87]
    assert Estimate.mean(values) == Estimate(
        pytest.approx(0.83), pytest.approx(np.std(values, ddof=1))
    )
    assert Estimate.mean_difference(values).error == pytest.approx(
        np.std(values, ddof=1) / np.sqrt(3)
    )
    assert Estimate.mean([0.8]) == Estimate(0.8, None)
    assert Estimate.mean([0.8, np.nan]) is None and Estimate.mean([]) is None
