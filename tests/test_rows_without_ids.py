"""Rows without a time, users or items, from files to predictions: Criteo, Avazu, Frappe."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CRITEO_FIELDS, SMALL_GENCI, stop_after, write_criteo, write_rows

from recbole_genci import Ranker, load, resume, run
from recbole_genci.config import Config
from recbole_genci.data import create_dataset, create_loaders
from recbole_genci.data.column_names import HISTORY_END, HISTORY_START, ROW_NUMBER
from recbole_genci.data.fingerprint import data_fingerprint
from recbole_genci.data.prepared import prepare_parts
from recbole_genci.evaluation.scoring import metrics_of
from recbole_genci.experiments import experiment
from recbole_genci.experiments.reports.statistics import count
from recbole_genci.model.base import reads_histories
from recbole_genci.model.registry import known_models
from recbole_genci.plan import prepare
from recbole_genci.predict import main as predict
from recbole_genci.training.own_checks import try_model

NUMBERS, TOKENS = CRITEO_FIELDS[1:14], CRITEO_FIELDS[14:]
NO_IDS = {"USER_ID_FIELD": None, "ITEM_ID_FIELD": None, "load_col": {"inter": "*"}}
SMALL = {"embedding_size": 4, "epochs": 1, "train_batch_size": 64, "gpu_id": ""}
SMALL |= {"latency_repeats": 1, "metrics": ["AUC", "LogLoss"]}
CRITEO = SMALL | NO_IDS | {"numerical_features": NUMBERS, "normalize_all": True}
FRAPPE = SMALL | {"load_col": {"inter": "*"}, "USER_ID_FIELD": "user", "ITEM_ID_FIELD": "item"}
AVAZU = SMALL | NO_IDS | {"LABEL_FIELD": "click"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small files in the layouts of the three datasets, and Criteo in three files too."""
    folder, rng = tmp_path_factory.mktemp("rows"), np.random.default_rng(1)
    write_criteo(folder, 300)
    for seed, part in enumerate(("train", "valid", "test")):
        write_criteo(folder, 60, f"criteo.{part}.inter", seed)
    header = ["label:float", "user:token", "item:token", "daytime:token", "weather:token"]
    drawn = rng.integers(0, [2, 10, 15, 7, 9], (300, 5))
    write_rows(
        folder, "frappe", header, [[r[0], f"u{r[1]}", f"i{r[2]}", r[3], r[4]] for r in drawn]
    )
    header = ["id:token", "click:float", "hour:float", "C1:token", "banner_pos:token"]
    header += ["site_id:token", "device_ip:token"]
    drawn = rng.integers(0, [2, 40, 5, 3, 20, 30], (300, 6))
    rows = [[f"1{n}", r[0], 14102100 + r[1], *r[2:]] for n, r in enumerate(drawn)]
    write_rows(folder, "avazu", header, rows)
    return folder


def keys_of(folder, keys, **more):
    where = {"data_path": str(folder), "checkpoint_dir": "saved", "results_dir": "results"}
    return {**keys, **where, **more}


def parts_of(folder, name, keys, model="LR", **more):
    return create_dataset(Config(model, name, config_dict=keys_of(folder, keys, **more))).build()


# ---------------------------------------------------------------- from files to predictions


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """Runs of three models on Criteo's layout by model, and the log of their training."""
    home = tmp_path_factory.mktemp("runs")
    keys = keys_of(folder, CRITEO, checkpoint_dir=str(home), results_dir=str(home))
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("recbole_genci")
    logger.addHandler(handler)
    try:
        result = run("LR,DeepFM,DCNV2", "criteo", config_dict=keys)
    finally:
        logger.removeHandler(handler)
    return {each.model: each for each in result}, lines, result


def test_one_command_trains_models_on_criteo_and_gives_their_table(trained):
    runs, lines, result = trained
    assert list(runs) == ["LR", "DeepFM", "DCNV2"]
    assert len({each.metrics["data_fingerprint"] for each in map(load_of, runs.values())}) == 1
    text = "\n".join(lines)
    assert "TIME_FIELD: no column 'timestamp' is read" in text and "order RO" in text
    assert "USER_ID_FIELD: rows have no user" in text and "group_by none" in text
    head = next(line for line in lines if line.startswith("Rows of criteo (without histories)"))
    assert "positive" in head
    assert not any(word in head for word in ("users", "items", "history\n", "mean", "empty"))
    assert "240" in head and head.count("30") >= 2


