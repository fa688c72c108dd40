"""The comparison table."""

import pytest
from finished_runs import finished_run

from recbole_genci.comparison.table import comparison_table
from recbole_genci.comparison.text import as_markdown


def test_the_table_is_the_mean_and_deviation_over_seeds():
    runs = [
        finished_run("LR", 1, 0.7),
        finished_run("GenCI", 1, 0.8),
        finished_run("LR", 2, 0.72),
        finished_run("GenCI", 2, 0.84),
    ]
    table = comparison_table(runs)
    assert list(table.index) == ["LR", "GenCI"] and list(table["seeds"]) == [2, 2]
    assert table.loc["GenCI", "AUC"] == pytest.approx(0.82)
    assert table.loc["GenCI", "AUC sd"] == pytest.approx(0.028284, abs=1e-6)
    assert table.loc["GenCI", "RelaImpr [%]"] == pytest.approx((0.32 / 0.21 - 1) * 100)
    assert "| GenCI | 0.8200 ± 0.0283 | 0.1800 ± 0.0283 | 52.38 % |" in as_markdown(table)
    assert "±" not in as_markdown(comparison_table(runs[:2]))


def test_a_metric_that_one_seed_lacks_has_no_mean():
    runs = [finished_run("LR", seed, 0.7) for seed in (1, 2)]
    runs[0]["test"]["gauc"], runs[1]["test"]["gauc"] = None, 0.9
    assert comparison_table(runs)["GAUC"].isna().all()
    runs[0]["test"]["gauc"] = 0.8
    assert comparison_table(runs).loc["LR", "GAUC"] == pytest.approx(0.85)


def test_the_best_epoch_of_one_seed_is_a_whole_number_and_of_several_a_mean():
    runs = [
        finished_run("LR", 1, 0.7),
        finished_run("LR", 2, 0.7) | {"best_epoch": 5},
        finished_run("FM", 1, 0.8) | {"best_epoch": 10},
    ]
    table = comparison_table(runs)
    assert [line.split(",")[-4] for line in table.to_csv().splitlines()[1:]] == ["3.5", "10"]
    assert [line.split("|")[6].strip() for line in as_markdown(table).splitlines()[2:]] == [
        "3.5",
        "10",
    ]
