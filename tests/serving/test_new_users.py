"""A user that the run does not know is scored from a history and features alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL_GENCI, trained_runs
from references import with_rows_changed

from recbole_genci import Ranker, load
from recbole_genci.quick_start import run
from recbole_genci.serving.features import FeatureReader
from recbole_genci.serving.requests import RequestReader

MODELS = "LR,FFM,DeepFM,DIN,DIEN,MIRRN,GenCI"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found, keys = trained_runs(tmp_path_factory.mktemp("new-users"), MODELS)
    causal = SMALL_GENCI | {"epochs": 1, "history_attention": "causal", "segment_clicks": 3}
    return found | {"causal": run("GenCI", "tiny", config_dict=keys | causal)[0].folder}


def with_user_row(saved, values_of):
    """A run whose last user has other embeddings."""
    users = saved.parts[0].user_num
    trained = torch.unique(saved.parts[0].inter_feat["user_id"])

    def change(weight, first):
        weight[first + users - 1] = values_of(weight[first : first + users], trained)

    return with_rows_changed(saved, "user", change)


@pytest.mark.parametrize("name", [*MODELS.split(","), "causal"])
@pytest.mark.parametrize("unseen", ["mean", "padding"])
def test_a_new_user_is_the_user_with_that_embedding_history_and_features(folders, name, unseen):
    saved = load(folders[name])
    last = str(saved.parts[0].field2id_token["user_id"][-1])
    age = saved.parts[0].field2id_token["age"]
    own = str(age[int(saved.parts[0].user_feat["age"][-1])])
    values = {
        "mean": lambda rows, trained: rows[trained].mean(0),
        "padding": lambda rows, _: rows[0],
    }
    other = str(next(token for token in age[1:] if token != own))
    clicks = ["i3", "i1", "i7"]
    changed = Ranker(with_user_row(saved, values[unseen]))
    ranker = Ranker(saved, unseen=unseen)
    before = ranker.score([last])
    for given in (own, other):
        expected = changed.score(
            [last], histories={last: clicks}, user_features={last: {"age": given}}
        )
        found = ranker.score(
            ["new"], histories={"new": clicks}, user_features={"new": {"age": given}}
        )
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.std(found) > 0
    np.testing.assert_array_equal(ranker.score([last]), before)  # the run is as it was
    if name != "LR":
        assert np.abs(changed.score([last]) - before).max() > 1e-7


def test_features_given_for_a_known_user_take_the_place_of_those_of_the_run(folders):
    for name in ("DeepFM", "DIN", "GenCI"):
        ranker = Ranker(folders[name])
        [table] = [ranker.run.parts[0].user_feat]
        ages = ranker.run.parts[0].field2id_token["age"]
        user = ranker.users[3]
        own = str(ages[int(table["age"][4])])
        plain = ranker.score([user, "u1"])
        same = ranker.score([user, "u1"], user_features={user: {"age": own}})
        np.testing.assert_allclose(same, plain, atol=1e-6)
        other = str(next(age for age in ages[1:] if age != own))
        changed = ranker.score([user, "u1"], user_features={user: {"age": other}})
        np.testing.assert_allclose(changed[1], plain[1], atol=1e-6)
        assert np.abs(changed[0] - plain[0]).max() > 1e-6
        frame = pd.DataFrame({"user_id": [user, "somebody"], "age": [int(other), 20], "pet": "cat"})
        np.testing.assert_array_equal(ranker.score([user, "u1"], user_features=frame), changed)


@pytest.mark.parametrize("model", ["GenCI", "causal", "DIN"])
def test_a_history_may_follow_the_clicks_of_the_run(folders, model):
    ranker = Ranker(folders[model])
    saved = ranker.run
    rows = [part.inter_feat for part in saved.parts]
    name = ranker.users[4]
    user = saved.parts[0].field2token_id["user_id"][name]
    clicks = sorted(
        (rank, number, item)
        for feat in rows
        for owner, item, label, rank, number in zip(
            *(
                feat[field].tolist()
                for field in ("user_id", "item_id", "label", ":time_rank", ":row_number")
            )
        )
        if owner == user and label == 1
    )
    own = [str(saved.parts[0].field2id_token["item_id"][item]) for *_, item in clicks]
    assert len(own) > 5  # MAX_ITEM_LIST_LENGTH
    for more in (["i1", "i2"], []):
        expected = ranker.score([name], histories={name: [*own, *more]})
        found = ranker.score([name], histories={name: more}, append=True)
        np.testing.assert_array_equal(found, expected)
    assert (found != ranker.score([name], histories={name: []})).any()
    table = ranker.recommend([name], k=20, histories={name: ["i1"]}, append=True)
    assert not {"i1", *own} & set(table["item"])
    new = ranker.score(["n"], histories={"n": ["i1", "i2"]}, append=True)
    np.testing.assert_array_equal(new, ranker.score(["n"], histories={"n": ["i1", "i2"]}))


def test_a_request_copies_the_clicks_of_its_own_users_alone(folders):
    ranker = Ranker(folders["GenCI"])
    history = ranker.run.parts[0].history
    known = ranker.users[2]
    asked = RequestReader(FeatureReader(ranker.run.parts)).read(["n", known], {"n": ["i1", "i2"]})
    start, end = history.pointers(asked.users[1:], np.array([history.num_ranks]), 10**6)
    own = history.items[start[0] : end[0]].tolist()
    assert 0 < len(own) < len(history.items) / 2
    pointers = asked.pointers
    assert len(pointers.history.items) == 2 + len(own)
    assert pointers.history.items[pointers.first[1] : pointers.end[1]].tolist() == own
    found = ranker.score(["n", known], histories={"n": ["i1"]})
    np.testing.assert_allclose(found[1:], ranker.score([known]), atol=1e-6)


def test_recommendations_for_new_users_leave_out_their_history_only(folders):
    ranker = Ranker(folders["GenCI"])
    for candidates in (None, 4):
        table = ranker.recommend(
            ["a", "u1", "b"], 3, candidates, histories={"a": ["i1", "i2"], "b": []}
        )
        assert table["user"].tolist() == ["a"] * 3 + ["u1"] * 3 + ["b"] * 3
        assert not {"i1", "i2"} & set(table[table["user"] == "a"]["item"])
        known = ranker.recommend(["u1"], 3, candidates)
        mine = table[table["user"] == "u1"].reset_index(drop=True)
        assert mine["item"].tolist() == known["item"].tolist()
        np.testing.assert_allclose(mine["probability"], known["probability"], atol=1e-6)
    everything = ranker.recommend(["b"], k=100, histories={"b": []})
    assert set(everything["item"]) == set(ranker.items)
    assert ranker.users.tolist() == ranker.run.parts[0].field2id_token["user_id"][1:].tolist()


def test_unknown_values_count_as_missing_and_are_counted(folders, caplog):
    ranker = Ranker(folders["DeepFM"])
    clicks = {"n": []}
    missing = ranker.score(["n"], histories=clicks)
    caplog.clear()
    found = ranker.score(["n"], user_features={"n": {"age": "old"}})
    np.testing.assert_array_equal(found, missing)
    assert "1 value of 'age' is unknown to this run, the first is 'old'" in caplog.text
    assert "DeepFM reads no histories" not in caplog.text
    caplog.clear()
    for value in (None, "", float("nan")):
        found = ranker.score(["n"], user_features={"n": {"age": value}})
        np.testing.assert_array_equal(found, missing)
    assert "unknown" not in caplog.text


def test_a_misspelt_feature_of_users_is_told(folders, caplog):
    ranker = Ranker(folders["DeepFM"])
    frame = pd.DataFrame({"user_id": ["n"], "ages": ["20"], "note": ["x"]})
    told = "user_features: not read: 'ages' (did you mean 'age'?) and 'note'."
    rows = pd.DataFrame({"user_id": ["n"], "item_id": ["i1"]})
    reader = ranker.row_reader(frame)
    for ask in (
        lambda: ranker.score(["n"], user_features=frame),
        lambda: ranker.score_rows(rows, user_features=frame),
        lambda: reader.tell_unread(rows),  # as of a file
    ):
        caplog.clear()
        ask()
        assert [r.getMessage() for r in caplog.records if "not read" in r.getMessage()] == [told]
    caplog.clear()
    ranker.score(["n"], user_features=frame.rename(columns={"ages": "age"}))
    assert not [r for r in caplog.records if r.levelname == "WARNING" and "read" in r.getMessage()]


def test_requests_at_the_same_time_do_not_disturb_each_other(folders):
    ranker = Ranker(folders["DIN"])
    ages = [str(age) for age in ranker.run.parts[0].field2id_token["age"][1:]]

    def ask(number):
        name, clicks = f"n{number}", ranker.items[number : number + 3].tolist()
        features = {name: {"age": [*ages, "never"][number % (len(ages) + 1)]}}
        return ranker.score([name, "u1"], histories={name: clicks}, user_features=features)

    expected = [ask(number) for number in range(12)]
    assert len({tuple(scores[0]) for scores in expected}) == 12
    with ThreadPoolExecutor(6) as pool:
        for found, alone in zip(pool.map(ask, [*range(12)] * 3), expected * 3):
            np.testing.assert_array_equal(found, alone)


def test_a_model_without_histories_says_so_once(folders, caplog):
    ranker = Ranker(folders["DeepFM"])
    for _ in range(2):
        scores = ranker.score(["u1"], histories={"u1": ["i1"]})
    np.testing.assert_array_equal(scores, ranker.score(["u1"]))
    assert caplog.text.count("DeepFM reads no histories") == 1
    caplog.clear()
    Ranker(folders["DIN"]).score(["u1"], histories={"u1": ["i1"]})
    assert "reads no histories" not in caplog.text


def test_what_cannot_be_served_is_refused_by_name(folders):
    ranker = Ranker(folders["GenCI"])
    with pytest.raises(
        ValueError,
        match=r"user_id: 1 of 2 are unknown .* 'new'.*give a history by histories=, \[\] if there",
    ):
        ranker.score(["u1", "new"])
    assert np.isfinite(ranker.score(["u1", "new"], histories={"new": []})).all()
    with pytest.raises(ValueError, match="'u99' is not one of the users asked for"):
        ranker.score(["u1"], user_features={"u99": {"age": "20"}})
    with pytest.raises(
        ValueError, match="'height' is no feature of this run's users; they have age"
    ):
        ranker.score(["n"], user_features={"n": {"height": 3}})
    for wrong in ("old", {"n": 3}, [1]):
        with pytest.raises(ValueError, match="user_features: .* not of the form {user: {feature"):
            ranker.score(["n"], user_features=wrong)
    with pytest.raises(ValueError, match="user_features: the frame has no column 'user_id'"):
        ranker.score(["n"], user_features=pd.DataFrame({"age": ["20"]}))
    with pytest.raises(ValueError, match="no types: name them user_id, age"):
        ranker.score(["n"], user_features=pd.DataFrame({"user_id:token": ["n"], "age:token": [2]}))
    with pytest.raises(ValueError, match="user_features: user 'n' stands there twice"):
        ranker.score(["n"], user_features=pd.DataFrame({"user_id": ["n", "n"], "age": ["1", "2"]}))
    with pytest.raises(ValueError, match=r"age: \['20'\] is no name"):
        ranker.score(["n"], user_features={"n": {"age": ["20"]}})
    with pytest.raises(ValueError, match="append: 'yes' is neither True nor False"):
        ranker.score(["n"], histories={"n": []}, append="yes")
    with pytest.raises(ValueError, match="item_id: 1 of 1 are unknown"):
        ranker.score(["n"], histories={"n": ["i99"]})
    with pytest.raises(ValueError, match="unseen: 'best' is neither 'mean' nor 'padding'"):
        Ranker(ranker.run, unseen="best")
