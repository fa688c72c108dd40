"""A finished run's folder, moved anywhere, gives back its model and its metrics without the raw
data.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import SMALL_GENCI, tiny_rows, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

import recbole_genci
from recbole_genci import Ranker, load
from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.data.fingerprint import data_fingerprint
from recbole_genci.data.storage import load_parts, store_parts
from recbole_genci.quick_start import run
from recbole_genci.report import main as report
from recbole_genci.utils.digests import sealed, without_seal


def test_what_many_processes_trained_is_served_by_one(keys):
    (result,) = run("DeepFM", "tiny", config_dict=keys)
    file = Path(result["folder"]) / "config.yaml"
    there = {"nproc": 4, "world_size": 8, "port": 5678, "offset": 4}
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | there))
    loaded = load(result["folder"])
    assert (loaded.config["nproc"], loaded.config["world_size"], loaded.config["offset"]) == (
        1,
        -1,
        0,
    )
    assert loaded.evaluate() == result["test"]


@pytest.fixture
def keys(tmp_path):
    return write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40)) | {
        "epochs": 2,
        "train_batch_size": 64,
    }


def test_a_moved_folder_scores_to_the_same_metrics_without_the_raw_files(keys, tmp_path):
    runs = run("DeepFM,DIN,DIEN,FwFM,GenCI", "tiny", config_dict=keys | SMALL_GENCI)
    shutil.rmtree(tmp_path / "data")
    for result in runs:
        folder = shutil.move(result["folder"], tmp_path / f"elsewhere-{result['model']}")
        loaded = load(folder)
        assert loaded.evaluate() == result["test"]
        assert loaded.evaluate("valid") == result["best_valid"]
        scores, labels = loaded.predict("train")
        assert len(scores) == len(loaded.parts[0]) and torch.equal(
            labels, loaded.parts[0].inter_feat["label"]
        )
        assert loaded.metrics == result and loaded.model.training is False
        scores, labels = loaded.predict()
        assert roc_auc_score(labels, scores.double()) == pytest.approx(
            result["test"]["auc"], abs=1e-6
        )


def test_loading_unpickles_nothing_and_reads_no_raw_file(keys, tmp_path):
    folder = run("GenCI", "tiny", config_dict=keys | SMALL_GENCI)[0]["folder"]
    shutil.rmtree(tmp_path / "data")
    code = (
        "import pickle, sys\n"
        "def refuse(*a, **k): raise AssertionError('pickle')\n"
        "import recbole_genci.serving.saved_run, pandas\n"
        "pickle.load = pickle.loads = pickle.Unpickler = pandas.read_csv = refuse\n"
        "print(recbole_genci.serving.saved_run.load(sys.argv[1]).evaluate()['auc'])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(recbole_genci.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, folder],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert (
        float(done.stdout) == json.loads((Path(folder) / "metrics.json").read_text())["test"]["auc"]
    )


def test_the_models_of_one_comparison_share_their_data_on_the_disk(keys):
    one, other = (
        Path(r["folder"]) / "data.safetensors"
        for r in run(
            "LR,DeepFM",
            "tiny",
            config_dict={k: v for k, v in keys.items() if k != "latency_repeats"},
        )
    )
    assert one.samefile(other)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (
            lambda f: (f / "data.safetensors").unlink(),
            FileNotFoundError,
            "has no data.safetensors. Take it from a copy of the folder, or train the run anew.",
        ),
        (
            lambda f: (f / "metrics.json").unlink(),
            FileNotFoundError,
            "has no metrics.json although the run had finished",
        ),
        (lambda f: (f / "config.yaml").unlink(), FileNotFoundError, "is not the folder of a run"),
        (
            lambda f: (f / "model.safetensors").unlink(),
            FileNotFoundError,
            "has no model.safetensors. Take it from a copy of the folder, or train the run anew.",
        ),
        (lambda f: truncate(f / "model.safetensors"), ValueError, "model.safetensors is damaged"),
        (
            lambda f: flip_a_byte(f / "model.safetensors"),
            ValueError,
            "model.safetensors is damaged or of another run",
        ),
        (
            lambda f: flip_a_byte(f / "model.safetensors") or forget_digests(f / "metrics.json"),
            ValueError,
            "metrics.json is damaged: it has no 'config'",
        ),
        (
            lambda f: flip_a_byte(f / "data.safetensors"),
            ValueError,
            "data.safetensors is damaged or of another run",
        ),
        (
            lambda f: edit(f / "config.yaml", "embedding_size: 16", "embedding_size: 8"),
            ValueError,
            "config.yaml was edited or damaged after the run began: embedding_size was 16 and is "
            "now 8. Restore it",
        ),
        (lambda f: truncate(f / "data.safetensors"), ValueError, "data.safetensors is damaged"),
        (lambda f: truncate(f / "metrics.json"), ValueError, "metrics.json is damaged"),
        (
            lambda f: (f / "config.yaml").write_text(""),
            ValueError,
            "config.yaml is damaged: it has no 'model'",
        ),
        (
            lambda f: (f / "data.safetensors").write_bytes(b""),
            ValueError,
            "data.safetensors is damaged",
        ),
    ],
)
def test_damaged_and_missing_files_are_named(keys, damage, error, message):
    folder = Path(run("DeepFM", "tiny", config_dict=keys)[0]["folder"])
    damage(folder)
    with pytest.raises(error, match=message):
        load(folder)


def test_a_model_that_computes_something_else_by_now_is_refused(keys, monkeypatch):
    folder = Path(run("xDeepFM", "tiny", config_dict=keys)[0]["folder"])
    assert load(folder).evaluate()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["model_revision"] == 2
    earlier = sealed(metrics | {"model_revision": 1})
    (folder / "metrics.json").write_text(json.dumps(earlier))
    with pytest.raises(
        ValueError,
        match="holds revision 1 of xDeepFM, but this version has revision 2.*git revision",
    ):
        load(folder)


def test_an_edited_configuration_is_refused_by_its_keys(keys):
    more = SMALL_GENCI | {"intent_scale": 0.1}
    folder = Path(run("GenCI", "tiny", config_dict=keys | more)[0]["folder"])
    asked = (folder / "config.yaml").read_text()
    for before, after, message in (
        ("intent_scale: 0.1", "intent_scale: 0.9", "intent_scale was 0.1 and is now 0.9"),
        ("intent_scale: 0.1\n", "", "intent_scale was 0.1 and is now not there"),
        ("seed: 2020", "seed: 2021\nmlp_activation: tanh", "seed was 2020 and is now 2021"),
    ):
        (folder / "config.yaml").write_text(asked.replace(f"\n{before}", f"\n{after}"))
        for attempt in (load, Ranker):
            with pytest.raises(ValueError, match=f"config.yaml was edited .*{message}"):
                attempt(folder)
    (folder / "config.yaml").write_text(f"# moved\n{asked.replace('gpu_id: ', 'gpu_id:  ')}")
    assert load(folder).evaluate()
    kept = next(line for line in asked.splitlines() if line.startswith("prepared_rows_dir:"))
    (folder / "config.yaml").write_text(asked.replace(kept, "prepared_rows_dir: elsewhere"))
    assert load(folder).evaluate()


def test_figures_that_were_edited_are_refused(keys, capsys):
    folder = Path(run("DeepFM", "tiny", config_dict=keys)[0]["folder"])
    text = (folder / "metrics.json").read_text()
    auc = str(json.loads(text)["test"]["auc"])
    (folder / "metrics.json").write_text(text.replace(auc, "0.99"))
    with pytest.raises(ValueError, match="metrics.json is damaged or was edited"):
        load(folder)
    assert report([str(folder)]) == 2 and "metrics.json is damaged or" in capsys.readouterr().err
    (folder / "metrics.json").write_text(text.replace("content_sha256", "content_sha257"))
    assert report([str(folder)]) == 2
    (folder / "metrics.json").write_text(text)
    assert report([str(folder)]) == 0 and load(folder).evaluate()


@pytest.mark.parametrize("content", ["null", "5", "[]", '"data_fingerprint"', "[" * 9999])
def test_metrics_that_are_no_mapping_are_one_sentence(keys, content):
    folder = Path(run("DeepFM", "tiny", config_dict=keys)[0]["folder"])
    (folder / "metrics.json").write_text(content)
    with pytest.raises(ValueError, match=r"metrics.json is damaged.* or train the run anew\."):
        load(folder)


def test_figures_without_their_digest_are_refused(keys):
    folder = Path(run("DeepFM", "tiny", config_dict=keys)[0]["folder"])
    file = folder / "metrics.json"
    file.write_text(json.dumps(without_seal(json.loads(file.read_text()))))
    with pytest.raises(ValueError, match="metrics.json has no digest of its own"):
        load(folder)


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def forget_digests(file):
    """As if nobody had ever computed them."""
    metrics = json.loads(file.read_text())
    for name in ("weights_sha256", "rows_fingerprint", "data_sha256", "config", "content_sha256"):
        assert metrics.pop(name)
    file.write_text(json.dumps(metrics))


def edit(file, before, after):
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, after))


def truncate(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def test_data_and_weights_of_another_run_are_refused(keys, tmp_path):
    one = Path(run("GenCI", "tiny", config_dict=keys | SMALL_GENCI)[0]["folder"])
    other_data = write_dataset(tmp_path / "other", tiny_rows(seed=7)) | {"epochs": 2}
    other = Path(
        run("GenCI", "tiny", config_dict=other_data | SMALL_GENCI | {"codebook_size": 3})[0][
            "folder"
        ]
    )
    for name, message in (
        ("data.safetensors", "is damaged or of another run"),
        ("semantic_ids", "belongs to another run"),
    ):
        kept = one / f"kept-{name}"
        (one / name).rename(kept)
        (shutil.copytree if (other / name).is_dir() else shutil.copy)(other / name, one / name)
        with pytest.raises(ValueError, match=message):
            load(one)
        shutil.rmtree(one / name) if (one / name).is_dir() else (one / name).unlink()
        kept.rename(one / name)
    assert load(one).evaluate()


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10_000),
    users=st.integers(2, 9),
    per_user=st.integers(4, 30),
    protocol=st.sampled_from([("TO", "past"), ("TO", "training"), ("RO", "training")]),
    labels=st.sampled_from(["positive", "all"]),
)
def test_rows_features_and_histories_survive_storing(
    tmp_path_factory, seed, users, per_user, protocol, labels
):
    order, source = protocol
    folder = tmp_path_factory.mktemp("stored")
    keys = write_dataset(
        folder, tiny_rows(num_users=users, rows_per_user=per_user, seed=seed), num_users=users
    )
    eval_args = {
        "split": {"RS": [0.8, 0.1, 0.1]},
        "order": order,
        "group_by": "user",
        "mode": "labeled",
    }
    config = Config(
        "DIEN",
        "tiny",
        config_dict=keys
        | {"history_source": source, "history_labels": labels, "eval_args": eval_args},
    )
    parts = create_dataset(config).build()
    store_parts(parts, folder / "data.safetensors")
    again = load_parts(folder / "data.safetensors", config)
    assert data_fingerprint(again) == data_fingerprint(parts)
    for part, stored in zip(parts, again):
        assert len(part) == len(stored) and part.history_source == stored.history_source
        if len(part) == 0:
            continue
        one, other = (p.view(config)[np.arange(len(p))] for p in (part, stored))
        assert list(one.interaction) == list(other.interaction)
        assert all(
            torch.equal(one[c], other[c]) and one[c].dtype == other[c].dtype
            for c in one.interaction
        )
        assert stored.user_num == part.user_num and list(stored.field2type) == list(part.field2type)
