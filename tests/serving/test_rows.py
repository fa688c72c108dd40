"""Rows of files: each with its own history, context and label, scored as the run scores them."""

import json
import re
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL_GENCI, tiny_rows, with_context, write_dataset
from sklearn.metrics import roc_auc_score

from recbole_genci import Ranker, load
from recbole_genci.data.prepare.schema import Column
from recbole_genci.data.prepare.table_files import cells_of, open_tables
from recbole_genci.data.times import OtherUnits
from recbole_genci.predict import main
from recbole_genci.quick_start import run
from recbole_genci.serving.features import FeatureReader
from recbole_genci.serving.given_cells import as_names, entries_of, numbers_of
from recbole_genci.serving.prediction import predict_file
from recbole_genci.serving.requests import RequestReader
from recbole_genci.serving.row_files import place_of_row, read_table
from recbole_genci.serving.seen_in_training import TrainingRows

MODELS = "DeepFM,DIN,GenCI"
SMALL = SMALL_GENCI | {"epochs": 1}
CAUSAL = {"history_attention": "causal", "segment_clicks": 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    keys = with_context(
        folder / "data", write_dataset(folder / "data", tiny_rows(rows_per_user=40))
    )
    keys |= {"checkpoint_dir": str(folder / "saved"), "results_dir": str(folder / "results")}
    folders = {r.model: r.folder for r in run(MODELS, "tiny", config_dict=keys | SMALL)}
    folders["causal"] = run("GenCI", "tiny", config_dict=keys | SMALL | CAUSAL)[0].folder
    rows = pd.read_csv(folder / "data/tiny/tiny.inter", sep="\t", dtype=str, keep_default_na=False)
    rows.columns = [name.partition(":")[0] for name in rows]
    return folders, rows, folder


def of_part(saved, rows, part):
    """The lines of the file that a part has, in its order."""
    return rows.iloc[saved.parts[part].inter_feat[":row_number"].numpy()].reset_index(drop=True)


@pytest.mark.parametrize("name", [*MODELS.split(","), "causal"])
def test_a_row_of_the_file_has_the_score_of_the_run(made, name):
    folders, rows, _ = made
    saved = load(folders[name])
    for number, part in enumerate(("train", "valid", "test")):
        expected, labels = saved.predict(part)
        own = of_part(saved, rows, number)
        np.testing.assert_array_equal(own["label"].astype(int), labels)
        found = Ranker(saved).score_rows(own)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        table = saved.predictions(part)
        assert list(table) == ["user", "item", "time", "label", "score"]
        assert table["user"].tolist() == own["user_id"].tolist()
        assert table["item"].tolist() == own["item_id"].tolist()
        np.testing.assert_array_equal(table["time"], own["timestamp"].astype(float))
        np.testing.assert_array_equal(table["score"], expected)
        np.testing.assert_array_equal(table["label"], labels)


def test_a_history_of_its_own_counts_instead_of_the_clicks(made, caplog):
    folders, rows, _ = made
    ranker = Ranker(folders["GenCI"])
    own = of_part(ranker.run, rows, 2)[:20]
    history, length, _ = ranker.run.parts[2].history.gather(
        *(ranker.run.parts[2].inter_feat[f":history_{end}"][:20] for end in ("start", "end")), 5
    )
    names = ranker.run.parts[0].field2id_token["item_id"]
    cells = [[str(names[i]) for i in row[:n]] for row, n in zip(history.tolist(), length.tolist())]
    expected = ranker.score_rows(own)
    late = own.assign(timestamp="9e9", item_id_list=cells)
    np.testing.assert_allclose(ranker.score_rows(late), expected, atol=1e-6)
    texts = own.assign(item_id_list=[" ".join(["i1", *cell]) for cell in cells])  # five are read
    longer = own.assign(item_id_list=[["i1", *cell] for cell in cells])
    np.testing.assert_array_equal(ranker.score_rows(texts), ranker.score_rows(longer))
    # Without times all clicks count.
    found = ranker.score_rows(own.drop(columns="timestamp"))
    for row in range(0, 20, 5):
        one = own.iloc[row]
        clicks = ranker.run.parts[0].history
        user = ranker.run.parts[0].field2token_id["user_id"][one["user_id"]]
        start, end = clicks.pointers(np.array([user]), np.array([clicks.num_ranks]), 5)
        mine = [str(names[item]) for item in clicks.items[start[0] : end[0]].tolist()]
        alone = pd.DataFrame([one]).assign(item_id_list=[mine])
        np.testing.assert_allclose(ranker.score_rows(alone)[0], found[row], atol=1e-6)
    caplog.clear()
    strange = own.assign(item_id_list=[["i77", *cell] for cell in cells])
    np.testing.assert_allclose(ranker.score_rows(strange), expected, atol=1e-6)
    assert "20 clicks of 'item_id_list' are about items that the run does not know" in caplog.text
    with pytest.raises(ValueError, match="'item_id_list' is 7, which is neither a list nor a text"):
        ranker.score_rows(own.assign(item_id_list=7))


def test_times_of_the_run_are_exact_however_close(made, monkeypatch):
    folders, _, _ = made
    reader = Ranker(folders["DIN"]).row_reader()
    times = 1_700_000_000.1 + np.arange(5) * 5e-7  # two of float64's steps apart
    monkeypatch.setattr(reader._whole, "rank_times", times)
    assert reader._ranks(times).tolist() == [0, 1, 2, 3, 4]
    # A time with another last bit is that of the run.
    monkeypatch.setattr(reader._whole, "rank_times", times[::4])
    assert reader._ranks(np.nextafter(times[::4], np.inf)).tolist() == [0, 1]


def test_rows_of_new_users_are_those_of_the_ranker(made, caplog):
    folders, rows, _ = made
    for name in MODELS.split(","):
        ranker = Ranker(folders[name])
        own = of_part(ranker.run, rows, 2)[:12]
        own = own.assign(
            user_id=["new", "u1"] * 6,
            item_id_list=[["i1", "i2"]] * 12,
            price="",
            tags="",
            device="",
        )
        features = pd.DataFrame({"user_id": ["new", "x"], "age": ["21", "22"]})
        found = ranker.score_rows(own, user_features=features)
        assert "6 rows are about users that the run does not know" in caplog.text
        price = float(ranker.run.parts[0].inter_feat["price"][:, 0].mean())
        scaled = pd.concat([part_of(part) for part in ranker.run.parts])["price"].mean()
        assert abs(price - scaled) < 0.2
        for row in (0, 1, 2, 11):
            user = own["user_id"][row]
            expected = ranker.score(
                [user],
                [own["item_id"][row]],
                histories={user: ["i1", "i2"]},
                context={"device": None, "tags": [], "price": float(scaled)},
                user_features={user: {"age": "21"}} if user == "new" else None,
            )
            np.testing.assert_allclose(found[row], expected.item(), atol=1e-6)


def part_of(part):
    return pd.DataFrame({"price": part.inter_feat["price"][:, 0].double().numpy()})


def test_unknown_values_are_counted_and_count_as_missing(made, caplog):
    folders, rows, _ = made
    ranker = Ranker(folders["DeepFM"])
    own = of_part(ranker.run, rows, 2)[:9]
    strange = own.assign(device="fridge", tags=["a zz"] * 9)
    missing = own.assign(device="", tags=["a"] * 9)
    np.testing.assert_array_equal(ranker.score_rows(strange), ranker.score_rows(missing))
    assert "9 values of 'device' are unknown to this run, the first is 'fridge'" in caplog.text
    assert "9 values of 'tags' are unknown to this run, the first is 'zz'" in caplog.text
    numbers = own.assign(price=own["price"].replace("", "nan").astype(float))
    np.testing.assert_array_equal(ranker.score_rows(numbers), ranker.score_rows(own))


def test_entries_beyond_those_of_training_are_told_once_unless_seq_len_cuts_them(
    made, caplog, monkeypatch
):
    reader = FeatureReader(load(made[0]["DeepFM"]).parts)
    said = "2 sequences of 'tags' are longer than all of this run: only the first 2 entries are"
    assert reader.column("tags", ["a b c", ["a"], "b a a"]).lengths.tolist() == [2, 1, 2]
    reader.warn_of_unknown()
    assert said in caplog.text
    caplog.clear()
    context = {"device": "tv", "price": 0.5, "tags": ["a", "b", "c"]}
    RequestReader(reader).read(["u1"], context=context)
    assert "1 sequence of 'tags' is longer than" in caplog.text
    caplog.clear()
    monkeypatch.setitem(reader.config.final_config_dict, "seq_len", {"tags": 2})
    RequestReader(reader).read(["u1"], context=context | {"tags": ["a", "b", "zz"]})
    assert reader.column("tags", ["a b zz", "zz a b"]).lengths.tolist() == [2, 1]
    reader.warn_of_unknown()
    (record,) = caplog.records
    assert "1 value of 'tags' is unknown to this run" in record.getMessage()


def command(folders, name, folder, file, output, *more):
    return main([f"--run={folders[name]}", f"--input={file}", f"--output={folder / output}", *more])


@pytest.mark.parametrize("kind", ["inter", "csv", "parquet"])
def test_a_file_is_scored_in_chunks_as_at_once(made, tmp_path, capsys, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    folders, rows, _ = made
    saved = load(folders["GenCI"])
    own, expected = of_part(saved, rows, 2), saved.predictions("test")
    file = tmp_path / f"rows.{kind}"
    if kind == "inter":
        head = {"timestamp": "float", "label": "float", "price": "float", "tags": "token_seq"}
        own.rename(columns={n: f"{n}:{head.get(n, 'token')}" for n in own}).to_csv(
            file, sep="\t", index=False
        )
    elif kind == "csv":
        own.to_csv(file, index=False)
    else:
        own.assign(
            timestamp=own["timestamp"].astype(int),
            label=own["label"].astype(int),
            tags=[tags.split() for tags in own["tags"]],
            price=pd.to_numeric(own["price"]),
        ).to_parquet(file)
    ending = "parquet" if kind == "parquet" else "csv"
    assert command(folders, "GenCI", tmp_path, file, f"once.{ending}") == 0
    assert command(folders, "GenCI", tmp_path, file, f"parts.{ending}", "--batch_rows=7") == 0
    read = pd.read_parquet if kind == "parquet" else pd.read_csv
    once, parts = (read(tmp_path / f"{name}.{ending}") for name in ("once", "parts"))
    assert list(once) == ["user", "item", "time", "label", "score"]
    for table in (once, parts):
        for column in ("user", "item", "label", "time"):
            assert table[column].tolist() == expected[column].tolist(), column
        np.testing.assert_allclose(table["score"], expected["score"], atol=1e-6)
    printed = capsys.readouterr().out.splitlines()[-1]
    assert printed.startswith(f"{len(own)} scores in ")
    metrics = json.loads(printed.partition(": ")[2])
    assert metrics == saved.evaluate("test")
    assert metrics["auc"] == pytest.approx(
        roc_auc_score(expected["label"], expected["score"]), 1e-6
    )
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def written(frame, file):
    """A table as an atomic, CSV or Parquet file."""
    if file.suffix == ".inter":
        kinds = {"label": "float", "price": "float", "tags": "token_seq"}
        typed = {name: f"{name}:{kinds.get(name, 'token')}" for name in frame}
        frame.rename(columns=typed).to_csv(file, sep="\t", index=False)
    elif file.suffix == ".csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file)
    return file


@pytest.mark.parametrize("kind", ["inter", "csv", "parquet"])
@pytest.mark.parametrize("name", [*MODELS.split(","), "causal"])
def test_without_times_histories_leak_and_so_labels_give_no_metrics(
    made, tmp_path, capsys, caplog, name, kind
):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    folders, rows, _ = made
    own = of_part(load(folders[name]), rows, 2)[:12].astype({"label": int})
    own = own.assign(price="1").rename(columns={"timestamp": "time"}).assign(note="n")
    for frame, told in ((own, True), (own.drop(columns=["time", "label"]), False)):
        caplog.clear()
        file = written(frame, tmp_path / f"rows.{kind}")
        assert command(folders, name, tmp_path, file, "out.csv", "--batch_rows=5") == 0
        printed = capsys.readouterr().out
        said = [record.getMessage() for record in caplog.records]
        if name == "DeepFM":  # which reads no history
            assert '"auc"' in printed or not told
            assert not any("history" in words for words in said)
        else:
            assert "auc" not in printed and "auc" not in (tmp_path / "out.csv").read_text()
            (words,) = [words for words in said if "history" in words]
            assert words == (
                "rows: there is no column 'timestamp', so that each row's history is all clicks "
                "of its user, later ones and its own included"
                + ("; metrics would be too high by this leak, and are left out." * told or ".")
            )
        unread = "'time' (did you mean 'timestamp'?) and 'note'" if told else "'note'"
        assert said.count(f"rows: not read: {unread}.") == 1


def test_times_or_histories_keep_labels_without_a_leak(made, tmp_path, capsys, caplog):
    folders, rows, _ = made
    own = of_part(load(folders["DIN"]), rows, 2)
    for frame in (own, own.drop(columns="timestamp").assign(item_id_list="i1 i2")):
        frame.to_csv(tmp_path / "rows.csv", index=False)
        assert command(folders, "DIN", tmp_path, tmp_path / "rows.csv", "out.csv") == 0
        assert '"auc"' in capsys.readouterr().out
    assert "rows:" not in caplog.text


def test_times_in_another_unit_leak_as_none_do(made, tmp_path, capsys, caplog):
    folders, rows, _ = made
    own = of_part(load(folders["DIN"]), rows, 2)
    own.assign(timestamp=own["timestamp"] + "000").to_csv(tmp_path / "rows.csv", index=False)
    assert command(folders, "DIN", tmp_path, tmp_path / "rows.csv", "out.csv") == 0
    assert "auc" not in capsys.readouterr().out
    assert f"rows: 'timestamp' of {len(own)} rows is far later than the run's last" in caplog.text
    assert "and no metric is given: write times in the unit" in caplog.text
    days = (own["timestamp"].astype(float) / 86400).map(repr)  # by which no row has a history
    own.assign(timestamp=days).to_csv(tmp_path / "rows.csv", index=False)
    assert command(folders, "DIN", tmp_path, tmp_path / "rows.csv", "out.csv") == 0
    assert "auc" not in capsys.readouterr().out
    assert (
        f"rows: 'timestamp' of {len(own)} rows is far earlier than the run's first, " in caplog.text
    )
    assert "their histories are empty and no metric is given: write times" in caplog.text


@pytest.mark.parametrize(
    ("known", "times"),
    [
        ([0, 1, 365], [0, 1e-9, 400, 5e7]),  # days from any day on
        ([0, 6e5, 3e10], [1, 2e5, 7e10]),  # milliseconds from any day on
        ([1e9, 1.7e9], [3e7, -3e8, 2e9, 4e9]),  # dates from 1960 to 2096
        ([], [1, 1e12]),
    ],
)
def test_small_times_and_times_of_other_years_are_in_the_runs_unit(known, times):
    units = OtherUnits("timestamp", np.array(known, dtype=float))
    units.count(np.array(times))
    assert not units


def told_of_training(caplog):
    return [r.getMessage() for r in caplog.records if "training row" in r.getMessage()]


@pytest.mark.parametrize("name", ["DIN", "DeepFM"])
@pytest.mark.parametrize("with_users", [False, True])
def test_training_rows_in_a_file_are_counted(made, tmp_path, capsys, caplog, name, with_users):
    folders, rows, _ = made
    saved, file = load(folders[name]), tmp_path / "rows.csv"
    own = [of_part(saved, rows, number) for number in range(3)]
    taken = set(zip(own[0]["user_id"], own[0]["item_id"], own[0]["timestamp"]))
    mixed = pd.concat([own[2], own[0][:40], own[1]], ignore_index=True)
    later = own[0][:9].assign(timestamp="1800000000")  # same users and items
    other = pd.concat([mixed, later], ignore_index=True)
    keys = zip(other["user_id"], other["item_id"], other["timestamp"])
    expected = sum(key in taken for key in keys)
    assert expected >= 40
    more = ["--batch_rows=17"]
    if with_users:
        table = pd.DataFrame({"user_id": ["u1", "new"], "age": ["20", "30"]})
        table.to_csv(tmp_path / "users.csv", index=False)
        more.append(f"--users={tmp_path / 'users.csv'}")
        other.loc[len(other)] = other.loc[0]
        other.loc[len(other) - 1, "user_id"] = "new"
    other.to_csv(file, index=False)
    assert command(folders, name, tmp_path, file, "out.csv", *more) == 0
    assert '"auc"' in capsys.readouterr().out
    assert told_of_training(caplog) == [
        f"{expected} of {len(other)} rows are training rows of this run: the metrics are too good. "
        "Leave them out to see how good it is on new rows."
    ]


def test_times_in_another_unit_hide_no_training_rows_without_a_word(made, tmp_path, capsys, caplog):
    folders, rows, _ = made
    file, train = tmp_path / "rows.csv", of_part(load(folders["DeepFM"]), rows, 0)[:9]
    train.assign(timestamp=[f"{int(float(each)) * 1000}" for each in train["timestamp"]]).to_csv(
        file, index=False
    )
    assert command(folders, "DeepFM", tmp_path, file, "out.csv") == 0
    assert '"auc"' in capsys.readouterr().out
    assert "'timestamp' of 9 rows is far later than the run's last, " in caplog.text


def test_new_rows_and_rows_without_labels_are_no_training_rows(made, tmp_path, capsys, caplog):
    folders, rows, _ = made
    saved, file = load(folders["DIN"]), tmp_path / "rows.csv"
    train, _, test = (of_part(saved, rows, number) for number in range(3))
    taken = set(zip(train["user_id"], train["item_id"], train["timestamp"]))
    is_new = [k not in taken for k in zip(test["user_id"], test["item_id"], test["timestamp"])]
    for frame in (test[is_new], train.drop(columns="label")):
        frame.to_csv(file, index=False)
        assert command(folders, "DIN", tmp_path, file, "out.csv") == 0
    train.drop(columns="timestamp").to_csv(file, index=False)  # of which no metric is given
    assert command(folders, "DIN", tmp_path, file, "out.csv") == 0
    assert told_of_training(caplog) == []


def test_without_times_training_rows_are_told_by_user_and_item(made, tmp_path, capsys, caplog):
    folders, rows, _ = made
    saved, file = load(folders["DeepFM"]), tmp_path / "rows.csv"
    train, _, test = (of_part(saved, rows, number) for number in range(3))
    taken = set(zip(train["user_id"], train["item_id"]))
    same = sum(pair in taken for pair in zip(test["user_id"], test["item_id"]))
    assert 1 < same < len(test)
    test.drop(columns="timestamp").to_csv(file, index=False)
    assert command(folders, "DeepFM", tmp_path, file, "out.csv") == 0
    assert told_of_training(caplog) == [
        f"{same} of {len(test)} rows have the user and item of a training row of this run, and no "
        "time to compare: the metrics may be too good. Leave them out to see how good it is on new "
        "rows."
    ]


def test_fractions_of_seconds_are_those_of_training_rows_up_to_rounding(made):
    folders, rows, _ = made
    saved = load(folders["DeepFM"])
    part, own = saved.parts[0], of_part(saved, rows, 0)
    part.rank_times = part.rank_times + 1 / 3
    exact = own["timestamp"].astype(float).to_numpy() + 1 / 3
    read = Ranker(saved).row_reader().read(own)
    training = TrainingRows(part, by_time=True)
    for times in (exact, np.nextafter(exact, np.inf), np.nextafter(exact, 0)):
        assert training.among(read, times).all()
    for times in (exact + 1e-3, exact - 1e-3, exact + np.nan, exact * 1000):
        assert not training.among(read, times).any()


def test_a_table_with_labels_and_without_times_is_warned_of(made, caplog):
    ranker = Ranker(made[0]["DIN"])
    ranker.score_rows(pd.DataFrame(ONE))
    assert not caplog.records
    ranker.score_rows(pd.DataFrame(ONE | {"label": [1]}))
    assert "its own included; a metric of these scores would be too high" in caplog.text


def test_many_unread_columns_are_one_line(made, caplog):
    frame = pd.DataFrame(columns=[*ONE, "label", "timestamps", *(f"x{n}" for n in range(50))])
    Ranker(made[0]["DIN"]).row_reader().tell_unread(frame)
    (record,) = caplog.records
    assert record.getMessage() == (
        "rows: not read: 'timestamps' (did you mean 'timestamp'?), 'x0', 'x1', 'x2', 'x3' and 46 "
        "others."
    )


def test_labels_are_optional_and_new_users_and_items_may_stand_in_a_file(made, tmp_path, capsys):
    folders, rows, _ = made
    ranker = Ranker(folders["GenCI"])
    own = of_part(ranker.run, rows, 2)[:10].drop(columns=["label", "timestamp"])
    own.loc[0, "user_id"], own.loc[1, "item_id"] = "new", "n1"
    own.to_csv(tmp_path / "rows.csv", index=False)
    items = pd.DataFrame(
        {"item_id": ["n1"], "title": ["Night"], "year": ["1990"], "genre": ["Drama"]}
    )
    items.to_csv(tmp_path / "items.csv", index=False)
    users = pd.DataFrame({"user_id": ["new"], "age": ["21"]})
    users.to_csv(tmp_path / "users.csv", index=False)
    more = [f"--items={tmp_path / 'items.csv'}", f"--users={tmp_path / 'users.csv'}"]
    done = command(folders, "GenCI", tmp_path, tmp_path / "rows.csv", "out.csv", *more)
    assert done == 0 and capsys.readouterr().out.endswith("out.csv\n")
    table = pd.read_csv(tmp_path / "out.csv")
    assert list(table) == ["user", "item", "score"]
    expected = ranker.with_items(items).score_rows(own, user_features=users)
    np.testing.assert_allclose(table["score"], expected, atol=1e-6)


def test_rows_of_one_class_have_no_auc(made, tmp_path, capsys):
    folders, rows, _ = made
    own = of_part(load(folders["DeepFM"]), rows, 2)
    own[own["label"] == "1"].to_csv(tmp_path / "rows.csv", index=False)
    assert command(folders, "DeepFM", tmp_path, tmp_path / "rows.csv", "out.csv") == 0
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1].partition(": ")[2])
    assert metrics["auc"] is None and metrics["logloss"] > 0


