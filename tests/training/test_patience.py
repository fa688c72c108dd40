"""`stopping_step` and `min_patience_steps`: how long early stopping waits for an improvement."""

import itertools
import math
from pathlib import Path

import pytest
from conftest import stop_after, tiny_rows, write_dataset

from recbole_genci import tune
from recbole_genci.config import Config
from recbole_genci.plan import prepare
from recbole_genci.quick_start import resume, run
from recbole_genci.training.run_folder import config_as_yaml
from recbole_genci.training.trainer import CTRTrainer


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """Data of a few hundred rows; the first epoch is the best, and each is worse than the last."""
    whole = CTRTrainer._valid_epoch
    epochs = itertools.count()

    def validate(self, *args, **kwargs):
        return -float(next(epochs)), whole(self, *args, **kwargs)[1]

    monkeypatch.setattr(CTRTrainer, "_valid_epoch", validate)
    data = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40))
    return data | {"epochs": 80, "train_batch_size": 64}


@pytest.fixture
def steps(keys):
    """The steps of an epoch."""
    rows = len(prepare(["DeepFM"], "tiny", config_dict=keys).parts[0])
    return math.ceil(rows / keys["train_batch_size"])


def waited(keys):
    """Epochs after the best."""
    result = run("DeepFM", "tiny", config_dict=keys)[0]
    assert result.metrics["best_epoch"] == 1
    return result.metrics["epochs"] - 1


@pytest.mark.parametrize("wanted", [1, 30, 43])
def test_early_stopping_waits_for_so_many_steps(wanted, keys, steps):
    assert steps > 1
    assert waited(keys | {"min_patience_steps": wanted}) == max(3, math.ceil(wanted / steps))


def test_it_waits_for_whole_evaluations(keys, steps):
    more = {"min_patience_steps": 5 * steps, "eval_step": 4, "stopping_step": 0}
    result = run("DeepFM", "tiny", config_dict=keys | more)[0]  # 20 steps, 40 steps
    assert (result.metrics["best_epoch"], result.metrics["epochs"]) == (4, 12)


def test_by_default_it_waits_for_a_hundred_steps(keys, steps):
    assert waited(keys | {"recipe": "regularised"}) == math.ceil(100 / steps) > 3


@pytest.mark.parametrize("recipe", ["paper", "regularised"])
def test_whoever_sets_stopping_step_has_exactly_that(recipe, keys):
    assert waited(keys | {"stopping_step": 1, "recipe": recipe}) == 2


def test_a_dataset_s_file_sets_it_too_and_the_paper_s_recipe_has_none():
    assert Config("LR", "ml-100k")["min_patience_steps"] == 100
    assert Config("LR", "frappe_x1")["min_patience_steps"] == 0  # its file has FuxiCTR's patience
    assert Config("LR", "ml-100k", argv=["--recipe=paper"])["min_patience_steps"] == 0
    words = ["--recipe=paper", "--min_patience_steps=7"]
    assert Config("LR", "ml-100k", argv=words)["min_patience_steps"] == 7


def test_the_file_of_a_run_keeps_both(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(config_as_yaml(Config("LR", "ml-100k")))
    again = Config("LR", "ml-100k", [file])
    assert (again["stopping_step"], again["min_patience_steps"]) == (2, 100)


@pytest.mark.parametrize(
    ("in_file", "more", "expected"),
    [
        ({}, {}, 100),
        ({}, {"stopping_step": 5}, 0),
        ({}, {"stopping_step": 5, "min_patience_steps": 100}, 100),
        ({"min_patience_steps": 7}, {"stopping_step": 5}, 7),
        ({"stopping_step": 5}, {}, 0),
        ({"stopping_step": 5}, {"stopping_step": 4}, 0),
    ],
)
def test_stopping_step_by_hand_counts_alone_beside_the_file_of_a_run(in_file, more, expected):
    file = Path("config.yaml")
    file.write_text(config_as_yaml(Config("LR", "ml-100k", config_dict=in_file)))
    words = [f"--{key}={value}" for key, value in more.items()]
    assert Config("LR", "ml-100k", [file], more)["min_patience_steps"] == expected
    assert Config("LR", "ml-100k", [file], argv=words)["min_patience_steps"] == expected


def test_a_searched_stopping_step_counts_alone(keys):
    Path("space.test").write_text("stopping_step choice [0, 2, 4]\n")
    keys |= {"recipe": "regularised"}
    trials = tune("DeepFM", "tiny", "space.test", config_dict=keys, algo="exhaustive").trials
    epochs = trials["epochs trained"] - trials["best epoch"]
    assert list(epochs) == [step + 1 for step in trials["stopping_step"]]


def test_a_resumed_run_waits_as_long(keys, steps, monkeypatch):
    keys |= {"min_patience_steps": 5 * steps}
    assert waited(keys) == 5
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(KeyboardInterrupt):
            run("DeepFM", "tiny", config_dict=keys | {"checkpoint_dir": "stopped"})
    (folder,) = Path("stopped").iterdir()
    assert resume(folder).metrics["epochs"] == 6
