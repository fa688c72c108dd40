"""Searches on small data: one table, one selection, one test; stopped and resumed, failing, and
blind to the test rows.
"""

import hashlib
import importlib.util
import json
import logging
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import SMALL_GENCI, kept_figures, tiny_rows, write_dataset
from safetensors import SafetensorError

from recbole_genci import load, plan, quick_start
from recbole_genci.config.added_keys import ADDED_KEYS
from recbole_genci.data import prepared as prepared_rows
from recbole_genci.training import run as training
from recbole_genci.tuning import bayes, study, trial
from recbole_genci.tuning import search as search_module
from recbole_genci.tuning.command import main
from recbole_genci.tuning.search import (
    NoTrialFinished,
    execute,
    prepare_search,
    resume_search,
    tune,
)
from recbole_genci.tuning.settings import Settings
from recbole_genci.tuning.space import Choice, QUniform
from recbole_genci.utils.digests import sealed, sealed_line
from recbole_genci.utils.failures import as_recorded, is_of_the_machine
from recbole_genci.utils.lock import only_process

SPACE = "learning_rate choice [0.001, 0.01]\nmlp_hidden_size choice [[8], [4, 4]]\n"
TIMES = ["training [s]"]


@pytest.fixture
def data(tmp_path, quick_figures):
    Path("space.test").write_text(SPACE)
    return write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40)) | {"epochs": 2}


def table(folder):
    return pd.read_csv(Path(folder) / "hyper_result.csv").drop(columns=TIMES)


def folders():
    return sorted(Path("results").iterdir(), key=lambda path: path.stat().st_ctime)


def without_times(result):
    trials = [{k: v for k, v in record.items() if k != "training_s"} for record in result["trials"]]
    return trials, {k: v for k, v in result["selected"].items() if k != "folder"}


def stop_after(number, monkeypatch):
    """Interrupt the search as Ctrl-C would, once so many trials are in the journal."""
    original = study.Study.add

    def add_and_stop(self, record):
        original(self, record)
        if len(self.records) == number:
            raise KeyboardInterrupt

    monkeypatch.setattr(study.Study, "add", add_and_stop)


def test_a_search_tries_all_selects_by_validation_and_tests_one(data, monkeypatch):
    built, original = [], prepared_rows.create_dataset
    monkeypatch.setattr(
        prepared_rows, "create_dataset", lambda config: built.append(config) or original(config)
    )
    result = tune("DeepFM", "tiny", "space.test", config_dict=data)
    (folder,) = folders()
    assert (
        json.loads((folder / "hyper_result.json").read_text())
        == json.loads(json.dumps(dict(result)))
        and len(built) == 1
    )
    assert len(result["trials"]) == 4 and {r["status"] for r in result["trials"]} == {"finished"}
    best = max(result["trials"], key=lambda record: record["score"])
    selected = result["selected"]
    assert (selected["trial"], selected["params"], selected["score"]) == (
        best["trial"],
        best["params"],
        best["valid"]["auc"],
    )
    # The selected one is a finished run; the others keep their configuration and log.
    run = load(selected["folder"])
    assert run.evaluate("test") == selected["test"] and run.evaluate("valid") == selected["valid"]
    for record in result["trials"]:
        (left,) = (folder / record["folder"]).iterdir()
        names = {path.name for path in left.iterdir()}
        assert (
            names == {"config.yaml", "run.log"} or record is best and "model.safetensors" in names
        )
        assert "test" not in record["valid"]
    frame = table(folder)
    assert list(frame["trial"]) == [1, 2, 3, 4] and set(frame["mlp_hidden_size"]) == {
        "[8]",
        "[4, 4]",
    }
    assert (folder / "hyper_result.png").is_file() == (
        importlib.util.find_spec("matplotlib") is not None
    )
    assert (folder / "search.log").read_text().count(": finished, ") == 4
    # The selected values are a configuration file of an ordinary run, which comes to the same
    # metrics.
    keys = {key: value for key, value in data.items() if key not in selected["params"]}
    again = quick_start.run("DeepFM", "tiny", [str(folder / "selected.yaml")], keys)
    assert again[0]["test"] == selected["test"]


