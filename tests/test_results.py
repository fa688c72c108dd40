"""What run, resume, tune and experiment return: one family of results."""

import copy
import inspect
import json
import pickle
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import stop_after, tiny_rows, write_dataset

import recbole_genci
from recbole_genci import experiment, load, resume, run, tune
from recbole_genci.config import parse_argv
from recbole_genci.results import ExperimentResult, Results, RunResult, SearchResult

PUBLIC = ["run", "resume", "load", "tune", "resume_search", "experiment", "tokenize", "Ranker"]
CLASSES = ["SavedRun", "RunResult", "Results", "SearchResult", "ExperimentResult"]
KEYS = ("load_col", "MAX_ITEM_LIST_LENGTH", "train_batch_size", "eval_batch_size", "metrics")
KEYS += ("gpu_id", "data_path", "latency_repeats", "epochs")


@pytest.fixture
def keys(tmp_path):
    written = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40))
    return {key: written[key] for key in KEYS if key in written} | {"epochs": 1}


def a_run(**metrics):
    said = {"model": "LR", "dataset": "tiny", "seed": 1, "test": {"auc": 0.5}, "folder": "saved/x"}
    return RunResult.of(said | {"best_valid": {"auc": 0.5, "logloss": 0.6}} | metrics)


def printed(result):
    """What ``print`` shows, and the first cells of its table; a quiet command prints it too."""
    text = str(result)
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert "Result" not in text and len({*map(len, table)}) == 1  # its columns line up
    return text, [line.split("|")[1].strip() for line in table]


def as_json(result):
    return json.loads(json.dumps(dict(result)))


def test_runs_are_typed_results_and_the_mappings_that_they_were(keys):
    results = run("LR,DeepFM", "tiny", config_dict=keys | {"seeds": 2})
    assert isinstance(results, Results) and len(results) == 4 and list(results) == [*results.runs]
    last = results[-1]
    assert (last.model, last.dataset, last.seed) == ("DeepFM", "tiny", 2021)
    written = json.loads((last.folder / "metrics.json").read_text())
    assert last.metrics == dict(last) == written == as_json(last) and last == written
    assert last["folder"] == str(last.folder) and isinstance(last.folder, Path)
    assert [last.test, last.best_valid] == [written["test"], written["best_valid"]]
    assert (last.best_epoch, last.epochs) == (1, 1) and "seed" in last and last.get("no") is None
    assert last.load().evaluate() == last["test"] == load(last["folder"]).evaluate()
    assert f"{last.test['auc']:.4f}" in repr(last) and str(last.folder) in repr(results)
    text, lines = printed(results)
    table, *beside = text.split("\n\n")
    assert lines[0] == "model" and lines[2:] == ["LR", "DeepFM"] and table.count("\n") == 3
    assert beside[-1].startswith("LR, DeepFM: the last epoch (1) was the best")
    assert printed(last)[1][2:] == ["DeepFM"] and "±" in text

    table = pd.read_csv(results.folder / "table.csv").set_index("model")
    assert list(table.index) == ["LR", "DeepFM"] and list(table["seeds"]) == [2, 2]
    pd.testing.assert_frame_equal(
        results.table, table, check_dtype=False, check_names=False, check_column_type=False
    )
    assert "--model=LR,DeepFM --dataset=tiny" in results.command
    words = parse_argv(shlex.split(results.command)[2:])
    assert words.items() >= (keys | {"seeds": 2}).items()
    for changed in (copy.deepcopy(results), pickle.loads(pickle.dumps(results))):
        assert changed == results and changed[-1].folder == last.folder
    with pytest.raises(AttributeError):
        last.folder = "elsewhere"
    with pytest.raises(TypeError):
        last["seed"] = 3


def test_a_models_name_looks_its_run_up():
    runs = [a_run(seed=seed, model=model) for seed in (1, 2) for model in ("LR", "DeepFM")]
    results = Results(tuple(runs), None, "")
    assert results["DeepFM"] is runs[1] and results["LR"] is results[0]  # of the first seed
    assert results[1:3] == tuple(runs[1:3]) and results[-1] is runs[-1]
    with pytest.raises(IndexError, match="^runs: there is no run 4; there are 4, from 0 to 3.$"):
        results[4]
    assert list(results) == runs
    with pytest.raises(
        ValueError, match="^model: there is no run of 'DeepFN', only of LR, DeepFM."
    ):
        results["DeepFN"]
    with pytest.raises(ValueError, match="Did you mean 'DeepFM'"):
        results["deepfm"]


def test_the_best_run_is_chosen_by_validation():
    valid = [{"auc": 0.6, "logloss": 0.7}, {"auc": None, "logloss": 0.5}, {"auc": 0.8, "brier": 1}]
    test = [{"auc": 0.9}, {"auc": 0.8}, {"auc": 0.1}]
    runs = [a_run(seed=i, best_valid=v, test=t) for i, (v, t) in enumerate(zip(valid, test))]
    results = Results(tuple(runs), Path("results/x"), "a command")
    assert results.best().seed == results.best("AUC").seed == 2
    assert results.best("LogLoss").seed == 1
    assert results.best("auc", smaller_is_better=True).seed == 0
    assert results.best("brier", smaller_is_better=True).seed == 2
    with pytest.raises(ValueError, match="^metric: whether a smaller Brier is better is not known"):
        results.best("Brier")
    with pytest.raises(ValueError, match="'acu' was not measured.*auc, brier, logloss.*'auc'"):
        results.best("acu")
    undefined = Results((a_run(best_valid={"auc": None}),), None, "")
    with pytest.raises(ValueError, match="auc of the validation rows is undefined in all runs"):
        undefined.best("auc")