def test_times_with_fractions_are_strictly_earlier(made):
    folders, rows, _ = made
    saved = load(folders["DIN"])
    part = saved.parts[2]
    own = of_part(saved, rows, 2)
    shifted = [each.rank_times + 1 / 3 for each in saved.parts]
    for each, times in zip(saved.parts, shifted):
        each.rank_times = times
    exact = own["timestamp"].astype(float) + 1 / 3
    found = []
    for times in (exact, np.nextafter(exact, np.inf), np.nextafter(exact, 0)):
        reader = Ranker(saved).row_reader()
        found.append(reader.read(own.assign(timestamp=times)))
    for read in found:
        np.testing.assert_array_equal(read.pointers.end - read.pointers.start, lengths_of(part))


def test_whole_times_of_any_unit_are_exact(tmp_path):
    unit = 10**15  # float64 has whole numbers up to 9 * 10^15
    rows = [[u, i, label, 1.7 * unit + t - 1_600_000_000] for u, i, label, t in tiny_rows()]
    keys = write_dataset(tmp_path / "data", [[*row[:3], f"{row[3]:.0f}"] for row in rows])
    (result,) = run("DIN", "tiny", config_dict=keys | {"epochs": 1})
    saved = load(result.folder)
    file = pd.read_csv(tmp_path / "data/tiny/tiny.inter", sep="\t", dtype=str)
    file.columns = [name.partition(":")[0] for name in file]
    own = of_part(saved, file, 2)
    np.testing.assert_allclose(Ranker(saved).score_rows(own), saved.predict("test")[0], atol=1e-6)


