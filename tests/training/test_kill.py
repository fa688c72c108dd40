"""kill -9 at any moment of a run loses at most the running epoch, and leaves nothing half-written
to be loaded.
"""

import functools
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from conftest import tiny_rows, write_dataset

from recbole_genci import load, quick_start
from recbole_genci.plan import prepare
from recbole_genci.quick_start import resume
from recbole_genci.training import checkpoint, trainer
from recbole_genci.training import run as training
from recbole_genci.training.checkpoint import read_state
from recbole_genci.training.run import train_and_evaluate
from recbole_genci.utils import writing

SAME = ("test", "best_valid", "best_epoch", "epochs", "data_fingerprint", "seed")
EPOCHS = 3


class Clock:
    """Counts the moments of a run and kills the process at one of them."""

    def __init__(self, moment):
        self.moment, self.passed = moment, 0

    def tick(self):
        if self.passed == self.moment:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1

    def around(self, function):
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            self.tick()
            result = function(*args, **kwargs)
            self.tick()
            return result

        return wrapped


def watch(clock, patch):
    """Moments: before and after each file is begun, filled, made durable and renamed, and each
    optimiser step.
    """
    for module, names in (
        (writing.os, ("fsync", "replace")),
        (writing.tempfile, ("mkstemp",)),
        (trainer, ("save_file",)),
        (checkpoint, ("save_file", "settle_weights")),
        (torch.optim.Adam, ("step",)),
        (Path, ("write_text", "unlink")),
    ):
        for name in names:
            patch.setattr(module, name, clock.around(getattr(module, name)))


def run_killed_at(moment, plan, progress: Path) -> int:
    """Run the plan in a child that dies at ``moment``; the epochs whose state it had finished
    writing.
    """
    progress.write_text("0")
    child = os.fork()
    if child == 0:
        patch = pytest.MonkeyPatch()
        original = trainer.save_training_state

        def save_and_note(folder, this, epoch, *rest):
            original(folder, this, epoch, *rest)
            with open(progress, "w") as file:
                file.write(str(epoch + 1))

        patch.setattr(trainer, "save_training_state", save_and_note)
        watch(Clock(moment), patch)
        (config,) = plan.configs.values()
        train_and_evaluate(config, plan.parts)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return int(progress.read_text())


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_moment_goes_on_to_the_same_end(stride, tmp_path, monkeypatch):
    keys = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=30)) | {
        "epochs": EPOCHS,
        "stopping_step": 9,
        "dropout_prob": 0.2,
        "train_batch_size": 128,
    }
    plan = prepare("DeepFM", "tiny", config_dict=keys)
    clock = Clock(-1)
    with monkeypatch.context() as patch:
        watch(clock, patch)
        whole = train_and_evaluate(plan.configs["DeepFM"], plan.parts)
    weights = Path(whole["folder"], "model.safetensors").read_bytes()
    shutil.rmtree("saved")
    assert clock.passed > 60
    outcomes = set()
    for moment in range(0, clock.passed + 3, stride):
        plan.parts[0].__dict__.pop("stored_file", None)
        epochs = run_killed_at(moment, plan, tmp_path / "progress")
        (folder,) = Path("saved").iterdir()
        if (folder / "metrics.json").exists():
            outcomes.add("finished")
            assert load(folder).evaluate() == whole["test"]
        elif (folder / "training.safetensors").exists():
            outcomes.add("resumed")
            start = read_state(folder).facts["epoch"] + 1
            assert start >= epochs  # at most the running epoch is lost
            result = resume(folder)
            assert {k: result[k] for k in SAME} == {k: whole[k] for k in SAME}, (
                f"killed at moment {moment}"
            )
            assert (folder / "model.safetensors").read_bytes() == weights
            assert load(folder).evaluate() == whole["test"]
        else:
            outcomes.add("started anew")
            assert epochs == 0
            with pytest.raises(
                FileNotFoundError,
                match="has no config.yaml|does not exist|stopped before its first",
            ):
                resume(folder)
            with pytest.raises(FileNotFoundError):
                load(folder)
        shutil.rmtree("saved")
    assert outcomes == {"finished", "resumed", "started anew"}


def test_a_damaged_state_is_refused_by_name(tmp_path, monkeypatch):
    keys = write_dataset(tmp_path / "data", tiny_rows()) | {"epochs": 2}
    original = training.write_json

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        quick_start.run("DeepFM", "tiny", config_dict=keys)
    monkeypatch.setattr(training, "write_json", original)
    (folder,) = Path("saved").iterdir()
    state = (folder / "training.safetensors").read_bytes()
    (folder / "training.safetensors").write_bytes(state[: len(state) // 2])
    with pytest.raises(ValueError, match=r"training\.safetensors is damaged"):
        resume(folder)
    (folder / "training.safetensors").write_bytes(state)
    assert resume(folder)["epochs"] == 2
