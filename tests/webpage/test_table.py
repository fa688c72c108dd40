"""Tables: sorted at first, whatever wraps, the headings of a page."""

import pytest
from test_page import Reader

from recbole_genci.experiments.outcome import AVERAGED
from recbole_genci.experiments.tables import Column, Estimate, Table
from recbole_genci.webpage.table import Cell, sortable_table


@pytest.mark.parametrize("head", ["AUC", "AUC (± sd)"])
def test_the_best_line_comes_first(head):
    rows = [
        [Cell("LR"), Cell("–", is_empty=True), Cell("3 seeds")],
        [Cell("DIN"), Cell("0.6", 0.6), Cell("3 seeds")],
        [Cell("FM"), Cell("0.7", 0.7), Cell("failed; " + "because " * 20)],
    ]
    reader = Reader(sortable_table(["model", head, "runs"], rows, sorted_by="AUC"))
    cells = [attributes for tag, attributes in reader.elements if tag == "td"]
    assert [each["data-value"] for each in cells[::3]] == ["FM", "DIN", "LR"]
    sorts = [attributes.get("aria-sort") for tag, attributes in reader.elements if tag == "th"]
    assert sorts == [None, "descending", None]
    assert [each["class"] for each in cells[2::3]] == ["text long", "text", "text"]
    plain = Reader(sortable_table(["model", "LogLoss", "runs"], rows, sorted_by="AUC"))
    names = [attributes["data-value"] for tag, attributes in plain.elements if tag == "td"][::3]
    assert names == ["LR", "DIN", "FM"]  # no such column


def test_a_page_has_headings_of_its_own_and_the_files_keep_theirs():
    columns = (Column("model"), Column("AUC", error="sd"), *AVERAGED)
    table = Table(columns, [["LR", Estimate(0.5, 0.1), 0.6, 0.7]])
    assert table.page_heads()[1:3] == ["AUC (± sd)", "AUC of the seeds' ensemble"]
    assert table.csv().startswith("model,AUC,AUC sd,AUC of averaged logits,LogLoss of averaged")
    assert table.heads()[2] == "AUC of averaged logits"
