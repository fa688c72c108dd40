"""The page: well formed, nothing a user named is markup, missing parts say why."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_rows, write_dataset

from recbole_genci import run
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.webpage.charts import DotPanel, Trace, chart, dot_chart, looks_of
from recbole_genci.webpage.cohorts import cohort_browser
from recbole_genci.webpage.learning_curves import learning_curves, validation_curve
from recbole_genci.webpage.page import Section, absent, page, paragraph
from recbole_genci.webpage.table import Cell, matrix, sortable_table

HOSTILE = """</script><script>alert("x")</script>'"><img src=x onerror=alert(1)>"""
_VOID = {"meta", "input", "img", "br", "link", "hr"}


class Reader(HTMLParser):
    """Elements of a page; an error where they are not nested."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def count(self, tag):
        return sum(each == tag for each, _ in self.elements)


def test_a_page_is_whole_and_stands_alone():
    sections = [
        Section("one", "One", paragraph("hello")),
        Section("two", "Two", chart("c", [Trace("LR", [1, 2], [0.5, 0.6])], "x", "y"), True),
        absent("three", "Three", "nothing was trained."),
    ]
    text = page("A title", "About it.", sections)
    reader = Reader(text)
    assert [e for e in reader.elements if e[0] == "section"] == [
        ("section", {"id": name}) for name in ("one", "two", "three")
    ]
    links = [attributes["href"] for tag, attributes in reader.elements if tag == "a"]
    assert links == ["#one", "#two", "#three"]
    assert "Not available: nothing was trained." in reader.texts
    for tag, attributes in reader.elements:  # nothing is fetched
        assert "src" not in attributes and tag not in ("link", "iframe"), tag


def test_plotly_is_there_once_and_only_for_charts():
    without = page("t", "a", [Section("one", "One", "")])
    charts = [
        Section(name, name, chart(f"chart-{name}", [Trace("a", [0], [0])], "x", "y"), True)
        for name in ("one", "two")
    ]
    assert len(without) < 10_000
    assert 1_000_000 < len(page("t", "a", charts)) < 7_000_000


def test_nothing_that_a_user_named_is_markup():
    rows = [[Cell(HOSTILE), Cell("0.5", 0.5)]]
    ids = SemanticIDs(np.array([[0, 0], [0, 1]]), (HOSTILE, "b"), (1, 2))
    body = "".join(
        [
            sortable_table([HOSTILE, "AUC"], rows, [HOSTILE]),
            matrix([HOSTILE], [[(HOSTILE, HOSTILE, "")]]),
            cohort_browser(ids, {"b": HOSTILE}).body,
            chart("c", [Trace(HOSTILE, [HOSTILE], [0.5], HOSTILE)], HOSTILE, HOSTILE),
            dot_chart(
                "d",
                [HOSTILE],
                [DotPanel(HOSTILE, [0.5])],
                HOSTILE,
                looks_of([HOSTILE], [HOSTILE]),
                [HOSTILE],
            ),
            absent("a", HOSTILE, HOSTILE).body,
        ]
    )
    text = page(HOSTILE, HOSTILE, [Section("one", HOSTILE, body)])
    reader = Reader(text)
    assert "<img" not in text and "<script>alert" not in text
    assert reader.count("img") == 0
    # The page's own script and the chart's; plotly's is not in it.
    assert reader.count("script") == Reader(page("t", "a", [])).count("script") + 2 * Reader(
        chart("c", [], "x", "y")
    ).count("script")
    assert HOSTILE in "".join(reader.texts)  # it is shown as it is


def test_a_table_is_sorted_by_numbers_and_leaves_the_empty_at_the_end():
    rows = [
        [Cell("LR"), Cell("0.50 ± 0.01", 0.5), Cell("–", is_empty=True)],
        [Cell("DIN"), Cell("0.60 ± 0.02", 0.6), Cell("fine")],
    ]
    reader = Reader(sortable_table(["model", "AUC", "note"], rows, ["DIN"]))
    sorts = [attributes.get("data-sort") for tag, attributes in reader.elements if tag == "th"]
    assert sorts == ["text", "number", "text"]
    values = [attributes["data-value"] for tag, attributes in reader.elements if tag == "td"]
    assert values == ["LR", "0.5", "", "DIN", "0.6", "fine"]
    lines = [attributes for tag, attributes in reader.elements if tag == "tr"]
    assert [each.get("class") for each in lines] == [None, None, "highlighted"]


def test_cohorts_hold_the_items_of_a_code():
    codes = np.array([[0, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 1]])
    ids = SemanticIDs(codes, ("a", "b", "c", "d"), (2, 2, 2))
    section = cohort_browser(ids, {"a": "Alien", "b": "Brazil", "c": "Casablanca"})
    reader = Reader(section.body)
    assert reader.count("details") == 4 and reader.count("h3") == 2  # not the collision digit
    shown = [text for text in reader.texts if text.startswith("Code")]
    assert shown[0] == "Code 1, 3 items, such as Brazil"
    start = reader.texts.index(shown[0])
    assert reader.texts[start + 1 : start + 4] == ["Brazil", "Casablanca", "d"]


def test_learning_curves_are_those_of_the_runs(tmp_path):
    config = write_dataset(tmp_path, tiny_rows(rows_per_user=40)) | {"epochs": 3}
    del config["mlp_hidden_size"]  # no key of LR
    (result,) = run("LR", "tiny", config_dict=config)
    epochs, scores = validation_curve(result.folder)
    assert epochs == [1, 2, 3]
    best = max(scores)
    assert best == pytest.approx(result.best_valid["auc"], abs=1e-6)
    assert epochs[scores.index(best)] == result.best_epoch
    looks = looks_of(["LR", "gone"])
    runs = {("LR", 1): result.folder, ("gone", 2): tmp_path / "gone"}
    section = learning_curves(runs, "AUC", looks)
    assert section.has_charts and "Not available for gone, seed 2:" in section.body
    none = learning_curves({("gone", 2): tmp_path / "gone"}, "AUC", looks)
    assert "Not available: the folders of these runs" in none.body
    text = Path("results").glob("tiny-*/report.html")
    reader = Reader(next(text).read_text(encoding="utf-8"))
    assert reader.count("section") == 7 and "All pairs of models" in reader.texts
