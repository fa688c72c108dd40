"""The page in a real browser: charts are drawn, headings sort, the field filters the cohorts."""

import json
import re
import shutil
import subprocess
from html import unescape

import numpy as np
import pytest
from test_page import HOSTILE

from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.webpage.charts import Trace, chart
from recbole_genci.webpage.cohorts import cohort_browser
from recbole_genci.webpage.page import Section, page
from recbole_genci.webpage.table import Cell, sortable_table

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium is installed: apt install chromium"
)

#: What a person does, and what they see then, as JSON in the title.
ACTIONS = """
<script>
window.onload = () => {
  const rows = () => [...document.querySelectorAll("tbody tr")]
    .map((row) => row.cells[0].textContent);
  const [model, auc] = document.querySelectorAll("th[data-sort]");
  const seen = {errors: window.failures, before: rows()};
  auc.click(); seen.down = rows();
  auc.click(); seen.up = rows();
  model.click(); seen.names = rows();
  const field = document.querySelector("input[type=search]");
  field.value = "CASABL"; field.dispatchEvent(new Event("input"));
  seen.cohorts = [...document.querySelectorAll("details")].filter((each) => !each.hidden)
    .map((each) => each.querySelector("summary").textContent);
  seen.charts = document.querySelectorAll(".main-svg").length;
  seen.legend = [...document.querySelectorAll(".legendtext")].map((each) => each.textContent);
  document.title = JSON.stringify(seen);
};
</script>
"""
WATCH = """<script>
window.failures = []; window.alert = (text) => window.failures.push(text);
window.onerror = (text) => window.failures.push(text);
</script>"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    rows = [
        [Cell("LR"), Cell("0.5 ± 0.1", 0.5)],
        [Cell(HOSTILE), Cell("–", is_empty=True)],
        [Cell("DIN"), Cell("0.6", 0.6)],
        [Cell("FM"), Cell("0.07", 0.07)],
    ]
    ids = SemanticIDs(np.array([[0, 0], [1, 0], [1, 1]]), ("a", "b", "c"), (2, 2))
    texts = {"a": "Alien", "b": HOSTILE, "c": "Casablanca"}
    sections = [
        Section("table", "Table", sortable_table(["model", "AUC"], rows)),
        Section("chart", HOSTILE, chart("c", [Trace(HOSTILE, [1, 2], [3, 4])], "x", "y"), True),
        cohort_browser(ids, texts),
    ]
    text = page(HOSTILE, HOSTILE, sections)
    text = text.replace("<head>", "<head>" + WATCH, 1).replace("</body>", ACTIONS + "</body>")
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(text, encoding="utf-8")
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=9000"]
    words += [f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*words, (folder / "report.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    (title,) = re.findall(r"<title>(\{.*?\})</title>", done.stdout, re.S)
    return json.loads(unescape(title))


def test_nothing_that_a_user_named_is_carried_out(seen):
    assert seen["errors"] == []


def test_a_click_sorts_and_empty_cells_stay_last(seen):
    assert seen["before"] == ["LR", HOSTILE, "DIN", "FM"]
    assert seen["down"] == ["DIN", "LR", "FM", HOSTILE]
    assert seen["up"] == ["FM", "LR", "DIN", HOSTILE]
    assert seen["names"] == ["LR", "FM", "DIN", HOSTILE]


def test_the_field_leaves_cohorts_with_the_word(seen):
    assert [each.split(",")[0] for each in seen["cohorts"]] == ["Code 1"]


def test_the_chart_is_drawn(seen):
    assert seen["charts"] > 0
    assert seen["legend"] == [HOSTILE]
