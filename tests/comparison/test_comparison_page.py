"""The page of a comparison."""

from finished_runs import finished_run

from recbole_genci.comparison.page import comparison_page
from recbole_genci.comparison.table import comparison_table


def test_the_page_marks_genci_and_starts_with_the_best():
    runs = [finished_run("LR", 1, 0.9), finished_run("GenCI", 1, 0.8), finished_run("DIN", 1, 0.85)]
    text = comparison_page(runs, comparison_table(runs), "about\nmore", [], "command", None)
    rows = text.split("<tbody>")[1].split("</tbody>")[0].split("<tr")[1:]
    assert [row.split('"text">')[1].split("<")[0] for row in rows] == ["LR", "DIN", "GenCI"]
    assert [row.startswith(" class=highlighted") for row in rows] == [False, False, True]
    assert "GAUC" not in text
    for run in runs:
        run["test"]["gauc"] = None
    text = comparison_page(runs, comparison_table(runs), "about", [], "command", None)
    assert "GAUC is undefined: no user has test rows of both classes." in text