@pytest.mark.parametrize("cells", [pd.to_datetime(["2023-11-14"]), pd.to_timedelta(["3 days"])])
def test_a_time_of_another_type_is_refused(made, cells):
    frame = pd.DataFrame({"user_id": ["u1"], "item_id": ["i1"], "timestamp": cells})
    frame = frame.assign(device="tv", tags="a", price=1.0)
    with pytest.raises(ValueError, match="'timestamp' is of type .*give numbers"):
        Ranker(made[0]["DIN"]).score_rows(frame)


def test_two_columns_of_one_name_are_refused(made):
    folders, rows, _ = made
    ranker = Ranker(folders["DIN"])
    frame = pd.concat([rows[:3], rows[["item_id"]][:3]], axis=1)
    with pytest.raises(ValueError, match="rows: two columns are called 'item_id'"):
        ranker.score_rows(frame)
    items = pd.DataFrame([["new", "a", "b"]], columns=["item_id", "title", "title"])
    with pytest.raises(ValueError, match="items: two columns are called 'title'"):
        ranker.with_items(items)


@pytest.mark.parametrize("key", ["input", "users", "items"])
def test_no_file_that_is_read_is_written_over(made, tmp_path, capsys, key):
    folders, rows, _ = made
    file = tmp_path / "file.csv"
    rows[:3].to_csv(file, index=False)
    before = file.read_bytes()
    words = {"input": tmp_path / "rows.csv", "output": file, key: file}
    rows[:3].to_csv(tmp_path / "rows.csv", index=False)
    assert main([f"--run={folders['DIN']}", *(f"--{k}={v}" for k, v in words.items())]) == 2
    assert f"output: it is the file of --{key}" in capsys.readouterr().err
    assert file.read_bytes() == before