def load_of(result):
    return load(result.folder)


def test_a_saved_run_gives_its_figures_and_predictions_again(trained):
    saved = load_of(trained[0]["DeepFM"])
    assert saved.evaluate() == saved.metrics["test"]
    table = saved.predictions()
    assert list(table) == ["label", "score"] and len(table) == 30


def test_a_file_of_rows_gets_the_scores_of_the_run(trained, folder, tmp_path, capsys):
    found = trained[0]["DCNV2"]
    words = [f"--run={found.folder}", f"--input={folder}/criteo/criteo.inter", "--output=s.csv"]
    assert predict(words) == 0
    assert '"auc"' in capsys.readouterr().out
    scores = pd.read_csv("s.csv")
    assert list(scores) == ["label", "score"] and len(scores) == 300
    saved = load_of(found)
    rows = saved.parts[2].inter_feat[ROW_NUMBER].numpy()
    expected = saved.predictions()
    np.testing.assert_allclose(scores["score"].to_numpy()[rows], expected["score"], atol=1e-6)
    assert (scores["label"].to_numpy()[rows] == expected["label"]).all()


def test_the_exported_program_takes_the_rows_own_columns(trained, tmp_path):
    ranker = Ranker(load_of(trained[0]["LR"]))
    content = ranker.export(tmp_path / "m.pt2")
    assert [each["column"] for each in content["inputs"]] == [*NUMBERS, *TOKENS]
    program = torch.export.load(tmp_path / "m.pt2").module()
    rows = pd.DataFrame({n: [1.0, np.nan] for n in NUMBERS} | {n: ["00000001", ""] for n in TOKENS})
    vocabulary = ranker.run.parts[0].field2token_id
    inputs = {n: torch.tensor(rows[n].to_numpy()) for n in NUMBERS}
    inputs |= {n: torch.tensor([vocabulary[n]["00000001"], 0]) for n in TOKENS}
    with torch.no_grad():
        found = program(**inputs)
    np.testing.assert_allclose(found, ranker.score_rows(rows), atol=1e-5)


@pytest.mark.parametrize(
    "ask",
    [
        lambda ranker: ranker.users,
        lambda ranker: ranker.items,
        lambda ranker: ranker.score(["a"], ["b"]),
        lambda ranker: ranker.recommend(["a"]),
    ],
    ids=["users", "items", "score", "recommend"],
)
def test_nothing_is_ranked_without_users_and_items(trained, ask):
    with pytest.raises(ValueError, match=r"neither users nor items .*Ranker\.score_rows"):
        ask(Ranker(load_of(trained[0]["LR"])))


def test_a_ranker_of_rows_says_that_it_is_one(trained):
    ranker = Ranker(load_of(trained[0]["LR"]))
    assert repr(ranker).startswith("Ranker(LR on criteo, seed 2020: test auc ")
    assert repr(ranker).endswith("; rows without users and items)")


def test_users_and_items_cannot_be_added_where_there_are_none(trained):
    ranker = Ranker(load_of(trained[0]["LR"]))
    with pytest.raises(ValueError, match="items: the run's rows have no item"):
        ranker.with_items(pd.DataFrame({"item_id": ["a"]}))
    with pytest.raises(ValueError, match="user_features: the run's rows have no user"):
        ranker.score_rows(pd.DataFrame(), {"u": {"age": 3}})


def test_a_stopped_run_goes_on_to_the_same_figures(folder, monkeypatch):
    keys = keys_of(folder, CRITEO, epochs=2, stopping_step=5)
    whole = run("FM", "criteo", config_dict=keys)[0]
    with monkeypatch.context() as patch:
        stop_after(0, patch)
        with pytest.raises(KeyboardInterrupt):
            run("FM", "criteo", config_dict=keys | {"checkpoint_dir": "stopped"})
    stopped = next(Path("stopped").glob("FM-*"))
    assert load(resume(stopped).folder).metrics["test"] == load(whole.folder).metrics["test"]


@pytest.mark.parametrize("name", known_models())
def test_every_model_without_histories_takes_rows_without_ids(folder, name):
    keys = keys_of(folder, CRITEO)
    try:
        config = Config(name, "criteo", config_dict=keys)
    except ValueError as error:
        assert str(error).startswith(f"USER_ID_FIELD: {name} ")
        there = Config(name, "ml-100k")
        assert reads_histories(there.model_class, there) or there["double_tower"]
        return
    loader = create_loaders(config, parts_of(folder, "criteo", CRITEO))[0]
    assert try_model(config, loader.dataset, loader.step) > 0


