"""A run that was stopped goes on as if it had not been."""

import contextlib
import functools
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import SMALL_GENCI, interrupted, stop_after, tiny_rows, write_dataset
from safetensors.torch import load_file, save_file

from recbole_genci import load
from recbole_genci.cli import main
from recbole_genci.config import Config
from recbole_genci.config.added_keys import ADDED_KEYS
from recbole_genci.hub.contents import contents_of
from recbole_genci.quick_start import resume, run
from recbole_genci.training import checkpoint, run_folder, trainer
from recbole_genci.utils.lock import LOCK_FILE, only_process
from recbole_genci.utils.writing import write_atomically

SAME = ("test", "best_valid", "best_epoch", "epochs", "data_fingerprint", "semantic_ids", "seed")


@pytest.fixture
def keys(tmp_path):
    data = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40))
    return data | {
        "epochs": 3,
        "stopping_step": 9,
        "dropout_prob": 0.2,
        "train_batch_size": 64,
    }


@pytest.mark.parametrize(
    ("name", "more"),
    [
        # An optimiser of two parameter groups
        ("GenCI", SMALL_GENCI | {"weight_decay": 0.1, "weight_decay_of": "embeddings"}),
        ("DIN", {}),
        ("DeepFM", {}),
        ("DeepFM", {"precision": "bf16"}),
        ("DeepFM", {"sr_weight": 1, "weight_average": 0.9, "weight_average_per": "step"}),
        ("DeepFM", {"learner": "adagrad", "eval_step": 2}),
        (
            "GenCI",
            SMALL_GENCI
            | {"sr_base": "pretrained", "group_rows_by_history": True}
            | {"history_attention": "causal", "segment_clicks": 3},
        ),
        pytest.param("GenCI", SMALL_GENCI, marks=pytest.mark.slow),
        pytest.param("AFN+", {}, marks=pytest.mark.slow),
        pytest.param("MIRRN", {}, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_ends_with_the_metrics_and_weights_of_one_that_was_not(
    name, more, keys, monkeypatch
):
    keys |= more
    whole = run(name, "tiny", config_dict=keys)[0]
    with monkeypatch.context() as patched:
        stop_after(1, patched)
        with pytest.raises(KeyboardInterrupt):
            run(name, "tiny", config_dict=keys)
    folder = sorted(Path("saved").iterdir(), key=lambda path: path.stat().st_ctime)[-1]
    assert {p.name for p in folder.iterdir()} >= {"training.safetensors", "config.yaml"} and not (
        folder / "metrics.json"
    ).exists()
    torch.rand(3)
    before = checkpoint.read_state(folder).facts["training_s"]
    resumed = resume(folder)
    assert {k: resumed[k] for k in SAME} == {k: whole[k] for k in SAME}
    assert resumed["training_s"] > before > 0
    assert resumed["resumed"] and not whole["resumed"] and resumed["epochs"] == 3
    one, other = (
        load_file(Path(whole["folder"]) / "model.safetensors"),
        load_file(folder / "model.safetensors"),
    )
    assert (
        all(torch.equal(one[k], other[k]) for k in one)
        and not (folder / "training.safetensors").exists()
    )


def test_a_stopped_run_with_a_large_table_goes_on_exactly(keys, monkeypatch):
    monkeypatch.setattr(trainer, "_LARGE_TABLE", 0)
    test_a_stopped_run_ends_with_the_metrics_and_weights_of_one_that_was_not(
        "DeepFM", {}, keys, monkeypatch
    )


def test_a_run_stopped_after_its_last_epoch_trains_no_more(keys, monkeypatch):
    whole = run("DeepFM", "tiny", config_dict=keys)[0]
    with monkeypatch.context() as patched:
        stop_after(2, patched)
        with pytest.raises(KeyboardInterrupt):
            run("DeepFM", "tiny", config_dict=keys)
    (folder,) = (p for p in Path("saved").iterdir() if (p / "training.safetensors").exists())
    resumed = resume(folder)
    assert {k: resumed[k] for k in SAME} == {k: whole[k] for k in SAME}


def test_what_cannot_be_resumed_is_refused_with_the_reason(keys, monkeypatch, capsys):
    assert main(["--resume=saved/nowhere"]) == 2 and "does not exist" in capsys.readouterr().err
    assert (
        main(["--resume=saved/nowhere", "--epochs=3"]) == 2
        and "stands alone" in capsys.readouterr().err
    )
    finished = run("DeepFM", "tiny", config_dict=keys)[0]["folder"]
    assert main([f"--resume={finished}"]) == 2 and "has finished" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        stop_after(0, patched)
        with pytest.raises(KeyboardInterrupt):
            run("DeepFM", "tiny", config_dict=keys)
    (folder,) = (p for p in Path("saved").iterdir() if (p / "training.safetensors").exists())
    state = (folder / "training.safetensors").read_bytes()
    for damaged in (b"", b"no archive", state[: len(state) // 2], flipped(state, len(state) // 2)):
        (folder / "training.safetensors").write_bytes(damaged)
        with pytest.raises(
            ValueError, match="^resume: .*training.safetensors is damaged.* start the run anew"
        ):
            resume(folder)
    save_file({"a": torch.ones(1)}, folder / "training.safetensors")
    with pytest.raises(ValueError, match="does not fit its own digest"):
        resume(folder)
    (folder / "training.safetensors").write_bytes(state)
    asked = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text("model: [")
    assert (
        main([f"--resume={folder}"]) == 2
        and "config.yaml is damaged (while parsing" in capsys.readouterr().err
    )
    (folder / "config.yaml").write_text(asked)
    with only_process(folder):
        assert (
            main([f"--resume={folder}"]) == 2
            and "another process is at work in" in capsys.readouterr().err
        )
    with monkeypatch.context() as patched:
        patched.setattr(
            "recbole.model.context_aware_recommender.deepfm.DeepFM.revision", 2, raising=False
        )
        with pytest.raises(
            ValueError,
            match="was trained on model revision None, but its configuration now gives 2",
        ):
            resume(folder)
    (folder / "config.yaml").write_text(asked.replace("learning_rate: ", "learning_rate: 0.5 #"))
    with pytest.raises(
        ValueError, match="config.yaml was edited .*learning_rate was 0.* and is now 0.5"
    ):
        resume(folder)
    (folder / "config.yaml").write_text(asked.replace("\nweight_decay: ", "\nweight_decay: 0.5 #"))
    with pytest.raises(
        ValueError, match="config.yaml was edited .*weight_decay was 0.* and is now 0.5"
    ):
        resume(folder)
    (folder / "config.yaml").write_text(asked)
    data = Path(yaml.safe_load((folder / "config.yaml").read_text())["data_path"])
    file = data / "tiny/tiny.item"
    before = file.read_text()
    file.write_text(before.replace("\t1990\t", "\t1991\t"))
    with pytest.raises(
        ValueError, match="was trained on features .* but its configuration now gives"
    ):
        resume(folder)
    file.write_text(before)
    file = data / "tiny/tiny.inter"
    file.write_text(file.read_text() + "u1\ti1\t1\t1800000000\n")
    with pytest.raises(ValueError, match="was trained on rows .* but its configuration now gives"):
        resume(folder)


WITHOUT_METRICS = {
    "stopped": ("training.safetensors", {}, "has not finished. Resume it by --resume=stopped."),
    "finished": (
        "model.safetensors",
        {},
        "although the run had finished: .* Take metrics.json from a copy of the folder, or train",
    ),
    "before an epoch": ("run.log", {}, "stopped before its first epoch ended. Start it anew."),
    "processes": ("model.safetensors", {"nproc": 2}, "keeps no state .* Start it anew."),
}


@pytest.mark.parametrize("case", WITHOUT_METRICS)
def test_all_who_miss_metrics_give_the_same_reason(case):
    file, keys, said = WITHOUT_METRICS[case]
    folder = Path("stopped")
    folder.mkdir()
    (folder / file).write_text("")
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": "LR", "dataset": "tiny"} | keys))
    reasons = set()
    for read in (load, resume, functools.partial(contents_of, with_data=False)):
        with pytest.raises((FileNotFoundError, ValueError)) as error:
            read(folder)
        reason = str(error.value).removeprefix("resume: ").removeprefix("push: ")
        if case != "stopped" or read is not resume:  # which has a state to read
            reasons.add(reason)
    assert len(reasons) == 1 and re.search(said, reasons.pop())


def test_a_search_is_not_taken_for_a_run_that_stopped():
    for folder, log in (("search", "search.log"), ("search/trials/0001/LR-1", "run.log")):
        Path(folder).mkdir(parents=True)
        Path(folder, "config.yaml").write_text("{model: LR, dataset: tiny}")
        Path(folder, log).touch()
    said = "no metrics.json. The newest run below it is search/trials/0001/LR-1.$"
    for read in (load, resume):
        with pytest.raises(FileNotFoundError, match=said):
            read("search")


def flipped(content, byte, bit=0):
    content = bytearray(content)
    content[byte] ^= 1 << bit
    return bytes(content)


def stopped_run(keys, monkeypatch, epoch=1):
    with monkeypatch.context() as patched:
        stop_after(epoch, patched)
        with pytest.raises(KeyboardInterrupt):
            run("DeepFM", "tiny", config_dict=keys)
    return next(file.parent for file in Path("saved").glob("*/training.safetensors"))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("README.md", "it is a file, not a folder."),
        ("saved/LR-<time>", "it does not exist. The newest run in saved is saved/LR-1."),
        ("nowhere", "it does not exist."),
        ("nowhere/LR-1", "it does not exist."),
        ("saved", "it has no config.yaml. The newest run below it is saved/LR-1."),
        ("results", "it has no config.yaml. The newest run below it is results/runs/1/LR-2."),
        (".", "it has no config.yaml. The newest run below it is saved/LR-1."),
        ("elsewhere", "it has no config.yaml."),
        ("saved/LR-1/run.log", "it is a file, not a folder (its folder is saved/LR-1)."),
    ],
)
def test_what_is_no_folder_of_a_run_is_said_to_be_what_it_is(given, reason, capsys):
    for number, folder in enumerate(("saved/LR-2", "saved/LR-1", "results/runs/1/LR-2")):
        Path(folder).mkdir(parents=True)
        for file in ("run.log", "config.yaml"):
            Path(folder, file).touch()
            os.utime(Path(folder, file), (number, number))
    for file in ("README.md", "elsewhere/other/config.yaml"):  # of another program
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    said = f"{given} is not the folder of a run: {reason}"
    assert main([f"--resume={given}"]) == 2
    assert capsys.readouterr().err.startswith(f"recbole_genci: resume: {said} Give the folder")
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(said)}$"):
        load(given)


def test_a_flipped_bit_of_the_state_or_the_weights_is_refused(keys, monkeypatch):
    folder = stopped_run(keys, monkeypatch)
    for name in ("training.safetensors", "model.safetensors"):
        content = (folder / name).read_bytes()
        for byte in (0, 9, len(content) // 3, len(content) - 1):
            (folder / name).write_bytes(flipped(content, byte, 3))
            with pytest.raises(ValueError, match=f"{name} is damaged.*[Ss]tart the run anew"):
                resume(folder)
        (folder / name).write_bytes(content)
    assert resume(folder)["epochs"] == 3


def test_missing_weights_and_those_of_another_run_are_refused(keys, monkeypatch):
    folder = stopped_run(keys, monkeypatch)
    other = Path(run("DeepFM", "tiny", config_dict=keys | {"seed": 1})[0]["folder"])
    weights = folder / "model.safetensors"
    kept = weights.rename(folder / "kept")
    with pytest.raises(ValueError, match="model.safetensors is missing"):
        resume(folder)
    shutil.copy(other / "model.safetensors", weights)
    with pytest.raises(ValueError, match="model.safetensors is damaged or of another run"):
        resume(folder)
    kept.rename(weights)
    assert resume(folder)["epochs"] == 3


def test_weights_take_their_place_once_the_state_knows_them(keys, monkeypatch):
    """Killed between the two, a run goes on with the old state and the old weights."""
    keys |= {"valid_metric": "LogLoss", "learning_rate": 0.001}  # better epoch by epoch
    whole = run("DeepFM", "tiny", config_dict=keys)[0]
    writes = []

    def write(path, function):
        if path.name == "training.safetensors" and "model.next.safetensors" in writes[1:]:
            raise KeyboardInterrupt
        writes.append(path.name)
        write_atomically(path, function)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "write_atomically", write)
        patched.setattr(checkpoint, "write_atomically", write)
        with pytest.raises(KeyboardInterrupt):
            run("DeepFM", "tiny", config_dict=keys)
    folder = next(file.parent for file in Path("saved").glob("*/model.next.safetensors"))
    assert writes[:2] == ["model.next.safetensors", "training.safetensors"]
    resumed = resume(folder)
    assert {k: resumed[k] for k in SAME} == {k: whole[k] for k in SAME}
    assert not (folder / "model.next.safetensors").exists()


def test_lost_rows_and_semantic_ids_are_written_again(keys, monkeypatch, caplog):
    keys |= SMALL_GENCI
    whole = run("GenCI", "tiny", config_dict=keys)[0]
    with monkeypatch.context() as patched:
        stop_after(1, patched)
        with pytest.raises(KeyboardInterrupt):
            run("GenCI", "tiny", config_dict=keys)
    folder = next(file.parent for file in Path("saved").glob("*/training.safetensors"))
    rows, codes = folder / "data.safetensors", folder / "semantic_ids/codes.npy"
    rows.write_bytes(flipped(rows.read_bytes(), -5))
    codes.unlink()
    assert resume(folder)["test"] == whole["test"]
    assert "written again" in caplog.text
    assert load(folder).evaluate() == whole["test"]


def test_a_key_that_is_younger_than_a_run_changes_nothing_in_it(keys, monkeypatch, run_without):
    keys |= SMALL_GENCI | {"epochs": 3}
    key, before = "intent_scale", 0.3
    monkeypatch.setitem(ADDED_KEYS, key, before)
    assert Config("GenCI", "tiny", config_dict=keys)[key] != before
    whole = run("GenCI", "tiny", config_dict=keys | {key: before})[0]
    with run_without(key):
        earlier = run("GenCI", "tiny", config_dict=keys | {key: before})[0]
        with monkeypatch.context() as patched:
            stop_after(1, patched)
            with pytest.raises(KeyboardInterrupt):
                run("GenCI", "tiny", config_dict=keys | {key: before})
    assert key not in yaml.safe_load((Path(earlier["folder"]) / "config.yaml").read_text())
    assert load(earlier["folder"]).evaluate() == whole["test"] == earlier["test"]
    folder = next(file.parent for file in Path("saved").glob("*/training.safetensors"))
    assert resume(folder)["test"] == whole["test"] == load(folder).evaluate()


@pytest.mark.parametrize(
    ("key", "before", "more"),
    [
        ("weight_average", 0, {}),
        ("weight_decay_of", None, {"weight_decay": 0.1}),  # all weights, before there was the key
        ("min_count", None, {}),
    ],
)
def test_a_run_of_an_earlier_version_may_stop_again_before_its_next_state(
    key, before, more, keys, monkeypatch, run_without
):
    """Its ``config.yaml`` has the younger key by then, its state still lacks it."""
    with run_without(key):
        folder = stopped_run(keys | {"epochs": 2, key: before} | more, monkeypatch, epoch=0)
    with monkeypatch.context() as patched:
        patched.setattr(trainer.CTRTrainer, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            resume(folder)
    text = (folder / "config.yaml").read_text()
    assert yaml.safe_load(text)[key] == before
    (folder / "config.yaml").write_text(text.replace(f"\n{key}: ", f"\n{key}: 3 #"))
    with pytest.raises(ValueError, match=f"edited .*: {key} was {before} and is now 3. Restore"):
        resume(folder)
    (folder / "config.yaml").write_text(text)
    assert resume(folder)["epochs"] == 2


@pytest.fixture
def run_without(monkeypatch):
    """``with run_without(key)``: runs are saved as by a version that had no such key."""

    @contextlib.contextmanager
    def patched(key):
        now = run_folder.config_as_yaml
        with monkeypatch.context() as context:
            context.setattr(
                run_folder,
                "config_as_yaml",
                lambda *args: re.sub(rf"(?m)^{key}: .*\n", "", now(*args)),
            )
            yield

    return patched


def test_a_run_goes_on_where_its_files_have_moved_and_clears_what_a_kill_has_left(
    keys, monkeypatch, tmp_path, capsys
):
    with monkeypatch.context() as patched:
        stop_after(0, patched)
        with pytest.raises(KeyboardInterrupt):
            run("DeepFM", "tiny", config_dict=keys)
    (folder,) = Path("saved").iterdir()
    (folder / ".training.safetensors-k1ll3d00").write_bytes(b"half")
    (folder / ".model.safetensors-k1ll3d00").write_bytes(b"half")
    Path(keys["data_path"]).rename(tmp_path / "moved")
    assert main([f"--resume={folder}"]) == 2 and "--data_path" in capsys.readouterr().err
    assert main([f"--resume={folder}", f"--data_path={tmp_path / 'moved'}"]) == 0
    assert (folder / "metrics.json").exists()
    assert [file.name for file in folder.iterdir() if file.name.startswith(".")] == [LOCK_FILE]
