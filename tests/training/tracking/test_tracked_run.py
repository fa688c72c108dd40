"""Which programs show a run, and what happens where one of them fails."""

import importlib.util

import pytest
from conftest import tiny_rows, write_dataset

from recbole_genci import plan
from recbole_genci.cli import main
from recbole_genci.config import Config
from recbole_genci.config.trackers import trackers
from recbole_genci.training.tracking import tracked_run as module
from recbole_genci.training.tracking.tracked_run import tracked_run


class Notes:
    """A program that notes what it is told, and fails at one of the calls."""

    errors = (OSError,)

    def __init__(self, fails_at=None, continues=True):
        self.fails_at, self.calls, self.continues = fails_at, [], continues

    def _note(self, *call):
        if call[0] == self.fails_at:
            raise OSError("no answer")
        self.calls.append(call)

    def log(self, part, figures, epoch):
        self._note(part, figures, epoch)

    def log_test(self, metrics):
        self._note("test", metrics)

    def close(self, exit_code):
        self._note("close", exit_code)


@pytest.fixture
def config():
    return Config("LR", "ml-100k", config_dict={"track": ["wandb", "mlflow"]})


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"track": "mlflow,tensorboard"}, ("tensorboard", "mlflow")),
        ({"track": ["wandb"]}, ("wandb",)),
        ({"log_wandb": True}, ("wandb",)),
        ({"log_wandb": True, "track": "wandb, mlflow"}, ("wandb", "mlflow")),
        ({}, ()),
    ],
)
def test_the_names_are_a_list_or_a_word(given, names):
    assert trackers(Config("LR", "ml-100k", config_dict=given)) == names


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="track: 'mlfow' is none of .* Did you mean 'mlflow'"):
        Config("LR", "ml-100k", argv=["--track=tensorboard,mlfow"])


def test_a_missing_package_is_refused_before_anything_is_read(tmp_path, monkeypatch, capsys):
    write_dataset(tmp_path, tiny_rows())
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "mlflow" else find(name)
    )
    monkeypatch.setattr(plan, "prepare_parts", None)
    words = ["--model=LR", "--dataset=tiny", f"--data_path={tmp_path}", "--track=mlflow"]
    assert main(words) == 2
    assert capsys.readouterr().err == (
        "recbole_genci: track: it needs the package mlflow, which is not installed: pip install "
        "mlflow. Or leave mlflow out of track.\n"
    )


def test_one_that_fails_midway_gets_no_more_and_the_run_goes_on(
    config, tmp_path, monkeypatch, caplog
):
    bad, good = Notes("valid"), Notes()
    monkeypatch.setattr(module, "_OPENED", {"wandb": lambda _: bad, "mlflow": lambda _: good})
    with tracked_run(config, tmp_path, {}) as run:
        run.log("train", {"train_loss": 1.0}, 1)
        run.log("valid", {"auc": 0.5}, 1)
        run.log_test({"auc": 0.6})
    assert [call[0] for call in bad.calls] == ["train"]
    assert [call[0] for call in good.calls] == ["train", "valid", "test", "close"]
    said = [record.message for record in caplog.records]
    assert said == [
        "track: wandb failed and gets no more figures of this run, which goes on: no answer"
    ]


def test_an_epoch_that_is_trained_again_is_told_once(config, tmp_path, monkeypatch):
    def told(*epochs, continues=True):
        notes = Notes(continues=continues)
        made = {"wandb": lambda _: notes, "mlflow": lambda _: Notes()}
        monkeypatch.setattr(module, "_OPENED", made)
        with tracked_run(config, tmp_path, {}) as run:
            for part, epoch in epochs:
                run.log(part, {"x": 0.5}, epoch)
        return [(call[0], call[2]) for call in notes.calls[:-1]]

    first = [("train", 1), ("valid", 1), ("train", 2)]
    assert told(*first) == first
    assert told(("train", 2), ("valid", 2), ("train", 3)) == [("valid", 2), ("train", 3)]
    again = [("train", 3), ("valid", 3)]
    assert told(*again, continues=False) == again  # in another store
    (tmp_path / "tracked.json").write_text('{"told": {"wandb": {"train": "3"}}}')
    with pytest.raises(ValueError, match="track: .*tracked.json is damaged. Delete it"):
        told()


def test_all_end_as_the_run_does(config, tmp_path, monkeypatch):
    def opened(first, second):
        made = {
            "wandb": lambda _: first,
            "mlflow": second if callable(second) else lambda _: second,
        }
        monkeypatch.setattr(module, "_OPENED", made)
        return tracked_run(config, tmp_path, {})

    for error, code in ((ValueError, 1), (KeyboardInterrupt, 130)):
        first, second = Notes(), Notes()
        with pytest.raises(error), opened(first, second):
            raise error
        assert first.calls == second.calls == [("close", code)]

    def refuse(facts):
        raise ConnectionError("no such server")

    first = Notes()
    with pytest.raises(ConnectionError, match="no such server"), opened(first, refuse):
        pass
    assert first.calls == [("close", 1)]
