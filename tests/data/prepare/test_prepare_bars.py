"""The published splits of BARS: their layout, hashes, settings and scores; and their download."""

import csv
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from bars_files import SETS, facts, publish, write_set
from hosts import SILENCE, Host, body, zip_of
from raw_files import prepare

from recbole_genci.config import Config, properties_folder
from recbole_genci.data.dataset import create_dataset
from recbole_genci.data.download import dataset, http
from recbole_genci.model.registry import known_models
from recbole_genci.utils.atomic_files import read_atomic_file, read_header


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Writes small files of a dataset as if they were published, and runs the command."""
    monkeypatch.chdir(tmp_path)

    def run(name, **words):
        publish(name, write_set(name, tmp_path / "in"), monkeypatch, tmp_path)
        return prepare(format="bars", name=name, **({"input": "in"} | words))

    return run


def rows(name, part):
    file = Path(f"dataset/{name}/{name}.{part}.inter")
    header = read_header(file)
    return read_atomic_file(file, list(header), header, numbers=False)


def refused(capsys):
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1, printed.err
    assert not Path("dataset").exists() or not list(Path("dataset").iterdir())
    return printed.err


@pytest.mark.parametrize("name", SETS)
def test_every_dataset_becomes_rows_with_its_settings(made, name, capsys):
    assert made(name) == 0
    key = name.lower()
    out = capsys.readouterr().out
    assert f"dataset/{key}: {name} of BARS" in out
    assert "their MD5s are those published" in out and f"--dataset={key} --recipe=tuned\n" in out
    config = Config(
        "DeepFM", key, config_dict={"gpu_id": "", "prepared_rows_dir": None, "recipe": "tuned"}
    )
    assert config["benchmark_filename"][0] == "train" and config["learning_rate"] <= 0.001
    assert config["embedding_size"] == {"f": 10, "m": 10, "k": 64, "a": 64, "t": 32}.get(
        key[0] if key != "avazu_x4" else "", 16
    )
    parts = create_dataset(config).build()
    counted = {part: len(lines) - 1 for part, lines in SETS[name]().items()}
    assert [len(part) for part in parts] == [
        counted[f"{part}.csv"] for part in config["benchmark_filename"]
    ]
    # Each column that BARS reads is read, and no other.
    published = facts()["datasets"][name]
    assert set(published["columns"]) <= set(parts[0].field2type)


@pytest.mark.parametrize("name", SETS)
def test_the_next_command_names_what_there_is(name, made, capsys):
    """``--recipe=tuned`` knows datasets by their published names only."""
    assert made(name, dataset="mine") == 0
    out, key = capsys.readouterr().out, name.lower()
    assert "recipe" not in out and "saved/*-mine-*/metrics.json" in out
    assert f"--dataset=mine --config_files={properties_folder()}/dataset/{key}.yaml\n" in out
    assert made(name) == 0
    models = capsys.readouterr().out.split("--model=")[1].split(" ")[0]
    for model in models.split(","):
        assert (properties_folder() / f"tuned/{key}/{model}.yaml").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_the_published_settings_of_each_model_are_taken(made, name):
    assert made(name) == 0
    files = list((properties_folder() / "tuned" / name.lower()).glob("*.yaml"))
    assert {"FM", "DeepFM", "DCNV2"} <= {file.stem for file in files}
    for file in files:
        tuned = yaml.safe_load(file.read_text())
        config = Config(file.stem, name.lower(), config_dict={"gpu_id": "", "recipe": "tuned"})
        assert {key: config[key] for key in tuned} == tuned


def test_the_published_scores_lie_beside_the_rows(made):
    assert made("KuaiVideo_x1") == 0
    with Path("dataset/kuaivideo_x1/kuaivideo_x1.bars.csv").open() as stream:
        scores = {line["published as"]: line for line in csv.DictReader(stream)}
    assert scores["DCN-V2"] == {
        "model": "DCNV2",
        "AUC": "0.746953",
        "LogLoss": "0.437494",
        "GAUC": "0.667472",
        "published as": "DCN-V2",
    }
    provenance = json.loads(Path("dataset/kuaivideo_x1/provenance.json").read_text())
    assert provenance["benchmark"] == "KuaiVideo_x1" and provenance["md5_checked"]


def test_the_names_of_models_are_ours():
    table = facts()
    ours = set(known_models())
    assert all(name in ours for name in table["models"].values() if name is not None)
    published = {name for entry in table["datasets"].values() for name in entry["scores"]}
    same = {name.lower(): name for name in ours}
    for name in published - set(table["models"]):
        assert name in ours or same.get(name.lower()) is None, f"{name} is ours with another name"


def test_numbers_of_criteo_become_buckets(made):
    assert made("Criteo_x4") == 0
    train = rows("criteo_x4", "train")
    assert train["I1"].eq("0").all() and train["I2"].eq("-1").all() and train["I4"].eq("2").all()
    assert train["I5"].eq(str(math.floor(math.log(3) ** 2))).all()
    expected = [0 if r == 0 else math.floor(math.log(r * 100) ** 2) for r in range(40)]
    assert train["I6"].astype(int).tolist() == expected
    assert train["C1"].isna().sum() == 2 and train["C2"].iloc[1] is np.nan


def test_the_hour_of_avazu_becomes_hour_and_weekday(made, tmp_path, capsys):
    assert made("Avazu_x4") == 0
    first = rows("avazu_x4", "train").iloc[4]  # 25 October 2014 was a Saturday
    assert first[["hour", "weekday", "weekend"]].tolist() == ["4", "6", "1"]
    assert "id" not in read_header(Path("dataset/avazu_x4/avazu_x4.train.inter"))
    file = tmp_path / "in/test.csv"
    file.write_text(file.read_text().replace(",14102", ",1413", 1))
    capsys.readouterr()
    assert prepare(format="bars", name="Avazu_x4", input="in", dataset="b", check=False) == 2
    assert (
        "in/test.csv: line 2 has '1413602' for hour:token, which is no hour as"
        in capsys.readouterr().err
    )


def test_amazon_s_reviews_get_a_place_in_time_and_items_their_category(made):
    assert made("AmazonElectronics_x1") == 0
    train = rows("amazonelectronics_x1", "train")
    assert train["timestamp"].tolist()[:4] == ["1", "1", "2", "2"]
    assert train["item_history"].tolist()[2] == "0 1"
    file = Path("dataset/amazonelectronics_x1/amazonelectronics_x1.item")
    items = read_atomic_file(file, ["item_id", "cate_id"], read_header(file))
    assert (
        len(items) == 17
        and (items["item_id"].astype(int) % 4).astype(str).eq(items["cate_id"]).all()
    )
    config = Config("DIN", "amazonelectronics_x1", config_dict={"gpu_id": ""})
    parts = create_dataset(config).build()
    batch = parts[2].view(config)[
        np.arange(2)
    ]  # a user's last review: all earlier ones but the first
    assert batch["item_length"].tolist() == [4, 4]
    tokens = parts[2].field2id_token["item_id"]
    user = int(parts[2].field2id_token["user_id"][int(batch["user_id"][0])])
    assert [int(tokens[i]) for i in batch["item_id_list"][0]] == [
        (user * 3 + number) % 17 for number in range(1, 5)
    ]


def test_item_vectors_for_semantic_ids(made, tmp_path, capsys, monkeypatch):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "in").mkdir()
    vectors = np.arange(36, dtype=np.float32).reshape(9, 4)
    with h5py.File(tmp_path / "in/item_visual_emb_dim64.h5", "w") as stored:
        stored["key"], stored["value"] = list(range(9)), vectors
    assert made("KuaiVideo_x1") == 0
    file = Path("dataset/kuaivideo_x1/kuaivideo_x1.item_vectors.npy")
    assert f"--text_encoder={file}" in capsys.readouterr().out
    assert (np.load(file) == vectors).all()
    assert file.with_suffix(".txt").read_text().split() == [str(i) for i in range(9)]


def test_item_vectors_without_h5py_are_left_out_and_named(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/item_visual_emb_dim64.h5").write_bytes(b"any")
    assert made("KuaiVideo_x1") == 0
    assert "item_visual_emb_dim64.h5 was left out: it needs h5py" in capsys.readouterr().out


def test_parquet_files_are_taken_without_hashes(made, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    for file in write_set("Frappe_x1", tmp_path / "in"):
        frame = pd.read_csv(tmp_path / "in" / file)
        (tmp_path / "parquet").mkdir(exist_ok=True)
        frame.to_parquet(tmp_path / "parquet" / file.replace(".csv", ".parquet"))
    assert made("Frappe_x1") == 0 and made("Frappe_x1", input="parquet", dataset="other") == 0
    assert "MD5s not checked" in capsys.readouterr().out
    for part in ("train", "valid", "test"):
        assert rows("other", part).equals(rows("frappe_x1", part))


# ---------------------------------------------------------------- what is refused


def test_a_file_that_is_not_the_published_one(made, tmp_path, capsys):
    assert made("Frappe_x1") == 0
    capsys.readouterr()
    file = tmp_path / "in/valid.csv"
    file.write_text(file.read_text().replace("1,0,9", "0,0,9", 1))
    words = {"format": "bars", "name": "Frappe_x1", "input": "in", "dataset": "mine"}
    assert prepare(**words) == 2
    error = capsys.readouterr().err
    assert "in/valid.csv is not the published valid.csv of Frappe_x1 (MD5 " in error
    assert "--check=False" in error and not Path("dataset/mine").exists()
    assert prepare(**words, check=False) == 0
    out = capsys.readouterr().out
    assert "MD5s not checked" in out and "--published" not in out
    assert "--config_files=" in out and "frappe_x1.yaml" in out  # another name than its protocol
    assert not Path("dataset/mine/mine.bars.csv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"name": "Frape_x1"}, "name: 'Frape_x1' is none of Frappe_x1, .*Did you mean 'Frappe_x1'"),
        ({"name": "Frappe_x1"}, "input: give --input=<folder> with train.csv, valid.csv, test.csv"),
        ({"name": "Frappe_x1", "input": "in", "download": True}, "input: give --input=<folder>"),
        ({"name": "Frappe_x1", "input": "no"}, "input: no does not exist or is not a folder"),
        ({"name": "Frappe_x1", "input": "in"}, "input: in holds no train.csv \\(or .parquet\\)"),
        ({"input": "in"}, "--name is missing. Example: .* --name=Frappe_x1 --input=Frappe_x1"),
    ],
)
def test_words_that_make_no_sense(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    assert prepare(format="bars", **words) == 2
    assert re.search(message, refused(capsys))


def test_another_dataset_s_files(made, tmp_path, capsys):
    write_set("MovielensLatest_x1", tmp_path / "other")
    assert made("Frappe_x1", input="other") == 2
    assert "other/train.csv has no column 'user', which the schema names for" in refused(capsys)


# ---------------------------------------------------------------- the download


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(dataset, "PAUSE", 0.0)
    monkeypatch.setattr(http, "CONNECT_TIMEOUT", SILENCE)
    monkeypatch.setattr(http, "READ_TIMEOUT", SILENCE)
    server = Host()
    yield server
    server.close()


def test_the_published_files_are_downloaded_and_checked(host, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    contents = write_set("Frappe_x1", tmp_path / "in")
    publish("Frappe_x1", contents, monkeypatch, tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", host.url)
    host.answer = body(zip_of({f"Frappe_x1/{name}": data for name, data in contents.items()}))
    assert prepare(format="bars", name="Frappe_x1", download=True) == 0
    assert host.asked == ["/datasets/reczoo/Frappe_x1/resolve/main/Frappe_x1.zip"]
    assert len(rows("frappe_x1", "train")) == 60
    provenance = json.loads(Path("dataset/frappe_x1/provenance.json").read_text())
    assert provenance["download"]["source"] == "Hugging Face" and provenance["md5_checked"]
    assert [path.name for path in Path("dataset").iterdir()] == ["frappe_x1"]


def test_a_host_with_other_files_is_followed_by_the_next(host, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    contents = write_set("Frappe_x1", tmp_path / "in")
    table = [
        {"name": "A", "url": f"{host.url}/a/{{name}}.zip"},
        {"name": "B", "url": f"{host.url}/b/{{name}}.zip"},
    ]
    publish("Frappe_x1", contents, monkeypatch, tmp_path, table)
    good, bad = zip_of(contents), zip_of(contents | {"test.csv": b"label\n1\n"})

    def answer(handler, stop):
        body(bad if handler.path.startswith("/a/") else good)(handler, stop)

    host.answer = answer
    assert prepare(format="bars", name="Frappe_x1", download=True, dataset="d") == 0
    assert host.asked == ["/a/Frappe_x1.zip"] * 2 + ["/b/Frappe_x1.zip"]
    capsys.readouterr()
    host.answer = body(zip_of({"train.csv": contents["train.csv"]}))
    assert prepare(format="bars", name="Frappe_x1", download=True, dataset="e") == 2
    error = capsys.readouterr().err
    assert "download: Frappe_x1 could not be downloaded: A (http" in error
    assert "a zip file without valid.csv" in error and error.count("\n") == 1
    assert [path.name for path in Path("dataset").iterdir()] == ["d"]
