"""MLflow: one run for each model, seed and trial in a local store, read back from it."""

import re
from pathlib import Path

import pytest
import yaml
from conftest import stop_after, tiny_rows, write_dataset

from recbole_genci.cli import main
from recbole_genci.quick_start import resume, run
from recbole_genci.tuning.search import tune

mlflow = pytest.importorskip("mlflow", reason="needs pip install recbole_genci[mlflow]")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The address of an SQLite store; making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def client(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return mlflow.MlflowClient(store)


@pytest.fixture
def keys(tmp_path):
    data = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=30))
    return data | {"epochs": 2, "track": ["mlflow"], "mlflow_experiment": tmp_path.name}


def runs_of(client, keys):
    experiment = client.get_experiment_by_name(keys["mlflow_experiment"])
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def series(client, run, name):
    return [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]


def test_parameters_tags_losses_and_metrics_can_be_read_back(keys, client):
    results = run("LR,DeepFM", "tiny", config_dict=keys | {"sr_weight": 0.5})
    for result, found in zip(results, runs_of(client, keys), strict=True):
        assert found.info.run_name == Path(result.folder).name
        assert found.info.status == "FINISHED"
        tags = {name: found.data.tags[name] for name in ("model", "dataset", "seed")}
        assert tags == {"model": result.model, "dataset": "tiny", "seed": "2020"}
        config = yaml.safe_load((Path(result.folder) / "config.yaml").read_text())
        assert found.data.params == {name: str(value) for name, value in config.items()}
        total = series(client, found, "train/train_loss")
        parts = [series(client, found, f"train/{name}") for name in ("loss", "teacher")]
        assert [step for step, _ in total] == [1, 2]
        assert [a + b for (_, a), (_, b) in zip(*parts)] == pytest.approx([v for _, v in total])
        valid = dict(series(client, found, "valid/auc"))
        assert valid[result.best_epoch] == pytest.approx(result.best_valid["auc"])
        test = {name: found.data.metrics[f"test/{name}"] for name in result.test}
        assert test == pytest.approx(result.test)
    assert mlflow.active_run() is None  # MLflow's global run is the host program's


def test_a_run_that_fails_or_is_stopped_ends_and_goes_on_in_its_own(keys, client, monkeypatch):
    for error in (RuntimeError, KeyboardInterrupt):
        with monkeypatch.context() as patched:
            stop_after(0, patched, error)
            with pytest.raises(error, match="stop"):
                run("DeepFM", "tiny", config_dict=keys)
    failed, stopped = runs_of(client, keys)
    assert (failed.info.status, stopped.info.status) == ("FAILED", "KILLED")
    resume(Path("saved") / stopped.info.run_name)
    _, again = runs_of(client, keys)
    assert again.info.run_id == stopped.info.run_id and again.info.status == "FINISHED"
    assert [step for step, _ in series(client, again, "valid/auc")] == [1, 2]
    # In another store, or after it was deleted there, it is a new one.
    client.delete_run(failed.info.run_id)
    resume(Path("saved") / failed.info.run_name)
    assert [each.info.run_name for each in runs_of(client, keys)].count(failed.info.run_name) == 1


def test_each_trial_has_a_run_and_the_selected_one_is_tested_in_its_own(keys, client, tmp_path):
    (tmp_path / "space").write_text("learning_rate choice [0.01, 0.001]\n")
    result = tune("DeepFM", "tiny", tmp_path / "space", config_dict=keys)
    found = runs_of(client, keys)
    tested = [each.info.run_name for each in found if "test/auc" in each.data.metrics]
    assert len(found) == 2 and tested == [Path(result["selected"]["folder"]).name]


def test_a_store_that_fails_midway_does_not_end_the_run(keys, client, monkeypatch, caplog):
    def out_of_reach(*arguments, **words):
        raise mlflow.exceptions.MlflowException("the server\ndoes not answer")

    monkeypatch.setattr("recbole_genci.training.tracking.mlflow.MlflowRun._log", out_of_reach)
    (result,) = run("DeepFM", "tiny", config_dict=keys)
    assert result.test["auc"] and caplog.text.count("track: mlflow failed and gets no more") == 1
    assert "which goes on: the server does not answer" in caplog.text


def test_a_store_out_of_reach_is_one_sentence(keys, client, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump(keys))
    assert (
        main(["--model=DeepFM", "--dataset=tiny", f"--config_files={tmp_path / 'keys.yaml'}"]) == 1
    )
    said = capsys.readouterr().err.partition("recbole_genci: ")[2]
    assert re.match(r"track: MLflow opened no run \(.*\)\. Set MLFLOW_TRACKING_URI to a", said)