def lengths_of(part):
    return (part.inter_feat[":history_end"] - part.inter_feat[":history_start"]).numpy()


def test_the_runs_threshold_makes_labels(tmp_path, capsys):
    rows = [[u, i, 3 + 2 * label, t] for u, i, label, t in tiny_rows(rows_per_user=40)]
    keys = write_dataset(tmp_path / "data", rows)
    file = tmp_path / "data/tiny/tiny.inter"
    file.write_text(file.read_text().replace("label:float", "rating:float", 1))
    keys["load_col"] = keys["load_col"] | {"inter": ["user_id", "item_id", "rating", "timestamp"]}
    (result,) = run("DeepFM", "tiny", config_dict=keys | {"threshold": {"rating": 4}})
    output = tmp_path / "out.csv"
    assert main([f"--run={result.folder}", f"--input={file}", f"--output={output}"]) == 0
    table = pd.read_csv(output)
    assert table["label"].tolist() == [int(row[2] >= 4) for row in rows]
    auc = json.loads(capsys.readouterr().out.splitlines()[-1].partition(": ")[2])["auc"]
    assert auc == pytest.approx(roc_auc_score(table["label"], table["score"]), abs=1e-4)


def test_rows_that_the_run_would_not_have_count_in_no_metric(tmp_path, capsys, caplog):
    rows = [[u, i, (1, 3, 5)[n % 3], t] for n, (u, i, _, t) in enumerate(tiny_rows())]
    keys = write_dataset(tmp_path / "data", rows)
    file = tmp_path / "data/tiny/tiny.inter"
    file.write_text(file.read_text().replace("label:float", "rating:float", 1))
    keys["load_col"] = keys["load_col"] | {"inter": ["user_id", "item_id", "rating", "timestamp"]}
    keys |= {"threshold": {"rating": 4}, "val_interval": {"rating": "[0,3);(3,inf)"}}
    (result,) = run("DeepFM", "tiny", config_dict=keys)
    output = tmp_path / "out.csv"
    assert main([f"--run={result.folder}", f"--input={file}", f"--output={output}"]) == 0
    table, rating = pd.read_csv(output), np.array([row[2] for row in rows])
    assert len(table) == len(rows) and f"{(rating == 3).sum()} rows are outside" in caplog.text
    auc = json.loads(capsys.readouterr().out.splitlines()[-1].partition(": ")[2])["auc"]
    kept = table[rating != 3]
    assert auc == pytest.approx(roc_auc_score(kept["label"], kept["score"]), abs=1e-4)


