"""Weights & Biases: one run for each model, seed and trial, open from its first epoch to its test
metrics."""

import json
import shlex
import struct
import sys
from pathlib import Path

import pytest
import yaml
from conftest import SMALL_GENCI, stop_after, tiny_rows, write_dataset

from recbole_genci import plan
from recbole_genci.cli import main
from recbole_genci.quick_start import resume, run
from recbole_genci.tuning.search import tune

#: A stand-in that behaves as wandb does: one open run, which init returns and finish closes. It
#: notes every call in a file.
STAND_IN = """
import json, os
run = None
class Error(Exception): pass
def _note(**what):
    with open(os.environ["WANDB_CALLS"], "a") as file: file.write(json.dumps(what) + "\\n")
class _Summary(dict):
    def __setitem__(self, key, value):
        _note(call="summary", run=run.name, key=key, value=float(value))
class _Run:
    def __init__(self, name): self.name, self.summary = name, _Summary()
def init(project=None, name=None, id=None, dir=None, config=None, tags=(), resume=None):
    global run
    if os.environ.get("WANDB_REFUSES"): raise Error("No API key configured.")
    assert run is None and isinstance(config, dict) and os.path.isdir(dir)
    run = _Run(name)
    _note(call="init", run=name, project=project, id=id, resume=resume, seed=config["seed"],
          model=config["model"], tags=tags)
    return run
def define_metric(*words, **more): pass
def log(metrics, commit=True):
    _note(call="log", run=run.name, figures=metrics, step=metrics.get("train_step"),
          valid_step=metrics.get("valid_step"))
def finish(exit_code=0):
    global run
    _note(call="finish", run=run.name, exit_code=exit_code)
    run = None
"""


@pytest.fixture
def keys(tmp_path):
    data = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=30))
    return data | {"epochs": 2, "log_wandb": True, "wandb_project": "mine"}


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """The calls of the stand-in so far."""
    (tmp_path / "lib/wandb").mkdir(parents=True)
    (tmp_path / "lib/wandb/__init__.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"), prepend=":")
    monkeypatch.setenv("WANDB_CALLS", str(tmp_path / "calls"))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    yield lambda: [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    sys.modules.pop("wandb", None)


def sequence(calls, name) -> str:
    """``init log log ... summary finish`` of one run."""
    return " ".join(dict.fromkeys(call["call"] for call in calls if call["run"] == name))


def test_each_model_and_seed_has_a_run_named_after_its_folder(keys, calls):
    runs = run("DIN,DeepFM", "tiny", config_dict=keys | {"seeds": 2})
    names = [Path(each["folder"]).name for each in runs]
    inits = [call for call in calls() if call["call"] == "init"]
    assert [(call["run"], call["model"], call["seed"], call["project"]) for call in inits] == [
        (name, each["model"], each["seed"], "mine") for name, each in zip(names, runs, strict=True)
    ]
    assert len({call["id"] for call in inits}) == 4
    assert inits[1]["tags"] == ["DeepFM", "tiny", "seed 2020"]
    for name, each in zip(names, runs, strict=True):
        own = [call for call in calls() if call["run"] == name]
        assert sequence(calls(), name) == "init log summary finish" and own[-1]["exit_code"] == 0
        assert [call["step"] for call in own if call.get("step") is not None] == [0, 1]
        shown = {call["key"]: call["value"] for call in own if call["call"] == "summary"}
        assert shown == {
            f"eval/{metric}": value for metric, value in each["test"].items()
        }  # no validation's


def test_each_trial_has_a_run_and_the_selected_one_is_tested_in_its_own(keys, calls, tmp_path):
    (tmp_path / "space").write_text("learning_rate choice [0.01, 0.001]\n")
    result = tune("DeepFM", "tiny", tmp_path / "space", config_dict=keys)
    opened = [(call["run"], call["id"]) for call in calls() if call["call"] == "init"]
    tested = {call["run"] for call in calls() if call["call"] == "summary"}
    assert (
        len(set(opened)) == 2
        and len(opened) == 3
        and tested == {Path(result["selected"]["folder"]).name}
    )
    assert [call["call"] for call in calls()].count("finish") == 3


def test_a_run_that_fails_or_is_stopped_is_finished_and_goes_on_in_its_own(
    keys, calls, monkeypatch
):
    for error, code in ((RuntimeError, 1), (KeyboardInterrupt, 130)):
        with monkeypatch.context() as patched:
            stop_after(0, patched, error)
            with pytest.raises(error, match="stop"):
                run("DeepFM", "tiny", config_dict=keys)
        assert calls()[-1]["call"] == "finish" and calls()[-1]["exit_code"] == code
    first = [call for call in calls() if call["call"] == "init"][-1]
    resume(Path("saved") / first["run"])
    again = [call for call in calls() if call["call"] == "init"][-1]
    assert (again["run"], again["id"], again["resume"]) == (first["run"], first["id"], "allow")
    own = [call for call in calls() if call["run"] == first["run"]]
    assert [call["step"] for call in own if call.get("step") is not None] == [0, 1]
    assert [call["valid_step"] for call in own if call.get("valid_step") is not None] == [0, 1]


def test_a_teacher_is_no_run_and_of_several_processes_the_first_logs(keys, calls):
    run("GenCI", "tiny", config_dict=keys | SMALL_GENCI | {"sr_base": "pretrained", "epochs": 1})
    assert [call["call"] for call in calls()].count("init") == 1
    assert [call["step"] for call in calls() if call.get("step") is not None] == [0]
    run("DeepFM", "tiny", config_dict=keys | {"nproc": 2, "epochs": 1})
    assert [call["call"] for call in calls()].count("init") == 2 and calls()[-1]["call"] == "finish"
    assert [call["step"] for call in calls() if call.get("step") is not None] == [0, 0]


@pytest.fixture
def words(keys, tmp_path):
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump(keys))
    return shlex.split(f"--model=DeepFM --dataset=tiny --config_files={tmp_path / 'keys.yaml'}")