def test_semantic_ids_are_made_once(data, monkeypatch):
    made, original = [], plan.prepare_semantic_ids
    monkeypatch.setattr(
        plan, "prepare_semantic_ids", lambda *args: made.append(1) or original(*args)
    )
    Path("space.test").write_text("mu choice [0.1, 1.0]\nintent_layers quniform 1,2,1\n")
    keys = data | {k: v for k, v in SMALL_GENCI.items() if k != "intent_layers"}
    result = tune("GenCI", "tiny", "space.test", config_dict=keys, algo="random", max_evals=2)
    assert len(made) == 1 and len(result["trials"]) == 2 and result["semantic_ids"]
    assert load(result["selected"]["folder"]).evaluate() == result["selected"]["test"]


@pytest.mark.parametrize("algo", ["exhaustive", "random", "bayes"])
def test_a_stopped_search_ends_with_the_table_of_one_that_was_not(algo, data, monkeypatch):
    if algo == "bayes":
        pytest.importorskip("hyperopt")
    Path("space.test").write_text(
        SPACE + ("dropout_prob uniform 0,0.5\n" if algo != "exhaustive" else "")
    )
    settings = {"algo": algo, "max_evals": 4}
    whole = tune("DeepFM", "tiny", "space.test", config_dict=data, **settings)
    with monkeypatch.context() as patched:
        stop_after(2, patched)
        with pytest.raises(KeyboardInterrupt):
            tune("DeepFM", "tiny", "space.test", config_dict=data, **settings)
    first, stopped = folders()
    assert len(table(stopped)) == 2 and not (stopped / "hyper_result.json").exists()
    trained, original = [], trial.train
    monkeypatch.setattr(
        trial,
        "train",
        lambda shared, params, *rest: trained.append(params) or original(shared, params, *rest),
    )
    resumed = resume_search(stopped)
    assert len(trained) == 2 and without_times(resumed) == without_times(whole)
    pd.testing.assert_frame_equal(table(stopped), table(first))
    assert resume_search(stopped)["selected"] == resumed["selected"] and len(trained) == 2


def test_a_trial_stopped_in_the_middle_goes_on_from_its_last_epoch(data, monkeypatch):
    data |= {"epochs": 3, "stopping_step": 9}
    whole = tune("DeepFM", "tiny", "space.test", config_dict=data)
    original, states = training.CTRTrainer.fit, []

    def fit_and_stop(self, *args, callback_fn=None, **kwargs):
        states.append(self.start_epoch)

        def stop(epoch, score):
            if len(states) == 2 and epoch == 1:
                raise KeyboardInterrupt

        return original(self, *args, callback_fn=stop, **kwargs)

    monkeypatch.setattr(training.CTRTrainer, "fit", fit_and_stop)
    with pytest.raises(KeyboardInterrupt):
        tune("DeepFM", "tiny", "space.test", config_dict=data)
    resumed = resume_search(folders()[-1])
    assert without_times(resumed) == without_times(whole)
    assert states[:4] == [0, 0, 2, 0]  # the second trial was stopped after its epochs 0 and 1


def test_a_resumed_search_of_an_earlier_version_trains_as_that_did(data, monkeypatch):
    """Its ``config.yaml`` lacks a key, whose default is another today."""
    data |= SMALL_GENCI | {"intent_scale": 0.3}
    monkeypatch.setitem(ADDED_KEYS, "intent_scale", 0.3)
    Path("rates.test").write_text("learning_rate choice [0.001, 0.01]\n")
    whole = tune("GenCI", "tiny", "rates.test", config_dict=data)
    now = search_module.config_as_yaml
    with monkeypatch.context() as patched:
        shorter = lambda *args: now(*args).replace("\nintent_scale: 0.3\n", "\n")  # noqa: E731
        patched.setattr(search_module, "config_as_yaml", shorter)
        stop_after(1, patched)
        with pytest.raises(KeyboardInterrupt):
            tune("GenCI", "tiny", "rates.test", config_dict=data)
    folder = folders()[-1]
    assert "intent_scale" not in (folder / "config.yaml").read_text()
    # The first read that file with the default of today, as no earlier version would have.
    (first, second), expected = resume_search(folder)["trials"], whole["trials"]
    assert second["valid"] == expected[1]["valid"] and first["valid"] != expected[0]["valid"]
    assert resume_search(folder)["trials"] == [first, second]