def test_a_filter_of_features_of_rows_looks_at_raw_cells(made, tmp_path, caplog, monkeypatch):
    folders, rows, _ = made
    ranker, price = Ranker(folders["DeepFM"]), pd.to_numeric(rows["price"])
    keys = {"device": ["tv"], "price": "[10,30);(60,inf)"}  # training has scaled prices
    monkeypatch.setitem(ranker.run.config.final_config_dict, "val_interval", keys)
    kept = (rows["device"] == "tv") & (price.between(10, 30, inclusive="left") | (price > 60))
    rows.to_csv(tmp_path / "rows.csv", index=False)
    found = predict_file(ranker, tmp_path / "rows.csv", tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv")[kept]
    assert found["auc"] == pytest.approx(roc_auc_score(table["label"], table["score"]), abs=1e-4)
    assert f"{(~kept).sum()} rows are outside the run's val_interval" in caplog.text
    typed = rows.assign(price=price, device=rows["device"].astype("category"))
    np.testing.assert_array_equal(ranker.row_reader().counted(typed), kept)


def test_labels_that_replace_their_own_ratings_are_made_by_the_threshold(made, monkeypatch):
    ranker = Ranker(made[0]["DeepFM"])
    monkeypatch.setitem(ranker.run.config.final_config_dict, "threshold", {"label": 2})
    rows = pd.DataFrame({"label": ["0", "1", "2", "3.5"]})  # LABEL_FIELD is threshold's column
    assert ranker.row_reader().labels(rows).tolist() == [0, 0, 1, 1]


def test_a_wrong_file_is_one_sentence_before_anything_is_scored(
    made, tmp_path, capsys, monkeypatch
):
    folders, rows, _ = made
    monkeypatch.setattr("recbole_genci.serving.scorer.Scorer.score", None)
    own = of_part(load(folders["DIN"]), rows, 2)
    late = own.copy()
    late.loc[len(late) - 2, "item_id"] = "i99"
    numbers = own.assign(price=["much", *own["price"][1:]])
    labels = own.assign(label=["2", *own["label"][1:]])
    nobody = own.assign(user_id=["", *own["user_id"][1:]])
    clicks = own.assign(item_id_list=[["i1"] for _ in own.index]).astype({"item_id_list": object})
    clicks.at[3, "item_id_list"] = ["i1", 7.5]
    with pytest.raises(ValueError, match=r"item_id: 7.5 is no name\. .* \(Row 4\.\)"):
        Ranker(folders["DIN"]).score_rows(clicks)
    features = pd.DataFrame({"user_id": ["u2", own["user_id"][0]], "age": ["21", 2.5]})
    with pytest.raises(ValueError, match=rf"age: 2.5 is no .*that of '{own['user_id'][0]}'"):
        Ranker(folders["DIN"]).score_rows(own, features)
    cases = [
        (own.drop(columns="item_id"), "there is no column 'item_id'"),
        (
            own.add_suffix(":token"),
            "Columns of a DataFrame, a .csv or a .parquet file have no types: name them user_id, "
            "item_id, label, ...",
        ),
        (own.drop(columns="tags"), "there is no column 'tags', which the run's rows have"),
        (
            late,
            "'i99'. Did you mean 'i9'? Names are strings, as in the atomic files. Add new items "
            f"first, by Ranker.with_items or --items. (In {tmp_path}/rows.csv, line {len(late)}.)",
        ),
        (
            numbers,
            "rows: 'price' is 'much', which is no finite number. "
            f"(In {tmp_path}/rows.csv, line 2.)",
        ),
        (labels, "a label, by column 'label', is 2; labels are 0 or 1. Leave the column out, and "),
        (nobody, f"rows: a row has no 'user_id'. (In {tmp_path}/rows.csv, line 2.)"),
        (own[:0], "has a header but no rows"),
    ]
    for table, message in cases:
        table.to_csv(tmp_path / "rows.csv", index=False)
        status = command(
            folders, "DIN", tmp_path, tmp_path / "rows.csv", "out.csv", "--batch_rows=9"
        )
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert (status, message in said) == (2, True), said
    assert not (tmp_path / "out.csv").exists()
    (tmp_path / "folder.csv").mkdir()
    for words, message in [
        (["--input=rows.csv", "--output=out.csv"], "--run is missing"),
        ([f"--run={folders['DIN']}", "--input=none.csv", "--output=out.csv"], "none.csv does not"),
        ([f"--run={folders['DIN']}", "--input=a.csv", "--output=out.xlsx"], "neither .parquet nor"),
        (["--run=x", "--input=a.csv", f"--output={tmp_path / 'folder.csv'}"], "is a folder; name"),
        (["--run=x", "--input=a.csv", "--output=b.csv"], "x is not the folder of a run"),
        (["--run=x", "--inputs=a.csv"], "--inputs is no option of this command. Did you mean"),
        (["--run=x", "--input=a", "--output=b.csv", "--batch_rows=0"], "batch_rows: 0 is not"),
    ]:
        assert main(words) == 2
        assert message in capsys.readouterr().err, message
    assert main(["--help"]) == 0 and "python -m recbole_genci.predict" in capsys.readouterr().out


def test_a_time_that_no_model_reads_is_checked_before_anything_is_scored(made, tmp_path, capsys):
    folders, rows, _ = made
    seconds = "Write times as numbers, such as seconds since 1970: here 1704448800. "
    for time, advice in (("soon", ""), ("2024-01-05 10:00:00", seconds)):
        rows[:9].assign(timestamp=[*range(8), time]).to_csv(tmp_path / "rows.csv", index=False)
        assert command(folders, "DeepFM", tmp_path, tmp_path / "rows.csv", "out.csv") == 2
        said = capsys.readouterr().err
        assert f"rows: 'timestamp' is '{time}', which is no finite number. {advice}(In " in said
        assert said.endswith("rows.csv, line 10.)\n") and not (tmp_path / "out.csv").exists()


def test_the_line_of_a_row_is_that_of_an_editor(made, tmp_path):
    config = load(made[0]["DIN"]).config
    (tmp_path / "a.csv").write_text('user_id,title\nu1,"two\nlines"\n\nu2,x\nu3,"y"\n')
    (tmp_path / "a.inter").write_text("user_id:token\titem_id:token\nu1\ti1\n\nu2\ti2\n")
    found = [place_of_row(tmp_path / "a.csv", config, row) for row in range(3)]
    assert found == ["line 2", "line 5", "line 6"]
    assert place_of_row(tmp_path / "a.inter", config, 1) == "line 4"
    assert place_of_row(tmp_path / "a.parquet", config, 1) == "row 2"


def test_what_fails_midway_leaves_no_file(made, tmp_path, monkeypatch, capsys):
    folders, rows, _ = made
    own = of_part(load(folders["DIN"]), rows, 2)
    own.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "out.csv").write_text("as before")
    calls = []

    def fails(self, given):
        calls.append(len(given.items))
        if len(calls) == 3:
            raise FloatingPointError("the third chunk")
        return np.zeros(len(given.items), dtype=np.float32)

    monkeypatch.setattr("recbole_genci.serving.scorer.Scorer.score", fails)
    status = command(folders, "DIN", tmp_path, tmp_path / "rows.csv", "out.csv", "--batch_rows=9")
    assert status == 1 and "the third chunk" in capsys.readouterr().err and calls == [9, 9, 9]
    assert (tmp_path / "out.csv").read_text() == "as before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.csv", "rows.csv"]