def test_a_resumed_run_is_a_result_too(keys, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(0, patched)
        with pytest.raises(KeyboardInterrupt):
            run("LR", "tiny", config_dict=keys | {"epochs": 2})
    (folder,) = Path("saved").iterdir()
    result = resume(folder)
    assert isinstance(result, RunResult) and result.folder == folder and result["resumed"]
    assert result == json.loads((folder / "metrics.json").read_text()) and result.epochs == 2
    assert printed(result)[1][2:] == ["LR"]


def test_a_search_gives_the_selected_values_their_run_and_all_trials(keys):
    Path("space.test").write_text("learning_rate choice [0.1, 0.001]\n")
    search = tune("DeepFM", "tiny", "space.test", config_dict=keys)
    assert isinstance(search, SearchResult) and isinstance(search.run, RunResult)
    written = json.loads((search.folder / "hyper_result.json").read_text())
    assert written == as_json(search) == search.content and search == written
    assert search.params == search["selected"]["params"] and search.score == max(
        trial["score"] for trial in search["trials"]
    )
    assert search.run.load().evaluate() == search.run.test == search["selected"]["test"]
    assert search.run.metrics["folder"] == search["selected"]["folder"]
    csv = pd.read_csv(search.folder / "hyper_result.csv")
    assert list(search.trials["score"]) == list(csv["score"]) and list(search.trials) == list(csv)
    assert "--params_file=space.test" in search.command and "2 trials" in repr(search)
    assert parse_argv(shlex.split(search.command)[2:]).items() >= keys.items()
    assert pickle.loads(pickle.dumps(search)).run == search.run
    text, lines = printed(search)
    assert lines[0] == "trial" and {*lines[2:]} == {"1", "2"} and "\nSelected: trial " in text


def test_an_experiment_gives_the_runs_of_each_line_and_its_tables(keys):
    (result,) = experiment(
        "compare",
        "tiny",
        ["LR", "DeepFM"],
        2,
        config_dict=keys | {"epochs": 9},
        argv=["--epochs=1"],
    )
    assert parse_argv(shlex.split(result.command)[2:]).items() >= keys.items()
    assert isinstance(result, ExperimentResult) and result.failed == () and result.name == "compare"
    assert {line: [r.seed for r in runs] for line, runs in result.variants.items()} == {
        "LR": [2020, 2021],
        "DeepFM": [2020, 2021],
    }
    assert [(r.model, r.seed) for r in result.runs] == [
        (model, seed) for model in ("LR", "DeepFM") for seed in (2020, 2021)
    ]
    for each in result.runs:
        evaluated = each.load().evaluate()
        assert {name: each.test[name] for name in evaluated} == evaluated and "gauc" in each.test
        assert each["folder"] == str(each.folder)
    assert result.folder == Path("results/compare-tiny") and "--seeds=2" in result.command
    assert set(result.tables) == {"table", "differences"}
    pd.testing.assert_frame_equal(result.table, pd.read_csv(result.folder / "table.csv"))
    assert pickle.loads(pickle.dumps(result)).variants == result.variants
    assert repr(result) == f"ExperimentResult(compare: 4 runs; {result.folder})"
    text = str(result)
    assert text.startswith("# compare on tiny") and text.count("\n| LR ") >= 1


def test_a_later_machine_has_no_table_to_print():
    assert str(Results((a_run(),), None, "a command")).startswith("Results(")


def test_the_best_trials_come_first_whichever_way_is_better():
    trials = [
        {"trial": n, "status": "finished", "score": s, "params": {"mu": n / 3}, "best_epoch": 2}
        for n, s in enumerate([0.5, 0.3, 0.4])
    ]
    for best, order in ((0, "0 2 1"), (1, "1 2 0")):
        selected = {"trial": best, "params": trials[best]["params"], "score": trials[best]["score"]}
        content = {"trials": trials, "selected": selected, "valid_metric": "X"}
        shown = str(SearchResult(content, a_run(), pd.DataFrame(), Path("results/x"))).splitlines()
        assert [line.split()[1] for line in shown[2:-1]] == order.split()
        assert shown[0].split() == "| trial | valid X | mu | best epoch |".split()


@pytest.mark.parametrize("name", PUBLIC + CLASSES)
def test_what_the_package_offers_is_documented(name):
    offered = getattr(recbole_genci, name)
    assert name in recbole_genci.__all__ and name in dir(recbole_genci)
    assert offered.__name__ == name and len(inspect.getdoc(offered)) > 40
    for what in ("Args:", "Raises:") if name in ("run", "tune", "experiment", "resume") else ():
        assert what in offered.__doc__


def test_nothing_heavy_is_loaded_before_it_is_used():
    code = "import sys, recbole_genci; dir(recbole_genci); assert 'torch' not in sys.modules"
    code += "; from recbole_genci import run, resume, load, tune, experiment, tokenize, Ranker"
    code += "; assert callable(tokenize) and 'ray' not in sys.modules"
    root = Path(recbole_genci.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=root)