# ---------------------------------------------------------------- rows and splits


def test_criteo_is_split_at_random_by_the_seed_of_the_data(folder):
    parts, again, other = (parts_of(folder, "criteo", CRITEO, data_seed=s) for s in (5, 5, 6))
    numbers = np.concatenate([part.inter_feat[ROW_NUMBER].numpy() for part in parts])
    assert sorted(numbers) == list(range(300)) and list(numbers) != list(range(300))
    assert list(map(len, parts)) == [240, 30, 30]
    assert data_fingerprint(parts) == data_fingerprint(again) != data_fingerprint(other)


def test_missing_numbers_are_means_and_missing_tokens_are_padding(folder):
    raw = pd.read_csv(folder / "criteo/criteo.inter", sep="\t", dtype=str)
    part = parts_of(folder, "criteo", CRITEO | {"normalize_all": False})[0]
    rows = raw.iloc[part.inter_feat[ROW_NUMBER].numpy()]
    numbers = raw["I3:float"].astype(float)
    expected = numbers.fillna(numbers.mean()).iloc[rows.index].to_numpy()
    np.testing.assert_allclose(part.inter_feat["I3"][:, 0], expected, rtol=1e-6)
    assert ((part.inter_feat["C5"] == 0).numpy() == rows["C5:token"].isna()).all()


def test_frappe_is_split_at_random_within_each_user(folder):
    parts = parts_of(folder, "frappe", FRAPPE)
    users = [part.inter_feat["user"].numpy() for part in parts]
    everyone = np.concatenate(users)
    for user in np.unique(everyone):
        size = (everyone == user).sum()
        assert (users[2] == user).sum() == max(int(0.1 * size), 1)
    assert all(
        (part.inter_feat[HISTORY_START] == part.inter_feat[HISTORY_END]).all() for part in parts
    )


def test_avazu_is_split_in_the_order_of_its_hours_if_they_are_its_time(folder):
    train, valid, test = parts_of(folder, "avazu", AVAZU, TIME_FIELD="hour")
    assert train.inter_feat["hour"].max() <= valid.inter_feat["hour"].min()
    assert valid.inter_feat["hour"].max() <= test.inter_feat["hour"].min()
    train, _, test = parts_of(folder, "avazu", AVAZU)
    assert train.inter_feat["hour"].max() > test.inter_feat["hour"].min()


def test_files_that_are_split_already_are_taken_as_they_are(folder, caplog):
    keys = keys_of(folder, CRITEO, benchmark_filename=["train", "valid", "test"])
    with caplog.at_level(logging.INFO):
        plan = prepare("LR", "criteo", config_dict=keys)
    numbers = [list(part.inter_feat[ROW_NUMBER].numpy()) for part in plan.parts]
    assert numbers == [list(range(60)), list(range(60, 120)), list(range(120, 180))]
    assert "split" not in caplog.text


def test_prepared_rows_are_the_same_rows(folder, tmp_path, monkeypatch):
    from recbole_genci.data import prepared

    monkeypatch.setattr(prepared, "SMALLEST_FILE", 1)
    keys = keys_of(folder, CRITEO, prepared_rows_dir=str(tmp_path / "kept"))
    config = Config("LR", "criteo", config_dict=keys)
    first, second = prepare_parts(config), prepare_parts(config)
    assert list((tmp_path / "kept").glob("*.safetensors"))
    assert data_fingerprint(first) == data_fingerprint(second)
    assert not second[0].has_histories and second[0].rank_times is None


def test_a_metric_of_ones_own_gets_no_users_and_may_not_need_them(folder):
    def given(labels, probabilities, users=None):
        return float(users is None)

    def needed(labels, probabilities, users):
        return 0.0

    for metric in (given, needed):
        keys = keys_of(folder, CRITEO, metrics=["AUC", "LogLoss", metric])
        config = Config("LR", "criteo", config_dict=keys)
        rows = torch.tensor([0.1, 0.9]), torch.tensor([0.0, 1.0])
        if metric is given:
            assert metrics_of(config, *rows)["given"] == 1
        else:
            with pytest.raises(ValueError, match="metrics: needed needs users.*USER_ID_FIELD"):
                metrics_of(config, *rows)


