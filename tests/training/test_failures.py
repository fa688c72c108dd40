"""Training that fails says why in one sentence, keeps what has finished, and says how to go on."""

import os
import re
from pathlib import Path

import pytest
import torch
import yaml
from conftest import tiny_rows, with_context, write_dataset

from recbole_genci import quick_start
from recbole_genci.cli import main
from recbole_genci.quick_start import run
from recbole_genci.training import checkpoint, losses
from recbole_genci.utils import disk

MODELS = """
import torch
from recbole.model.context_aware_recommender.deepfm import DeepFM


class Net(DeepFM):
    calls = 0

    def calculate_loss(self, batch):
        loss = super().calculate_loss(batch)
        Net.calls += 1
        return self.late(loss) if Net.calls > 14 else loss

    def late(self, loss):
        HERE
"""


@pytest.fixture
def words(tmp_path):
    """The words of a command, without the model."""
    keys = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40)) | {"epochs": 3}
    Path("keys.yaml").write_text(yaml.safe_dump(keys))
    return ["--dataset=tiny", "--config_files=keys.yaml"]


def said_by(words, capsys, status=1):
    assert main(words) == status
    before, _, said = capsys.readouterr().err.partition("recbole_genci: ")
    assert said and "recbole_genci: " not in said and (not before or before.endswith("\n"))
    return f"recbole_genci: {said.rstrip()}"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--learning_rate=1e30", r"DeepFM: the loss of a batch is (nan|inf) in epoch 1; training"),
    ],
)
def test_training_that_diverges_ends_in_a_sentence(words, word, said, capsys):
    line = said_by(["--model=DeepFM", word, *words], capsys)
    assert re.search(said, line), line
    assert "--resume" not in line  # it would end in the same


def test_what_has_finished_is_named(words, capsys, monkeypatch):
    def fail(self, loss):
        if self.config["model"] == "FM":
            raise FloatingPointError("FM: it diverged.")

    monkeypatch.setattr("recbole_genci.training.trainer.CTRTrainer._check_nan", fail)
    line = said_by(["--model=DeepFM,FM,DCN", *words], capsys)
    assert "FM: it diverged." in line and "Finished: DeepFM seed 2020; their table: " in line
    assert line.endswith("Not begun: DCN seed 2020")


@pytest.mark.parametrize(
    ("late", "said"),
    [
        ("return loss * float('nan')", "Net: the loss of a batch is nan in epoch 2"),
        ("return float(loss.detach())", "Net.calculate_loss must return one number, as a tensor"),
        ("return loss.detach()", "a loss that does not depend on the model's weights"),
        ("return torch.ones(2)", "Net.calculate_loss must return one number"),
        ("raise KeyError('x')", "model: Net: {file}, line 15: KeyError: 'x'"),
        ("raise SystemExit(0)", "model: Net: {file}, line 15: SystemExit: 0"),
        ("raise ValueError('odd')", "model: Net: {file}, line 15: ValueError: odd"),
    ],
)
def test_a_models_own_late_error_names_model_file_and_line(words, late, said, capsys, tmp_path):
    file = tmp_path / "nets.py"
    file.write_text(MODELS.replace("HERE", late))
    line = said_by([f"--model={file}:Net", *words], capsys)
    assert said.format(file=file) in line
    with pytest.raises(Exception):  # noqa: B017, PT011
        main([f"--model={file}:Net", "--state=DEBUG", *words])


def test_a_metric_that_is_infinite_counts_as_undefined(words, caplog, tmp_path):
    Path("odd.py").write_text("def Odd(labels, probabilities):\n    return float('inf')\n")
    metrics = "--metrics=['AUC','LogLoss','odd.py:Odd']"
    (result,) = run("DeepFM", "tiny", "keys.yaml", argv=[metrics])
    assert result.test["odd"] is None and "Odd gave inf" in caplog.text
    with pytest.raises(ValueError, match="valid_metric: .*Odd of the validation rows is undefined"):
        run("DeepFM", "tiny", "keys.yaml", argv=[metrics, "--valid_metric=Odd"])


def test_a_run_whose_logloss_explodes_says_so(words, caplog):
    run("DeepFM", "tiny", "keys.yaml", argv=["--learning_rate=1e5"])
    assert "DeepFM diverged: its LogLoss is" in caplog.text and "Lower learning_rate" in caplog.text


def test_a_run_that_large_numbers_blow_up_names_the_feature(words, tmp_path, caplog):
    keys = with_context(tmp_path / "data", yaml.safe_load(Path("keys.yaml").read_text()))
    keys |= {"normalize_field": [], "numerical_features": ["price"], "epochs": 2}
    file = tmp_path / "data/tiny/tiny.inter"
    lines = [line.split("\t") for line in file.read_text().splitlines()]
    rows = [[*line[:-1], "1e30"] for line in lines[1:]]
    file.write_text("\n".join("\t".join(line) for line in [lines[0], *rows]) + "\n")
    advice = (
        "diverged. Numbers of 'price' reach 1e+30, and models multiply its embedding by them: "
        "scale it to 0 to 1 by normalize_field: [price]. If that does not help, lower "
        "learning_rate (now 0.005) or set clip_grad_norm: {'max_norm': 5.0}."
    )
    with pytest.raises(FloatingPointError) as error:
        run("DeepFM", "tiny", config_dict=keys)
    assert str(error.value).endswith(advice)
    caplog.clear()
    del keys["mlp_hidden_size"]
    run("LR", "tiny", config_dict=keys)
    assert "its LogLoss is" in caplog.text and "Numbers of 'price' reach 1e+30" in caplog.text


