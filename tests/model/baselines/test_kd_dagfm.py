"""KD_DAGFM: RecBole's model, phase by phase, and nothing of a configuration or a file is
executed."""

import json
import pickle
import re
from pathlib import Path

import pytest
import torch
from conftest import make_model, stop_after, tiny_rows, write_dataset
from recbole.model.context_aware_recommender.kd_dagfm import KD_DAGFM as RecBoleKD_DAGFM
from recbole.utils import init_seed
from safetensors.torch import load_file

from recbole_genci import load
from recbole_genci.cli import main
from recbole_genci.config import Config
from recbole_genci.plan import prepare
from recbole_genci.quick_start import resume, run

KEYS = {"embedding_size": 4, "t_cin": [3, 3], "epochs": 2, "stopping_step": 9}


@pytest.fixture
def keys(tmp_path):
    made = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=30)) | KEYS
    return {
        key: value for key, value in made.items() if key != "mlp_hidden_size"
    }  # which it does not have


@pytest.mark.parametrize("teacher", ["CrossNet", "CIN"])
def test_a_teacher_by_name_is_recboles(teacher, tiny_parts):
    parts, keys = tiny_parts
    model, views = make_model("KD_DAGFM", parts, keys | KEYS | {"teacher": teacher})
    config = Config(
        "KD_DAGFM",
        "tiny",
        config_dict=keys | KEYS | {"teacher": teacher},
        compared_models=["GenCI"],
    )
    init_seed(0, True)
    original = RecBoleKD_DAGFM(config, views[0])
    ours, theirs = model.state_dict(), original.state_dict()
    assert list(ours) == list(theirs) and all(
        torch.equal(ours[name], theirs[name]) for name in ours
    )


def test_three_phases_start_from_each_other_and_are_saved_whole(keys, tmp_path, monkeypatch):
    (taught,) = run("KD_DAGFM", "tiny", config_dict=keys)
    (distilled,) = run(
        "KD_DAGFM",
        "tiny",
        config_dict=keys | {"phase": "distillation", "warm_up": taught["folder"]},
    )
    one, other = (
        load_file(Path(each["folder"]) / "model.safetensors") for each in (taught, distilled)
    )
    same = {name for name in one if torch.equal(one[name], other[name])}
    assert same == {name for name in one if not name.startswith("student_network")} and same
    file = str(Path(distilled["folder"]) / "model.safetensors")
    (tuned,) = run("KD_DAGFM", "tiny", config_dict=keys | {"phase": "finetuning", "warm_up": file})
    assert tuned["test"] != distilled["test"]
    Path(taught["folder"]).rename(tmp_path / "gone")  # a saved run needs no other
    assert load(distilled["folder"]).evaluate() == distilled["test"]


def test_a_phase_that_was_stopped_goes_on_from_its_own_state(keys, monkeypatch):
    (taught,) = run("KD_DAGFM", "tiny", config_dict=keys)
    keys |= {"phase": "distillation", "warm_up": taught["folder"]}
    (whole,) = run("KD_DAGFM", "tiny", config_dict=keys)
    with monkeypatch.context() as patched:
        stop_after(0, patched)
        with pytest.raises(KeyboardInterrupt):
            run("KD_DAGFM", "tiny", config_dict=keys)
    (folder,) = (path.parent for path in Path("saved").glob("*/training.safetensors"))
    assert resume(folder)["test"] == whole["test"]


class Marker:
    """Unpickled, it leaves a file."""

    def __reduce__(self):
        return Path.touch, (Path("marker"),)


def test_neither_a_teacher_nor_a_warm_up_is_executed(keys, tmp_path):
    code = "__import__('pathlib').Path('marker').touch() or CrossNet"
    with pytest.raises(ValueError, match=r"teacher: \"__import__.* is not one of CrossNet, CIN"):
        prepare("KD_DAGFM", "tiny", config_dict=keys | {"teacher": code})
    (finished,) = run("KD_DAGFM", "tiny", config_dict=keys)
    file = Path(finished["folder"]) / "config.yaml"  # a stranger's
    file.write_text(file.read_text().replace("teacher: CrossNet", f"teacher: {json.dumps(code)}"))
    with pytest.raises(ValueError, match="edited or damaged .* teacher was 'CrossNet'"):
        load(finished["folder"])
    (tmp_path / "teacher.pth").write_bytes(pickle.dumps({"state_dict": Marker()}))
    asked = keys | {"phase": "distillation", "warm_up": str(tmp_path / "teacher.pth")}
    with pytest.raises(
        ValueError,
        match="warm_up: .*teacher.pth is not a model.safetensors. RecBole's own check.* pickles",
    ):
        prepare("KD_DAGFM", "tiny", config_dict=asked)
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps({"state_dict": Marker()}))
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        prepare("KD_DAGFM", "tiny", config_dict=asked | {"warm_up": str(tmp_path)})
    assert not Path("marker").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"phase": "training"},
            "phase: 'training' is not one of teacher_training, distillation, finetuning.",
        ),
        ({"type": "both"}, "type: 'both' is not one of inner, outer"),
        ({"teacher": "DAGFM"}, "teacher: 'DAGFM' is not one of CrossNet, CIN"),
        (
            {"phase": "finetuning"},
            "warm_up: phase finetuning starts from a run of phase distillation; give that run's",
        ),
        ({"phase": "distillation", "warm_up": "nowhere"}, "warm_up: nowhere does not exist"),
    ],
)
def test_what_fits_no_phase_is_refused(more, said, capsys):
    words = [f"--{key}={value}" for key, value in more.items()]
    assert main(["--model=KD_DAGFM", "--dataset=ml-100k", *words]) == 2
    assert re.search(re.escape(said), capsys.readouterr().err)