def test_frappe_is_trained_ranked_and_predicted_with_its_context(folder):
    saved = load(run("FM", "frappe", config_dict=keys_of(folder, FRAPPE))[0].folder)
    assert list(saved.predictions()) == ["user", "item", "label", "score"]
    table = Ranker(saved).recommend(
        ["u1"], 3, None, False, context={"daytime": "1", "weather": None}
    )
    assert len(table) == 3
    with_gauc = Config(
        "FM", "frappe", config_dict=keys_of(folder, FRAPPE, metrics=["AUC", "LogLoss", "GAUC"])
    )
    assert "GAUC" in with_gauc["metrics"]


def test_an_experiment_draws_rows_where_there_are_no_users(folder):
    keys = keys_of(folder, CRITEO)
    (result,) = experiment("compare", "criteo", "LR,FM", seeds=1, config_dict=keys)
    report = (result.folder / "table.md").read_text()
    assert "GAUC is undefined: rows have no user." in report
    assert "so that single rows are drawn" in report
    assert "rows have no histories" in (result.folder / "report.html").read_text()


def test_the_statistics_leave_out_what_rows_do_not_have(folder):
    users, items, rows, *_, mean, median, empty = count(parts_of(folder, "criteo", CRITEO))
    assert rows == 300 and {users, items, mean, median, empty} == {None}
    users, items, rows, *_, mean, median, empty = count(parts_of(folder, "frappe", FRAPPE))
    assert (users, items, rows) == (10, 15, 300) and {mean, median, empty} == {None}


@pytest.mark.parametrize(
    ("more", "order", "group", "said"),
    [
        ({}, "RO", "none", ["TIME_FIELD: no column 'timestamp'", "USER_ID_FIELD"]),
        ({"TIME_FIELD": None}, "RO", "none", ["TIME_FIELD: rows have no time;", "USER_ID_FIELD"]),
        ({"eval_args": {"order": "RO"}}, "RO", "none", ["USER_ID_FIELD"]),
        ({"eval_args": {"order": "RO", "group_by": "none"}}, "RO", "none", []),
        ({"TIME_FIELD": "I1"}, "TO", "none", ["USER_ID_FIELD"]),
        ({"load_col": {"inter": ["label", "C1"]}}, "RO", "none", ["TIME_FIELD", "USER_ID_FIELD"]),
    ],
)
def test_what_the_user_did_not_say_is_chosen_and_said(folder, more, order, group, said):
    keys = keys_of(folder, CRITEO | {"numerical_features": []}, **more)
    config = Config("LR", "criteo", config_dict=keys)
    assert (config["eval_args"]["order"], config["eval_args"]["group_by"]) == (order, group)
    assert config["TIME_FIELD"] == more.get("TIME_FIELD")
    assert len(config.chosen) == len(said)
    assert all(text.startswith(start) for text, start in zip(config.chosen.values(), said))


def test_rows_with_all_three_keep_the_default_split():
    config = Config("LR", "ml-100k")
    assert config["eval_args"]["order"] == "TO" and config["eval_args"]["group_by"] == "user"
    assert config["TIME_FIELD"] == "timestamp" and config.chosen == {}


