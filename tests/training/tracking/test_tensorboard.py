"""TensorBoard: what `track` adds to RecBole's own event file, read back."""

from pathlib import Path

import pytest
from conftest import stop_after, tiny_rows, write_dataset
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from recbole_genci.quick_start import resume, run
from recbole_genci.webpage.learning_curves import validation_curve

LOSSES = ("loss", "teacher")  # of a model with `sr_weight`


@pytest.fixture
def keys(tmp_path):
    data = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=30))
    return data | {"epochs": 2, "track": "tensorboard"}


def events_of(folder):
    return EventAccumulator(str(Path(folder) / "tensorboard")).Reload()


def series(events, name):
    return {event.step: event.value for event in events.Scalars(name)}


def test_losses_metrics_and_parameters_can_be_read_back(keys):
    (result,) = run("DeepFM", "tiny", config_dict=keys | {"sr_weight": 0.5})
    events = events_of(result.folder)
    total, *parts = (series(events, f"train/{name}") for name in ("train_loss", *LOSSES))
    assert list(total) == [1, 2]
    assert [sum(part[epoch] for part in parts) for epoch in total] == pytest.approx(
        list(total.values()), rel=1e-5
    )
    best = series(events, "valid/auc")[result.best_epoch]
    assert best == pytest.approx(result.best_valid["auc"], rel=1e-5)
    for name, value in result.test.items():
        assert series(events, f"test/{name}")[0] == pytest.approx(value, rel=1e-5)
    assert "parameters/text_summary" in events.Tags()["tensors"]
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    told = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert told["model"].string_value == "DeepFM" and told["sr_weight"].number_value == 0.5
    assert validation_curve(result.folder)[0] == [1, 2]  # RecBole's own, for the page
    assert len(list((Path(result.folder) / "tensorboard").iterdir())) == 1


def test_a_resumed_run_goes_on_in_its_folder(keys, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(0, patched)
        with pytest.raises(KeyboardInterrupt):
            run("DeepFM", "tiny", config_dict=keys)
    (folder,) = Path("saved").iterdir()
    assert list(series(events_of(folder), "valid/auc")) == [1]
    resume(folder)
    assert list(series(events_of(folder), "valid/auc")) == [1, 2]


def test_a_run_that_is_stopped_between_two_evaluations_tells_each_epoch_once(keys, monkeypatch):
    def stop(self, epoch, *_):
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("recbole_genci.training.console.EpochLines.trained", stop)
        with pytest.raises(KeyboardInterrupt):
            run("DeepFM", "tiny", config_dict=keys | {"epochs": 4, "eval_step": 2})
    (folder,) = Path("saved").iterdir()
    resume(folder)
    steps = [each.step for each in events_of(folder).Scalars("train/train_loss")]
    assert steps == [1, 2, 3, 4]


def test_without_the_key_there_are_recboles_curves_alone(keys):
    (result,) = run("DeepFM", "tiny", config_dict=keys | {"track": [], "epochs": 1})
    assert set(events_of(result.folder).Tags()["scalars"]) == {"Loss/Train", "Vaild_score"}