def test_parquet_without_pyarrow_is_one_sentence(made, tmp_path, monkeypatch, capsys):
    folders, _, _ = made
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert command(folders, "DIN", tmp_path, tmp_path / "rows.csv", "out.parquet") == 2
    assert "needs pyarrow: pip install pyarrow" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "user_id,item_id\nu1,i1,9\nu2,i2,9\n",
            "could not be read: line 2 has 3 of 2 cells",
        ),
        ("a.csv", "user_id\titem_id\nu1\ti1\n", "divided by a tab, .* Write it with commas"),
        ("a.csv", "user_id;item_id\nu1;i1\n", "divided by ';', .* Write it with commas"),
        ("a.csv", "user_id,item_id\nu1,i1\nu2,i2,9\n", "could not be read: .*line 3"),
        ("a.csv", "user_id,item_id,item_id_list\nu1,i1,i2\nu1,i1\n", "line 3 has 2 of 3 cells"),
        (
            "a.csv",
            'user_id,item_id\nu1,i1\nu1,"i1\nu1,i2\nu2,"i1\nu2,i2\n',
            "row that begins in line 3 is no CSV .* Is each quote closed",
        ),
        ("a.csv", 'user_id,item_id\nu1,"i1\nu1,i2\n', "begins in line 2 is no CSV"),
        ("a.csv", "user_id,item_id,user_id\nu1,i1,u2\n", "two columns are called 'user_id'"),
        ("a.csv", "", "a.csv is empty. Its first line must name its columns"),
        (
            "a.inter",
            "user_id:token\titem_id:token\nu1\ti1\nu2\n",
            "could not be read: line 3 has 1",
        ),
        ("a.inter", "user_id\titem_id\nu1\ti1\n", "a.inter: .*user_id"),
        ("a.inter", "user_id:token\titem_id:token\n", "has a header but no rows"),
        ("a.csv", b"user_id,item_id\nu\xff,i1\n", "own files: iconv -f <its encoding> -t utf-8"),
        ("a.csv", "user_id,item_id\nu1,i1\n".encode("utf-16"), "iconv -f utf-16 -t utf-8"),
        ("a.parquet", "no", "no Parquet file, or damaged"),
    ],
)
def test_a_malformed_file_is_named(made, tmp_path, name, content, message):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    folders, _, _ = made
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(content)
    config = load(folders["DIN"]).config
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / name, config)