@pytest.mark.parametrize(
    ("header", "load_col", "more", "remedy"),
    [
        (
            "timestamp:float",
            ["label", "a"],
            {},
            "{file} has 'timestamp', but load_col reads only label, a. Set load_col: {{inter: "
            "[label, a, timestamp]}}. TIME_FIELD: ~ says it is meant.",
        ),
        ("timestamp:float", ["label", "a"], {"TIME_FIELD": None}, None),
        ("timestamp:float", ["label", "a"], {"eval_args": {"order": "RO"}}, None),
        ("timestamp:float", ["label", "a", "timestamp"], {}, None),
        ("time:float", "*", {}, "If 'time' is the time, set TIME_FIELD: time. TIME_FIELD: ~ says"),
        (
            "time:float",
            ["label", "a"],
            {},
            "If 'time' is the time, set TIME_FIELD: time and load_col: {{inter: [label, a, time]}}",
        ),
        ("b:float", ["label", "a"], {}, None),
    ],
)
def test_a_time_that_is_not_read_is_warned_of(header, load_col, more, remedy, tmp_path, caplog):
    rows = [[n % 2, n % 3, n] for n in range(30)]
    write_rows(tmp_path, "shop", ["label:float", "a:token", header], rows)
    keys = keys_of(tmp_path, SMALL | NO_IDS | more, load_col={"inter": load_col})
    prepare("LR", "shop", config_dict=keys)
    said = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    said = [words for words in said if words.startswith("TIME_FIELD: ")]
    assert len(said) == (remedy is not None)
    if remedy is not None:
        remedy = remedy.format(file=tmp_path / "shop/shop.inter")
        assert f" (eval_args: order RO). {remedy}" in said[0]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("name", "keys", "model", "more", "message"),
    [
        ("criteo", CRITEO, "DIN", {}, "USER_ID_FIELD: DIN reads .* no user.* such as DeepFM"),
        ("frappe", FRAPPE, "DIN", {}, "TIME_FIELD: DIN reads .* no time"),
        ("frappe", FRAPPE, "GenCI", SMALL_GENCI, "TIME_FIELD: GenCI reads .* no time"),
        ("frappe", FRAPPE, "MIRRN", {}, "TIME_FIELD: MIRRN reads .* no time"),
        (
            "frappe",
            FRAPPE,
            "LR",
            {"flatten_history": True},
            "LR with flatten_history reads .*False",
        ),
        ("avazu", AVAZU, "DIEN", {"TIME_FIELD": "hour"}, "USER_ID_FIELD: DIEN reads .* no user"),
        ("criteo", CRITEO, "DSSM", {}, "USER_ID_FIELD: DSSM has a tower of users"),
        ("criteo", CRITEO, "LR", {"ITEM_ID_FIELD": "C1"}, "USER_ID_FIELD: .*ITEM_ID_FIELD is 'C1'"),
        (
            "frappe",
            FRAPPE,
            "LR",
            {"ITEM_ID_FIELD": None},
            "ITEM_ID_FIELD: .*USER_ID_FIELD is 'user'",
        ),
        ("criteo", CRITEO, "LR", {"eval_args": {"order": "TO"}}, "order TO needs a time"),
        (
            "frappe",
            FRAPPE,
            "LR",
            {"eval_args": {"split": {"TS": [8, 1, 1]}}},
            "split TS needs a time",
        ),
        ("criteo", CRITEO, "LR", {"eval_args": {"group_by": "user"}}, "group_by user needs a user"),
        (
            "criteo",
            CRITEO,
            "LR",
            {"eval_args": {"split": {"LS": "valid_and_test"}}},
            "split LS needs a user",
        ),
        ("criteo", CRITEO, "LR", {"metrics": ["AUC", "LogLoss", "GAUC"]}, "metrics: GAUC"),
        (
            "criteo",
            SMALL | NO_IDS,
            "LR",
            {"load_col": {"inter": ["label", "I1"]}},
            "no column that is read is a feature.* only if numerical_features .*label, I1",
        ),
        ("criteo", CRITEO, "LR", {"rm_dup_inter": "first"}, "rm_dup_inter: 'first'"),
        ("criteo", CRITEO, "LR", {"user_inter_num_interval": "[5,inf)"}, "user_inter_num_interval"),
        ("criteo", CRITEO, "LR", {"alias_of_user_id": ["C1"]}, "alias_of_user_id"),
        ("criteo", CRITEO, "LR", {"load_col": {"inter": "*", "user": ["C1"]}}, "load_col: a .user"),
        ("avazu", AVAZU, "LR", {"TIME_FIELD": "time"}, "TIME_FIELD: .*no column 'time'.* to ~"),
        ("criteo", CRITEO, "LR", {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id"}, "to ~"),
    ],
)
def test_what_needs_a_user_an_item_or_a_time_is_refused_by_its_key(
    folder, name, keys, model, more, message
):
    with pytest.raises(ValueError, match=message):
        parts_of(folder, name, keys, model, **more)


def test_a_file_of_users_without_users_is_refused(folder, tmp_path):
    write_rows(tmp_path, "shop", ["label:float", "a:token"], [[n % 2, n % 3] for n in range(30)])
    (tmp_path / "shop/shop.user").write_text("user_id:token\nu1\n")
    with pytest.raises(ValueError, match=r"USER_ID_FIELD: rows have no user, but .*shop\.user"):
        parts_of(tmp_path, "shop", SMALL | NO_IDS | {"load_col": None})
    assert len(parts_of(tmp_path, "shop", SMALL | NO_IDS)[0]) == 24