def test_an_ordinary_run_says_nothing_of_the_kind(words, caplog):
    run("DeepFM", "tiny", "keys.yaml")
    assert "diverge" not in caplog.text


def test_an_exploding_loss_is_measured_against_the_smallest():
    config = {"model": "M", "learning_rate": 0.1, "clip_grad_norm": None}
    assert losses.exploded(config, [0.7]) is None
    assert losses.exploded(config, [0.7, 0.5, 9.9]) is None
    assert "the loss rose from 0.5 to 11" in losses.exploded(config, [0.7, 0.5, 11.0])


def test_scores_are_measured_against_a_constant():
    config = {"model": "M", "learning_rate": 0.1, "clip_grad_norm": None}
    labels = torch.tensor([0.0, 1.0] * 50)
    assert losses.diverged(config, torch.full((100,), 0.5), labels) is None
    assert "LogLoss is 34.54, that of one" in losses.diverged(config, 1 - labels, labels)


def test_a_full_disk_while_the_state_is_written(words, capsys, monkeypatch):
    write, states = checkpoint.save_file, []

    def fill(tensors, path, about):
        states.append(path)
        if len(states) == 2:
            raise checkpoint.SafetensorError("I/O error: No space left on device (os error 28)")
        write(tensors, path, about)

    monkeypatch.setattr(checkpoint, "save_file", fill)
    line = said_by(["--model=DeepFM", *words], capsys)
    (folder,) = Path("saved").iterdir()
    assert f"{folder}/training.safetensors could not be written (No space left on device)" in line
    assert line.endswith(f" --resume={folder}")
    assert main([f"--resume={folder}"]) == 0 and (folder / "metrics.json").is_file()


def test_a_log_that_cannot_be_written_is_told_once(words, capsys, monkeypatch):
    from recbole_genci.utils import logs

    def full(self):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(logs._LogFile, "flush", full)
    assert main(["--model=DeepFM", *words]) == 0
    errors = capsys.readouterr().err
    assert errors.count("run.log could not be written (No space left on device)") == 1
    assert "Traceback" not in errors and "Logging error" not in errors


def test_a_lack_of_memory_says_how_to_go_on(words, capsys, monkeypatch):
    original = checkpoint.save_training_state

    def exhaust(folder, trainer, epoch, *rest):
        original(folder, trainer, epoch, *rest)
        torch.empty(1 << 55)

    monkeypatch.setattr("recbole_genci.training.trainer.save_training_state", exhaust)
    line = said_by(["--model=DeepFM", *words], capsys)
    assert "out of memory on this machine" in line and "--resume=saved/DeepFM-tiny-" in line


def test_a_folder_that_cannot_be_written_is_refused_before_rows_are_read(words, capsys):
    Path("file").touch()
    for key, model in (("semantic_id_dir", "GenCI"), ("checkpoint_dir", "DeepFM")):
        line = said_by([f"--model={model}", f"--{key}=file/x", *words], capsys, status=2)
        assert f"{key}: nothing can be written into file/x" in line


def test_a_disk_without_room_is_refused_before_training(words, capsys, monkeypatch):
    usage = disk.shutil.disk_usage
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage(path)._replace(free=20_000))
    line = said_by(["--model=DeepFM", *words], capsys, status=2)
    assert "checkpoint_dir: the disk of saved has 0.0 MB free, and about 0.1 MB are needed" in line
    few = [*words, "--results_dir=tables"]
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage(path)._replace(free=10**6))
    line = said_by(["--model=DeepFM", *few], capsys, status=2)
    assert "results_dir: the disk of tables has 1.0 MB free, and about 2.1 MB are needed" in line
    line = said_by(["--experiment=compare", "--models=LR", "--seeds=1", *few], capsys, status=1)
    assert "results_dir: the disk of tables/compare-tiny has 1.0 MB free" in line


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_table_that_is_not_written_leaves_nothing_and_says_how_to_get_it(
    stop, words, capsys, monkeypatch
):
    def fail(runs, folder, *more):
        (folder / "table.md").write_text("half")
        raise stop

    monkeypatch.setattr(quick_start, "save_comparison", fail)
    line = said_by(["--model=DeepFM", *words], capsys, status=130 if stop.args == () else 1)
    assert "Finished: DeepFM seed 2020; their table: python -m recbole_genci.report saved/" in line
    assert not list(Path("results").glob("tiny-*"))


@pytest.mark.timeout(900)
def test_a_process_that_is_killed_is_named(words, capsys, tmp_path):
    file = tmp_path / "nets.py"
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    file.write_text(MODELS.replace("HERE", kill).replace("Net.calls > 14", "Net.calls > 2"))
    line = said_by([f"--model={file}:Net", "--nproc=2", *words], capsys)
    assert "of 2 ended by SIGKILL" in line and "lower nproc or train_batch_size" in line


@pytest.mark.timeout(900)
def test_an_error_in_one_of_several_processes_is_told_as_in_one(words, capsys, tmp_path):
    file = tmp_path / "nets.py"
    file.write_text(MODELS.replace("HERE", "raise KeyError('x')").replace("> 14", "> 2"))
    line = said_by([f"--model={file}:Net", "--nproc=2", *words], capsys)
    assert f"model: Net: {file}, line 15: KeyError: 'x'." in line