def test_separators_of_several_letters_are_those_of_the_run(made, tmp_path):
    folders, _, _ = made
    config = load(folders["DIN"]).config
    config["field_separator"] = "||"
    (tmp_path / "a.inter").write_text('user_id:token||note:token_seq\nu1||a "b\nu2||\n')
    table = read_table(tmp_path / "a.inter", config)
    assert table["user_id"].tolist() == ["u1", "u2"] and table["note"][0] == 'a "b'
    assert table["note"].isna().tolist() == [False, True]


ONE = {"user_id": ["u1"], "item_id": ["i1"], "device": ["tv"], "tags": [["a"]], "price": [1.0]}
TWICE = pd.DataFrame([["u1", "20", "21"]], columns=["user_id", "age", "age"])


@pytest.mark.parametrize(
    ("rows", "user_features", "message"),
    [
        ([1], None, "rows: [1] is no DataFrame."),
        (ONE, None, "is no DataFrame."),
        (None, None, "rows: None is no DataFrame."),
        (
            pd.DataFrame(ONE | {"item_id_list": [5]}),
            None,
            "rows: 'item_id_list' is 5, which is neither a list nor a text with ' ' between",
        ),
        (pd.DataFrame(ONE | {"item_id_list": [{"i1"}]}), None, "is {'i1'}, which is neither"),
        (pd.DataFrame(ONE | {"tags": [5]}), None, "rows: 'tags' is 5, which is neither"),
        (
            pd.DataFrame(ONE | {"item_id_list": [[np.array(["i1", "i2"])]]}),
            None,
            "item_id: array(['i1', 'i2'], dtype='<U2') is no name.",
        ),
        (pd.DataFrame(ONE | {"item_id_list": [[["i1"]]]}), None, "item_id: ['i1'] is no name."),
        (pd.DataFrame(ONE).rename(columns={"item_id": 0}), None, "user_id, 0, device, tags"),
        (pd.DataFrame(ONE), TWICE, "user_features: two columns are called 'age'"),
        (
            pd.DataFrame(ONE),
            TWICE.set_axis(["user_id", "user_id", "age"], axis=1),
            "user_features: two columns are called 'user_id'",
        ),
    ],
)
def test_odd_tables_are_one_sentence(made, rows, user_features, message):
    with pytest.raises(ValueError) as error:
        Ranker(made[0]["DIN"]).score_rows(rows, user_features)
    assert message in str(error.value)


