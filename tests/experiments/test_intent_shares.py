"""benchmarks/intent_shares.py: the numbers of `--experiment=intents`, for runs that are there."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import SMALL_GENCI, tiny_rows, write_dataset

from recbole_genci import load, run
from recbole_genci.evaluation.intent_sensitivity import short_term_sensitivity


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import intent_shares

    yield intent_shares
    sys.modules.pop("intent_shares", None)


def test_each_run_has_a_line_of_shares(script, tmp_path, capsys, monkeypatch):
    keys = write_dataset(tmp_path, tiny_rows(num_users=30, rows_per_user=20)) | {"epochs": 1}
    folders = [
        run("GenCI", "tiny", config_dict=keys | SMALL_GENCI | more)[0].folder
        for more in ({}, {"cohort_gradient": False}, {"intent_extraction": "mean"})
    ]
    file = tmp_path / "shares.csv"
    monkeypatch.setattr(sys, "argv", ["", "--rows=40", f"--output={file}", *map(str, folders)])
    script.main()
    table = pd.read_csv(file)
    assert capsys.readouterr().out.count("\n") == 2 + len(table)
    assert list(table["cohort_gradient"]) == [True, False, True]
    for folder, found in zip(folders, table.to_dict("records"), strict=True):
        expected = short_term_sensitivity(load(folder), 40, script.SEED)
        assert {key: found[key] for key in expected} == pytest.approx(expected, abs=6e-5)
        assert found["valid AUC"] == pytest.approx(load(folder).evaluate("valid")["auc"], abs=6e-5)
    # The mean over cohorts asks neither the target nor the history.
    assert table["target item"][2] == table["history"][2] == 0 < table["generated cohorts"][2]


def test_a_run_of_another_model_is_refused(script, tmp_path):
    keys = write_dataset(tmp_path, tiny_rows()) | {"epochs": 1}
    folder = run("DeepFM", "tiny", config_dict=keys)[0].folder
    with pytest.raises(
        ValueError, match="DeepFM has no long-term and .* give the folder of a GenCI run."
    ):
        script.shares(load(folder), 40)
