"""The notebook: its cells run from top to bottom, and it holds no output and no path."""

import ast
import json
import re
from pathlib import Path

NOTEBOOK = Path(__file__).parents[1] / "examples/quick_start.ipynb"


def code_cells():
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def test_the_notebook_is_clean():
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    cells = code_cells()
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    for cell in cells:
        ast.parse(source(cell))  # no magics: it is plain Python
    assert not re.search(r"/(home|root|tmp|work|Users)/", NOTEBOOK.read_text(encoding="utf-8"))


def test_the_first_cell_installs_only_where_nothing_is_installed():
    first = code_cells()[0]
    assert first["metadata"]["tags"] == ["install"]
    exec(compile(source(first), "install", "exec"), {})  # it is installed: pip is not called


def test_the_notebook_runs_from_top_to_bottom(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    given, quick = '{"epochs": EPOCHS}', {"epochs": 1, "latency_repeats": 1}
    quick["semantic_id_path"] = str(NOTEBOOK.parents[1] / "properties/semantic_ids/ml-100k")
    assert sum(given in source(cell) for cell in code_cells()) == 1
    for cell in code_cells()[1:]:
        code = source(cell).replace(given, repr(quick))
        exec(compile(code, cell["id"], "exec"), names)
    results = names["results"]
    assert [each.model for each in results] == ["LR", "DeepFM", "GenCI"]
    assert len({each["data_fingerprint"] for each in results}) == 1
    for result in results[1:]:  # far above chance: they learn the real ml-100k
        assert 0.75 < result["test"]["auc"] < 0.95
    assert names["titles"]["50"].startswith("Star Wars")
    assert "level 1:" in capsys.readouterr().out
    for ranked in (names["best"], names["after"]):
        assert len(ranked) == 5 and ranked["title"].notna().all()
    assert "50" not in set(names["after"]["item"])  # it has just been clicked
    assert names["report"].is_file()
