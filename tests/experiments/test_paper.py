"""The paper's figures as they were copied: its own RelaImpr and sparsity must follow from them."""

import pytest

from recbole_genci.evaluation.metrics import rela_impr
from recbole_genci.experiments import paper
from recbole_genci.experiments.definition import read

CONTROL = "SR alone"  # a line of ours in Table 4
DATASETS = ("ml-1m", "amazon-fashion", "amazon-instruments")


@pytest.mark.parametrize("dataset", DATASETS)
def test_table_3_agrees_with_itself(dataset):
    base = paper.figure(3, dataset, "LR", "AUC")
    for line in read("compare").variants:
        if line.keys:  # a variant of ours, beside the paper's models
            continue
        auc, printed = (
            paper.figure(3, dataset, line.name, column) for column in ("AUC", "RelaImpr [%]")
        )
        if line.name == "LR":
            assert printed is None
        else:  # the AUC is rounded: 0.00005 of it are 0.03 %
            assert rela_impr(auc, base) == pytest.approx(printed, abs=0.05), line.name
        assert paper.figure(3, dataset, line.name, "latency [s]") > 0


@pytest.mark.parametrize("dataset", DATASETS)
def test_tables_2_3_and_4_agree_with_one_another(dataset):
    names = ("users", "items", "interactions", "sparsity [%]", "Avg.n")
    users, items, rows, sparsity, length = (paper.figure(2, dataset, "all", name) for name in names)
    assert 100 * (1 - rows / users / items) == pytest.approx(sparsity, abs=0.011)
    assert rows / users == pytest.approx(length, abs=0.03)
    for column in ("AUC", "LogLoss"):
        full = paper.figure(4, dataset, "GenCI", column)
        assert full == paper.figure(3, dataset, "GenCI", column)
    assert all(
        paper.figure(4, dataset, line.name, "AUC") <= paper.figure(4, dataset, "GenCI", "AUC")
        for line in read("ablation").variants
        if line.name != CONTROL
    )


def test_what_the_paper_does_not_print_is_none():
    assert (
        paper.figure(3, "ml-100k", "LR", "AUC") is None
        and paper.figure(5, "ml-1m", "LR", "fast AUC") is None
    )
    assert paper.figure(5, "ml-1m", "GenCI", "fast AUC") == 0.9049
    assert "no figures for ml-100k" in paper.remark(3, "ml-100k") and "Table 3" in paper.remark(
        3, "ml-1m"
    )