def test_more_trials_can_be_added_and_the_search_can_end_early(data):
    Path("rates.test").write_text("learning_rate loguniform -9,-2\n")
    settings = {"config_dict": data, "algo": "random"}
    few = tune("DeepFM", "tiny", "rates.test", max_evals=2, **settings)
    (folder,) = folders()
    more = resume_search(folder, max_evals=5)
    assert "--max_evals=2" in few.command and "--data_path=" in few.command
    assert "--max_evals=5" in more.command and "--max_evals=2" not in more.command
    assert (
        more["trials"][:2] == few["trials"] and len(more["trials"]) == 5 and more["max_evals"] == 5
    )
    assert (
        json.loads((folder / "search.json").read_text())["settings"]["max_evals"] == 5
    )  # where it is killed, that is asked for
    scores = [record["score"] for record in more["trials"]]
    early = tune("DeepFM", "tiny", "rates.test", max_evals=5, early_stop=1, **settings)
    expected = next((i + 1 for i in range(1, 5) if scores[i] <= max(scores[:i])), 5)
    assert [record["score"] for record in early["trials"]] == scores[:expected]


def test_a_stopped_trial_of_other_values_is_forgotten_and_one_of_the_same_kept(tmp_path, caplog):
    for name, rate in (("a", 0.1), ("b", 0.2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(
            f"model: GenCI\nlearning_rate: {rate}\nmlp_hidden_size: [8, 4]\nmu: 0.1\n"
        )
    trial._forget_other_values({"mlp_hidden_size": [8, 4], "learning_rate": 0.2}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert "holds a stopped run with other values" in caplog.text


def test_a_failing_trial_is_recorded_and_the_search_goes_on(data):
    Path("space.test").write_text(
        "learner choice ['adam', 'sparse_adam']\nlearning_rate choice [0.001, 0.01]\n"
    )
    result = tune("DeepFM", "tiny", "space.test", config_dict=data)
    failed = [record for record in result["trials"] if record["params"]["learner"] == "sparse_adam"]
    assert (
        len(failed) == 2
        and len(result["trials"]) == 4
        and result["selected"]["params"]["learner"] == "adam"
    )
    for record in failed:
        assert (
            record["status"] == "failed"
            and "learner: 'sparse_adam' is unknown" in record["error"]
            and record["score"] is None
        )
    assert list(table(folders()[0])["error"].notna()) == [
        r["status"] == "failed" for r in result["trials"]
    ]


def test_a_trial_that_diverges_is_one_sentence_and_the_selected_one_is_only_tested(data, caplog):
    Path("space.test").write_text("learning_rate choice [0.01, 1e35]\n")
    caplog.set_level(logging.INFO)
    result = tune("DeepFM", "tiny", "space.test", config_dict=data)
    assert [
        r["status"] for r in sorted(result["trials"], key=lambda r: r["params"]["learning_rate"])
    ] == ["finished", "failed"]
    (error,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert re.match(r"Trial [12] failed\. DeepFM: the loss of a batch is nan", error.getMessage())
    assert error.exc_info is None
    assert "Traceback" not in (folders()[0] / "search.log").read_text()
    assert sum("has been trained, and is now tested." in line for line in caplog.messages) == 1
    (trained,) = [r["training_s"] for r in result["trials"] if r["status"] == "finished"]
    metrics = json.loads((Path(result["selected"]["folder"]) / "metrics.json").read_text())
    assert metrics["training_s"] > 0.9 * trained  # not the moment before its test
    assert "Resuming" not in caplog.text


def test_an_error_that_nobody_expects_keeps_its_traceback(data, caplog, monkeypatch):
    monkeypatch.setattr(trial, "check_model_settings", lambda config: {}["a fault of ours"])
    with pytest.raises(NoTrialFinished):
        tune("DeepFM", "tiny", "space.test", config_dict=data)
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(errors) == 4 and all(each.exc_info[0] is KeyError for each in errors)


def test_a_failing_trial_does_not_end_a_bayesian_search(data):
    pytest.importorskip("hyperopt")
    Path("space.test").write_text(
        "learner choice ['adam', 'sparse_adam']\nlearning_rate uniform 0.001,0.01\n"
    )
    result = tune("DeepFM", "tiny", "space.test", config_dict=data, algo="bayes", max_evals=6)
    assert {record["status"] for record in result["trials"]} == {"finished", "failed"} and len(
        result["trials"]
    ) == 6


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """``searched(losses, max_evals, early_stop)``: the study of a Bayesian search over 2 x 3 points
    whose losses are told.
    """
    pytest.importorskip("hyperopt")
    monkeypatch.setattr(study, "write_table", lambda *args: None)
    space = {"a": Choice((1, 2)), "b": Choice(([1], [2], [3]))}

    def search(losses, early_stop=None, max_evals=50):
        outcome = {"valid": {}, "best_epoch": 1, "epochs": 1, "training_s": 0.0}
        monkeypatch.setattr(
            trial, "train", lambda shared, params, folder: outcome | {"score": losses(params)}
        )
        found, proposed = study.Study(tmp_path, None, False, early_stop), []
        run = lambda point: proposed.append(point) or found.run(point)  # noqa: E731
        bayes.BayesianSearch(
            run, space, Settings("bayes", max_evals).num_trials(space), seed=0
        ).run()
        return found, proposed

    return search


def test_a_bayesian_search_spends_its_budget_on_different_points(searched):
    found, proposed = searched(lambda params: params["a"] * params["b"][0])
    assert len(found.records) == 6 < len(proposed)  # TPE has repeated itself


def test_repeats_of_a_bayesian_search_do_not_count_as_trials_without_a_better_score(searched):
    losses = iter([5, 5, 4, 4, 3, 2])  # never two new points in a row that are no better
    found, proposed = searched(lambda params: next(losses), early_stop=2)
    assert len(found.records) == 6 < len(proposed)


def test_a_resumed_bayesian_search_proposes_what_it_had_and_trains_nothing_again(searched):
    whole, proposed = searched(lambda params: params["a"] * params["b"][0])
    kept = (whole.folder / study.JOURNAL).read_text().splitlines()[:3]
    (whole.folder / study.JOURNAL).write_text("\n".join(kept) + "\n")
    trained = []
    resumed, again = searched(lambda params: trained.append(params) or params["a"] * params["b"][0])
    assert again == proposed and resumed.ordered() == whole.ordered() and len(trained) == 3


def test_a_finished_search_without_its_journal_is_not_begun_anew(data):
    Path("space.test").write_text("learning_rate choice [0.001, 0.01]\n")
    tune("DeepFM", "tiny", "space.test", config_dict=data | {"epochs": 1})
    (folder,) = folders()
    kept = (folder / study.JOURNAL).read_text()
    (folder / study.JOURNAL).unlink()
    with pytest.raises(ValueError, match="trials.jsonl is missing or empty, although the search"):
        resume_search(folder)
    (folder / study.JOURNAL).write_text("")
    with pytest.raises(ValueError, match="trials.jsonl is missing or empty, although the search"):
        resume_search(folder)
    (folder / study.JOURNAL).write_text(kept)
    assert len(resume_search(folder).trials) == 2


def test_a_bayesian_search_ends_when_all_it_proposes_are_repeats(monkeypatch, caplog):
    pytest.importorskip("hyperopt")
    monkeypatch.setattr(bayes, "DRAWS_PER_POINT", 30)
    caplog.set_level(logging.INFO)
    proposed = []
    space = {"a": QUniform(1, 3, 1)}  # three points, though nobody counts them
    bayes.BayesianSearch(
        lambda point: (proposed.append(point["a"]) or float(point["a"]), False), space, 100, seed=0
    ).run()
    assert (
        set(proposed) == {1, 2, 3}
        and len(proposed) < 100
        and "The search ends with 3 of 100 points" in caplog.text
    )


_OF_THE_MACHINE = [
    OSError(28, "No space left on device"),
    MemoryError("8 GiB"),
    SafetensorError("I/O error"),
]


@pytest.mark.parametrize("error", _OF_THE_MACHINE)
def test_a_failure_of_the_machine_ends_the_search_and_its_trial_is_run_again(
    error, data, monkeypatch, capsys
):
    Path("space.test").write_text("learning_rate choice [0.001, 0.01, 0.02]\n")
    original, started = trial.train_or_resume, []

    def train(*args, **kwargs):
        started.append(args)
        if len(started) == 2:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(trial, "train_or_resume", train)
    words = [f"--{key}={value}" for key, value in (data | {"epochs": 1}).items()]
    assert main(["--model=DeepFM", "--dataset=tiny", "--params_file=space.test", *words]) == 1
    assert (
        f"recbole_genci: trial 2 could not be run here ({as_recorded(error)})"
        in capsys.readouterr().err
    )
    (folder,) = folders()
    assert len(study.read_journal(folder / study.JOURNAL)) == 1
    assert [record["status"] for record in resume_search(folder)["trials"]] == ["finished"] * 3


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("no such file"), torch.OutOfMemoryError("batch"), RuntimeError("shapes")],
)
def test_values_that_name_no_file_or_need_too_much_of_a_gpu_are_failed_trials(error):
    assert not is_of_the_machine(error)


def test_when_every_trial_fails_the_command_says_so(data, capsys):
    Path("space.test").write_text("learner choice ['adan', 'sparse_adam']\n")
    with pytest.raises(NoTrialFinished, match="None of the 2 trials finished.*learner"):
        tune("DeepFM", "tiny", "space.test", config_dict=data)
    (folder,) = folders()
    assert len(table(folder)) == 2 and main([f"--resume_search={folder}"]) == 1
    assert "recbole_genci: None of the 2 trials finished" in capsys.readouterr().err


def test_selection_never_sees_the_test_rows(data, monkeypatch):
    honest = tune("DeepFM", "tiny", "space.test", config_dict=data)
    prepared = prepare_search("DeepFM", "tiny", "space.test", None, data, (), Settings())
    tests = prepared.plan.parts[2]
    tests.inter_feat[tests.label_field] = 1 - tests.inter_feat[tests.label_field]
    flipped = execute(prepared)
    assert without_times(flipped)[0] == without_times(honest)[0]
    assert flipped["selected"]["trial"] == honest["selected"]["trial"]
    assert flipped["selected"]["test"]["auc"] == pytest.approx(
        1 - honest["selected"]["test"]["auc"], abs=1e-6
    )


def test_a_lower_logloss_is_better(data):
    result = tune("DeepFM", "tiny", "space.test", config_dict=data | {"valid_metric": "LogLoss"})
    assert result["selected"]["score"] == min(
        record["valid"]["logloss"] for record in result["trials"]
    )


def test_other_rows_than_the_trials_saw_are_refused_and_so_is_a_search_at_work(
    data, monkeypatch, capsys
):
    with monkeypatch.context() as patched:
        stop_after(1, patched)
        with pytest.raises(KeyboardInterrupt):
            tune("DeepFM", "tiny", "space.test", config_dict=data)
    (folder,) = folders()
    with only_process(folder):
        assert (
            main([f"--resume_search={folder}"]) == 2
            and "another process is at work in" in capsys.readouterr().err
        )
    items = Path(data["data_path"]) / "tiny/tiny.item"
    before = items.read_text()
    items.write_text(before.replace("\t1990\t", "\t1991\t"))
    with pytest.raises(ValueError, match="ran with rows_fingerprint .* but the files now give"):
        resume_search(folder)
    items.write_text(before)
    rows = Path(data["data_path"]) / "tiny/tiny.inter"
    rows.write_text(rows.read_text() + "u1\ti1\t1\t1800000000\n")
    with pytest.raises(ValueError, match="ran with data_fingerprint .* but the files now give"):
        resume_search(folder)


SEARCHED = "mu choice [0.1, 1.0]\n"


def search_file(settings):
    """The ``search.json`` of a search over ``SEARCHED``."""
    content = {
        "settings": settings,
        "command": "",
        "config": {"model": "GenCI", "dataset": "nowhere"},
        "params_sha256": hashlib.sha256(SEARCHED.encode()).hexdigest(),
    }
    return sealed_line(content)


RECORD = study.empty_record(1, {"mu": 1.0}) | {"status": "finished", "score": 0.5}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"trial": 1, "par', "line 2 is damaged (Unterminated string"),
        ("5", "line 2 is damaged: 5 is no record of a trial"),
        ('{"a": 1}', "line 2 is damaged: it lacks 'trial'"),
        (sealed_line(RECORD | {"params": [1]}), "line 2 is damaged: 'params' is [1]"),
        (sealed_line(RECORD | {"score": None}), "line 2 is damaged: 'score' is None"),
        ("\xff", "line 2 is damaged ('utf-8' codec"),
    ],
)
def test_a_damaged_journal_is_one_sentence_with_its_line(line, message, tmp_path, capsys):
    words = searched_folder(tmp_path)
    (tmp_path / "trials.jsonl").write_bytes(
        (sealed_line(RECORD) + "\n" + line + "\n").encode("latin-1")
    )
    assert main(words) == 2  # before rows are read, of which there are none
    assert (
        f"recbole_genci: resume_search: {tmp_path}/trials.jsonl, {message}"
        in capsys.readouterr().err
    )


def test_an_edited_trial_and_two_of_one_number_are_refused(tmp_path):
    file = tmp_path / "trials.jsonl"
    line = json.dumps(sealed(RECORD))
    file.write_text(line + "\n")
    assert study.read_journal(file) == [RECORD]
    file.write_text(line.replace(f'"score": {RECORD["score"]}', '"score": 0.999') + "\n")
    with pytest.raises(ValueError, match="line 1 is damaged: it was edited"):
        study.read_journal(file)
    file.write_text(json.dumps(RECORD) + "\n")
    with pytest.raises(ValueError, match="line 1 is damaged: it was edited, as it has no digest"):
        study.read_journal(file)
    file.write_text(f"{sealed_line(RECORD)}\n" * 2)
    with pytest.raises(ValueError, match=f"two lines of trial {RECORD['trial']}"):
        study.read_journal(file)
    file.write_text(json.dumps(sealed(RECORD | {"score": float("nan")})) + "\n")
    with pytest.raises(ValueError, match="line 1 is damaged: 'score' is nan"):
        study.read_journal(file)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("search.json", "{", "search.json is damaged (Expecting property name"),
        ("search.json", "[]", "search.json is damaged: it has no 'settings'"),
        (
            "search.json",
            search_file(settings=5),
            "search.json is damaged: its 'settings' are 5",
        ),
        (
            "search.json",
            search_file(settings={"depth": 1}),
            "search.json is damaged: 'depth' is no setting",
        ),
        ("config.yaml", "a: [", "config.yaml is damaged (while parsing"),
        ("config.yaml", "a: 1", "config.yaml is damaged: it has no 'model'"),
    ],
)
def test_a_damaged_file_of_a_search_is_one_sentence_with_its_name(
    name, text, message, tmp_path, capsys
):
    words = searched_folder(tmp_path)
    (tmp_path / name).write_text(text)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert (
        error.startswith(f"recbole_genci: resume_search: {tmp_path}/{message}")
        and error.count("\n") == 1
    ), error