def test_a_missing_package_is_refused_before_anything_is_read(words, tmp_path, monkeypatch, capsys):
    (
        tmp_path / "wandb"
    ).mkdir()  # which W&B leaves in the current folder; Python would take it for a package
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "wandb")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        sys, "path", [path for path in sys.path if not (Path(path) / "wandb/__init__.py").exists()]
    )
    monkeypatch.setattr(plan, "prepare_parts", None)
    for command in (words, ["--experiment=compare", "--models=DeepFM", *words[1:]]):
        assert main(command) == 2
        assert capsys.readouterr().err == (
            "recbole_genci: log_wandb: it needs the package wandb, which is not installed: pip "
            "install wandb. Or leave log_wandb out.\n"
        )


def test_a_run_of_the_host_program_is_not_taken_over(keys, calls, tmp_path):
    import wandb

    wandb.init(name="the host's", dir=str(tmp_path), config={"seed": 1, "model": None})
    with pytest.raises(ValueError, match="log_wandb: this program has a W&B run open already"):
        run("DeepFM", "tiny", config_dict=keys)
    assert wandb.run.name == "the host's"


def test_a_run_that_wandb_does_not_open_is_one_sentence(words, calls, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_REFUSES", "1")
    assert main(words) == 1
    assert (
        "log_wandb: W&B opened no run (No API key configured.). Log in by `wandb login`"
        in capsys.readouterr().err
    )


def records_of(file):
    """The records of an offline run: a log of LevelDB's format, of protocol buffers."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts = file.read_bytes(), 7, []
    while place + 7 <= len(content):
        left = 2**15 - place % 2**15
        if left < 7:  # the end of a block is empty
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(b"".join(parts))
            parts = []


def test_wandb_itself_keeps_the_figures_of_an_offline_run(keys, monkeypatch):
    pytest.importorskip("wandb", reason="needs pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    words = {"log_wandb": False, "track": "wandb"}
    (result,) = run("DeepFM", "tiny", config_dict=keys | words)
    number = (Path(result["folder"]) / "wandb_id.txt").read_text().strip()
    (file,) = Path(result["folder"]).glob(f"wandb/offline-run-*/run-{number}.wandb")
    records = list(records_of(file))
    (opened,) = (record.run for record in records if record.HasField("run"))
    assert opened.display_name == Path(result["folder"]).name and opened.project == "mine"
    assert list(opened.tags) == ["DeepFM", "tiny", "seed 2020"]
    history = [
        {item.nested_key[0] if item.nested_key else item.key: item.value_json for item in each}
        for each in (record.history.item for record in records if record.HasField("history"))
    ]
    epochs = [json.loads(line["train_step"]) for line in history if "train/train_loss" in line]
    valid = [json.loads(line["valid/auc"]) for line in history if "valid/auc" in line]
    assert epochs == [0, 1] and max(valid) == pytest.approx(result["best_valid"]["auc"])
    shown = {
        item.key or item.nested_key[0]: json.loads(item.value_json)
        for record in records
        if record.HasField("summary")
        for item in record.summary.update
    }
    assert shown["eval/auc"] == pytest.approx(result["test"]["auc"])
    (end,) = (record.exit for record in records if record.HasField("exit"))
    assert end.exit_code == 0
