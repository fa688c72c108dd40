import importlib.util
import json

import numpy as np
import pytest

from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.quantization.quality import (
    codes_quality,
    describe_quality,
    is_balanced,
    level_quality,
)
from recbole_genci.tokenizer.report.plots import CODE_USAGE, ITEM_MAP, write_plots
from recbole_genci.tokenizer.report.report import example_cohorts, write_report


@pytest.fixture
def ids():
    rng = np.random.default_rng(0)
    codes = np.column_stack([rng.integers(0, 5, 60), rng.integers(0, 7, 60), np.arange(60)])
    quality = codes_quality(codes[:, :2], (5, 7)) | {
        "equal_embeddings": 0.1,
        "reconstruction_error": 0.25,
        "neighbor_recall": None,
    }
    settings = {"text_encoder": "lsa", "quantizer": "rqvae", "num_codebooks": 2, "codebook_size": 7}
    manifest = {"settings": settings, "encoder_revision": "1", "versions": {}, "quality": quality}
    return SemanticIDs(codes, tuple(f"i{n}" for n in range(60)), (5, 7, 60), manifest)


TEXTS = [f"Title {n} | of_a *film*" for n in range(60)]


def test_figures_of_a_level_are_those_of_a_hand_calculation():
    level = level_quality(np.array([0, 0, 1, 3]), 4)
    assert (level["used"], level["largest_share"]) == (3, 0.5)
    assert level["perplexity"] == pytest.approx(2**1.5)
    assert level["gini"] == pytest.approx(
        0.375
    )  # mean absolute difference over twice the mean of 2, 1, 0, 1
    assert level_quality(np.arange(4), 4)["gini"] == pytest.approx(0)
    assert is_balanced(level_quality(np.arange(64), 64))
    assert not is_balanced(level_quality(np.r_[np.zeros(20, dtype=int), np.arange(64)], 64))
    assert not is_balanced(level_quality(np.arange(64) % 30, 64))


def test_example_cohorts_show_their_own_items_largest_first(ids):
    cohorts = example_cohorts(ids, TEXTS)
    assert {cohort["level"] for cohort in cohorts} == {1, 2}
    for cohort in cohorts:
        members = ids.codes[:, cohort["level"] - 1] == cohort["code"]
        assert cohort["items"] == members.sum()
        for example in cohort["examples"]:
            row = int(example["item"][1:])
            assert members[row] and example["text"] == TEXTS[row]
    first = [cohort for cohort in cohorts if cohort["level"] == 1]
    assert first[0]["items"] == np.bincount(ids.codes[:, 0]).max()


def test_the_report_is_saved_as_json_and_markdown(ids, tmp_path):
    markdown = write_report(ids, TEXTS, tmp_path, ["code_usage.png"])
    assert (tmp_path / "report.md").read_text() == markdown
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["digest"] == ids.digest and report["quality"] == ids.manifest["quality"]
    assert "level 1, code " in markdown and "![code usage](code_usage.png)" in markdown
    assert r"\| of\_a \*film\*" in markdown  # titles cannot break the page
    for word in (
        "perplexity",
        "gini",
        "largest bucket",
        "neighbour recall@10",
        "collision rate before the digit",
    ):
        assert word in markdown
    assert "unbalanced" not in describe_quality(ids.manifest["quality"] | {"neighbor_recall": 0.5})


def test_plots_are_pictures(ids, tmp_path):
    pytest.importorskip("matplotlib")
    vectors = np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32)
    assert write_plots(ids, vectors, tmp_path, 0) == [CODE_USAGE, ITEM_MAP]
    for name in (CODE_USAGE, ITEM_MAP):
        content = (tmp_path / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5000
    assert write_plots(ids, vectors * np.float32(1e-25), tmp_path, 0) == [CODE_USAGE, ITEM_MAP]
    assert write_plots(ids, np.ones((60, 8)), tmp_path / "same", 0) == [CODE_USAGE]


def test_without_matplotlib_a_line_says_what_is_missing(ids, tmp_path, monkeypatch, caplog):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    assert write_plots(ids, np.ones((60, 8)), tmp_path, 0) == []
    assert "pip install matplotlib" in caplog.text and not list(tmp_path.iterdir())


def test_vectors_of_one_number_leave_the_map_out(ids, tmp_path, caplog):
    pytest.importorskip("matplotlib")
    caplog.set_level("INFO")
    assert write_plots(ids, np.arange(60.0)[:, None], tmp_path, 0) == [CODE_USAGE]
    assert "width 1" in caplog.text


def test_the_report_cuts_long_texts_and_calls_a_single_code_neither_balanced_nor_not(ids, tmp_path):
    ids.manifest["quality"]["levels"][0] = level_quality(np.zeros(60, dtype=int), 1)
    markdown = write_report(ids, ["word " * 200] * 60, tmp_path)
    assert max(len(line) for line in markdown.splitlines()) < 1000 and "word word..." in markdown
    assert "| 1 | 1 of 1 | 1.0 | 100.00% | 0.00 | - |" in markdown