def searched_folder(folder):
    """A search's files without rows; returns the words that resume it."""
    (folder / "search.json").write_text(search_file(settings={"algo": "random"}))
    (folder / "params.txt").write_text(SEARCHED)
    (folder / "config.yaml").write_text("model: GenCI\ndataset: nowhere\n")
    return [f"--resume_search={folder}"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model=GenCI", "--dataset=ml-100k"], "--params_file is missing"),
        (["--dataset=ml-100k", "--params_file=space.test"], "--model is missing"),
        (["--model=GenCI", "--dataset=ml-100k", "--params_file=no.test"], "params_file: 'no.test'"),
        (
            ["--model=LR,GenCI", "--dataset=ml-100k", "--params_file=space.test"],
            "a search tunes one",
        ),
        (
            ["--model=GenCI", "--dataset=ml-100k", "--params_file=space.test", "--algo=grid"],
            "algo: 'grid'",
        ),
        (
            ["--model=GenCI", "--dataset=ml-100k", "--params_file=space.test", "--max_evals=0"],
            "max_evals: 0",
        ),
        (
            ["--model=GenCI", "--dataset=ml-100k", "--params_file=space.test", "--early_stop=x"],
            "early_stop: 'x'",
        ),
        (
            ["--model=GenCI", "--dataset=ml-100k", "--params_file=space.test", "--tool=Optuna"],
            "tool: 'Optuna'",
        ),
        (
            [
                "--model=GenCI",
                "--dataset=ml-100k",
                "--params_file=space.test",
                "--cpus_per_trial=2",
            ],
            "only --tool=Ray reads it",
        ),
        (
            [
                "--model=LR",
                "--dataset=ml-100k",
                "--params_file=space.test",
                "--tool=Ray",
                "--cpus_per_trial=1.5",
            ],
            "not whole",
        ),
        (
            [
                "--model=LR",
                "--dataset=ml-100k",
                "--params_file=space.test",
                "--tool=Ray",
                "--algo=bayes",
            ],
            "with --tool=Ray use",
        ),
        (
            [
                "--model=LR",
                "--dataset=ml-100k",
                "--params_file=space.test",
                "--tool=Ray",
                "--early_stop=9",
            ],
            "--grace_epochs",
        ),
        (
            [
                "--model=GenCI",
                "--dataset=ml-100k",
                "--params_file=space.test",
                "--learning_rate=0.1",
            ],
            "--learning_rate fixes it",
        ),
        (
            ["--model=LR", "--dataset=ml-100k", "--params_file=space.test"],
            "'mlp_hidden_size' is not a key of LR",
        ),
        (
            ["--model=GenCI", "--dataset=ml-100k", "--params_file=space.test", "--seeds=3"],
            "seeds: 3 seeds",
        ),
        (
            ["--model=GenCI", "--dataset=ml-100k", "--params_file=space.test", "--max_eval=3"],
            "'max_eval' is not a key",
        ),
        (
            ["--resume_search=results/nowhere"],
            "results/nowhere is not the folder of a search: it does not exist.",
        ),
        (["--resume_search=space.test"], "not the folder of a search: it is a file, not a folder."),
        (
            ["--model=GenCI", "--dataset=ml-100k", "--params_file=."],
            "params_file: '.' is a folder, not a file;",
        ),
        (["--resume_search=results/nowhere", "--mu=1"], "not --mu"),
    ],
)
def test_a_bad_request_is_one_sentence_and_leaves_nothing(words, message, capsys):
    Path("space.test").write_text(SPACE)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("recbole_genci: ") and message in error, error
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("option", "package"), [("--algo=bayes", "hyperopt"), ("--tool=Ray", "'ray[tune]'")]
)
def test_without_the_library_an_option_says_what_to_install(
    option, package, monkeypatch, capsys, data
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["--model=DeepFM", "--dataset=tiny", "--params_file=space.test", option]) == 2
    assert (
        f"{option} needs" in (error := capsys.readouterr().err)
        and f"pip install {package}" in error
    )