def test_an_array_is_a_history_too(made):
    ranker = Ranker(made[0]["DIN"])
    as_list, as_array = (
        ranker.score_rows(pd.DataFrame(ONE | {"item_id_list": [kind(["i1", "i2"])]}))
        for kind in (list, np.array)
    )
    np.testing.assert_array_equal(as_array, as_list)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("yes", "rows: the label in column 'label' is 'yes', which is no finite number"),
        (None, "rows: a label, by column 'label', is missing; labels are 0 or 1"),
    ],
)
def test_a_wrong_label_names_its_column(made, value, message):
    with pytest.raises(ValueError) as error:
        Ranker(made[0]["DIN"]).row_reader().labels(pd.DataFrame(ONE | {"label": [value]}))
    assert message in str(error.value)


def test_a_folder_as_input_is_said_to_be_one(made, tmp_path, capsys):
    folder = tmp_path / "rows.csv"
    folder.mkdir()
    words = [f"--run={made[0]['DIN']}", f"--input={folder}", "--output=scores.csv"]
    assert main(words) == 2
    assert f"{folder} is a folder; name a file." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (pd.Series([2.0, None]), ["2", ""]),
        (
            pd.Series([2.0, None, 9007199254740993, "u1"], dtype=object),
            ["2", "", "9007199254740993", "u1"],
        ),
        (pd.Series([-0.0, 2**53 - 1.0], dtype=object), ["0", "9007199254740991"]),
        (pd.Series([16777215], dtype="Float32"), ["16777215"]),
        (pd.Series([2**63], dtype="uint64"), ["9223372036854775808"]),
    ],
)
def test_a_whole_number_is_the_name_of_its_digits(cells, names):
    assert as_names(cells, "user_id").tolist() == names


def test_a_cell_of_a_csv_file_may_be_long(made, tmp_path):
    title = "x" * 140_000  # more than Python's own limit
    (tmp_path / "a.csv").write_text(f"item_id,title\ni1,{title}\n")
    config = load(made[0]["DIN"]).config
    assert read_table(tmp_path / "a.csv", config)["title"].tolist() == [title]
    assert place_of_row(tmp_path / "a.csv", config, 0) == "line 2"


def test_parquet_is_read_as_prepare_writes_it(made, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    given = {
        "wifi": [True, None, False],
        "version": [2.5, None, 1e10],
        "hash": [2**60 + 1, None, 3],
        "price": [Decimal("1.50"), None, Decimal(3)],
        "city": ["New York", None, "Rome"],
        "tags": [["New York", None], None, ["Rome", " a\tb"]],
        "steps": [[0.5, 1.0], None, [2e10]],
        "flags": [[True, False], [], None],
    }
    table = arrow.table(given)
    place = table.column_names.index("city")
    table = table.set_column(place, "city", table["city"].dictionary_encode())
    index = pd.Index([7, 9, 8], name="user_id")  # pandas notes that this column is no column
    frame = table.to_pandas(types_mapper=pd.ArrowDtype).set_index(index)
    frame.to_parquet(tmp_path / "rows.parquet")
    file = tmp_path / "rows.parquet"
    kinds = {"user_id": "token"} | {
        name: "token_seq" if isinstance(cells[0], list) else "token"
        for name, cells in given.items()
    }
    columns = [Column(name, name, kind) for name, kind in kinds.items()]
    (written,) = cells_of(open_tables(file, "input")[0], columns)
    read = read_table(file, load(made[0]["DIN"]).config)
    for (name, kind), expected in zip(kinds.items(), written):
        if kind == "token":
            assert as_names(read[name], name).tolist() == expected, name
            continue
        entries, lengths = entries_of(read[name], " ", name)
        rows = np.split(entries, np.cumsum(lengths)[:-1])
        assert [" ".join(row) for row in rows] == expected, name
    for name in ("wifi", "version", "hash", "price"):
        expected = [np.nan if cell is None else float(cell) for cell in given[name]]
        np.testing.assert_array_equal(numbers_of(read[name], name), expected)
    assert read["tags"].isna().tolist() == [False, True, False]
    history = arrow.table({"item_id_list": [["an id"]]})
    arrow.parquet.write_table(history, file)
    read = read_table(file, load(made[0]["DIN"]).config)
    assert entries_of(read["item_id_list"], " ", "")[0].tolist() == ["an id"]


def test_a_missing_decimal_is_a_missing_number():
    arrow = pytest.importorskip("pyarrow")
    cells = pd.Series([Decimal("1.5"), None], dtype=pd.ArrowDtype(arrow.decimal128(5, 2)))
    np.testing.assert_array_equal(numbers_of(cells, "price"), [1.5, np.nan])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (pd.Series([1e30]), "user_id: 1e+30 is no name: floating-point numbers from 900719925474"),
        (pd.Series([2.0**53, None]), "user_id: 9007199254740992.0 is no name: floating-point"),
        (pd.Series([2.0**53, "u1"], dtype=object), "9007199254740992.0 is no name: floating"),
        (pd.Series([2.5, "u1"], dtype=object), "user_id: 2.5 is no name. Names are strings"),
        (pd.Series([np.inf]), "user_id: inf is no name: floating-point numbers"),
        (pd.Series([2**24], dtype=np.float32), "16777216.0 is no name: .* from 16777216 on lose"),
        (pd.Series([2**24], dtype="Float32"), "16777216.0 is no name: .* from 16777216 on lose"),
    ],
)
def test_a_float_that_may_have_lost_digits_is_no_name(cells, message):
    with pytest.raises(ValueError) as error:
        as_names(cells, "user_id")
    assert re.search(re.escape(message).replace(r"\.\*", ".*"), str(error.value)), error.value