@pytest.mark.parametrize(
    "option", ["--algo=random", "--algo=bayes", "--tool=Ray", "--algo=exhaustive"]
)
def test_every_search_refuses_plain_bounds_where_exponents_belong(option, data, capsys):
    Path("space.test").write_text("learning_rate loguniform 1e-4,1e-2\n")
    words = ["--model=DeepFM", "--dataset=tiny", "--params_file=space.test", "--max_evals=2"]
    assert main([*words, option]) == 2
    assert (
        "loguniform takes exponents: for 0.0001 to 0.01 write loguniform -9.21,-4.61."
        in capsys.readouterr().err
    )
    assert not Path("results").exists()


def test_without_matplotlib_a_line_says_so(monkeypatch, caplog, tmp_path):
    from recbole_genci.tuning.result import write_plot

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        write_plot([], "AUC", True, tmp_path)
    assert "matplotlib is not installed" in caplog.text and not list(tmp_path.glob("*.png"))


def test_the_picture_shows_every_scored_trial_and_every_choice(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    from recbole_genci.tuning import result

    kept = kept_figures(result, monkeypatch)
    trials = [
        ("finished", 0.7, 3e-4, "[1]", 0.3),
        ("stopped", 0.6, 1e-3, "[2]", 0.001),
        ("failed", None, 1e-4, "[1]", 0.1),
        ("finished", 0.8, 1e-4, "[2]", 0.2),
        *[("finished", 0.7, 1e-4, "[1]", 0.4 + n / 10) for n in range(5)],
    ]
    records = [
        {
            "trial": n,
            "status": status,
            "score": score,
            "params": {"decay": decay, "sizes": sizes, "rate": rate},
        }
        for n, (status, score, decay, sizes, rate) in enumerate(trials, 1)
    ]
    result.plot_search(records, "AUC", True, tmp_path / "x.png")
    first, decay, sizes, rate = kept[0].axes
    shown = {
        tuple(point) for points in first.collections for point in points.get_offsets().tolist()
    }
    assert shown == {(n, r["score"]) for n, r in enumerate(records, 1) if r["score"] is not None}
    assert first.lines[0].get_ydata()[-1] == 0.8
    assert [label.get_text() for label in decay.get_xticklabels()] == ["0.0001", "0.0003", "0.001"]
    assert [label.get_text() for label in sizes.get_xticklabels()] == ["[1]", "[2]"]
    assert rate.get_xscale() == "log" and len(rate.collections) == 2


def test_the_command_runs_and_resumes(data, monkeypatch, capsys):
    words = [f"--{key}={value}" for key, value in data.items() if key != "mlp_hidden_size"]
    stop_words = [
        "--model=DeepFM",
        "--dataset=tiny",
        "--params_file=space.test",
        "--max_evals=2",
        "--tool=Hyperopt",
        *words,
    ]
    with monkeypatch.context() as patched:
        stop_after(1, patched)
        assert main(stop_words) == 130
    (folder,) = folders()
    assert f"Go on by: python run_hyper.py --resume_search={folder}" in capsys.readouterr().err
    for name, before, after, said in (
        ("config.yaml", "\nepochs: ", "\nepochs: 1", "config.yaml was edited .*epochs was "),
        ("config.yaml", "l: DeepFM", "l: WideDeep", "edited .* model was 'DeepFM' and is now"),
        ("search.json", '"max_evals": 2', '"max_evals": 1', "search.json is damaged or was edited"),
    ):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(before, after))
        assert main([f"--resume_search={folder}"]) == 2
        assert re.search(f"resume_search: .*{said}", capsys.readouterr().err)
        (folder / name).write_text(text)
    assert main([f"--resume_search={folder}"]) == 0
    result = json.loads((folder / "hyper_result.json").read_text())
    assert len(result["trials"]) == 2 and result["command"].startswith(
        "python run_hyper.py --model=DeepFM --dataset=tiny"
    )
    assert main(["--help"]) == 0 and "--resume_search" in capsys.readouterr().out


def test_trials_do_not_disturb_one_another(data):
    """A trial equals a run with its values: earlier trials leave nothing behind."""
    result = tune("DeepFM", "tiny", "space.test", config_dict=data)
    torch.rand(3)
    last = result["trials"][-1]
    alone = quick_start.run("DeepFM", "tiny", config_dict=data | last["params"])[0]
    assert alone["best_valid"] == last["valid"] and alone["best_epoch"] == last["best_epoch"]
