"""The ranker gives a row the score that the run gave it, and recommends what scores best."""

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL_GENCI, tiny_rows, trained_runs, write_dataset

from recbole_genci import Ranker, load
from recbole_genci.data.batch_histories import clicked_items
from recbole_genci.quick_start import run

MODELS = "DeepFM,DIN,DIEN,MIRRN,GenCI"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return trained_runs(tmp_path_factory.mktemp("ranker"), MODELS)[0]


def names_of(saved, field, ids):
    return [str(name) for name in saved.parts[0].field2id_token[field][ids]]


def test_a_ranker_says_whose_it_is(folders):
    saved = load(folders["DIN"])
    run_in_words = repr(saved).removeprefix("SavedRun(").removesuffix(")")
    assert repr(Ranker(saved)) == f"Ranker({run_in_words}; 12 users, 20 items)"
    new = pd.DataFrame({"item_id": ["new"], "year": ["1990"], "genre": ["Drama"]})
    assert repr(Ranker(saved).with_items(new)).endswith("; 12 users, 21 items)")


def test_a_row_with_its_own_history_has_the_score_of_the_run(folders):
    for name, folder in folders.items():
        saved = load(folder)
        ranker, (expected, _), test = Ranker(saved), saved.predict("test"), saved.parts[2]
        history, length, _ = test.history.gather(
            test.inter_feat[":history_start"], test.inter_feat[":history_end"], 5
        )
        found = []
        for row in range(0, len(test), 7):
            [user] = names_of(saved, "user_id", [int(test.inter_feat["user_id"][row])])
            [item] = names_of(saved, "item_id", [int(test.inter_feat["item_id"][row])])
            clicks = names_of(saved, "item_id", history[row, : length[row]].numpy())
            found.append(ranker.score([user], [item], histories={user: clicks}).item())
        np.testing.assert_allclose(found, expected[::7], atol=1e-5, err_msg=name)
        assert np.std(found) > 0


def test_without_a_history_given_all_clicks_of_the_rows_count(folders):
    saved = load(folders["GenCI"])
    ranker = Ranker(saved)
    rows = [part.inter_feat for part in saved.parts]
    clicks = {}
    for feat in rows:
        for user, item, label, rank, number in zip(
            *(
                feat[field].tolist()
                for field in ("user_id", "item_id", "label", ":time_rank", ":row_number")
            )
        ):
            if label == 1:
                clicks.setdefault(user, []).append((rank, number, item))
    ordered = {
        names_of(saved, "user_id", [user])[0]: names_of(
            saved, "item_id", [item for *_, item in sorted(found)]
        )
        for user, found in clicks.items()
    }
    users = list(ordered)
    np.testing.assert_array_equal(ranker.score(users), ranker.score(users, histories=ordered))
    some = dict(list(ordered.items())[::2])
    np.testing.assert_array_equal(ranker.score(users), ranker.score(users, histories=some))
    changed = ranker.score(users, histories={users[0]: ["i3"]})
    np.testing.assert_array_equal(changed[1:], ranker.score(users)[1:])
    assert np.abs(changed[0] - ranker.score(users)[0]).max() > 1e-6
    assert np.isfinite(ranker.score(users[:1], histories={users[0]: []})).all()


def test_recommended_are_the_best_unseen_items_by_score(folders):
    for name in ("DIN", "GenCI"):
        ranker = Ranker(folders[name])
        scores, users = ranker.score(["u3", "u5"]), ["u3", "u5"]
        saved = ranker.run
        table = ranker.recommend(users, k=4)
        everything = ranker.recommend(users, k=100, exclude_seen=False)
        for place, user in enumerate(users):
            order = np.argsort(-scores[place], kind="stable")
            mine = everything[everything["user"] == user]
            assert mine["item"].tolist() == ranker.items[order].tolist()
            assert mine["rank"].tolist() == list(range(1, len(order) + 1))
            np.testing.assert_array_equal(mine["probability"], scores[place][order])
            number = saved.parts[0].field2token_id["user_id"][user]
            seen = {
                item
                for part in saved.parts
                for item in names_of(
                    saved,
                    "item_id",
                    part.inter_feat["item_id"][part.inter_feat["user_id"] == number].numpy(),
                )
            }
            expected = [item for item in ranker.items[order] if item not in seen][:4]
            assert table[table["user"] == user]["item"].tolist() == expected
        known = ranker.recommend("u3", k=20, histories={"u3": ["i1", "i2"]})
        assert not {"i1", "i2"} & set(known["item"])
        assert ranker.recommend(users, k=np.int64(4)).equals(table)


def test_candidates_are_those_that_the_generator_finds(folders):
    ranker = Ranker(folders["GenCI"])
    saved = ranker.run
    table = ranker.recommend(["u1"], k=3, candidates=5, exclude_seen=False)
    batch = next(iter(saved.loader("test")))[0]
    assert table["probability"].is_monotonic_decreasing and len(table) == 3
    whole = ranker.recommend(
        ["u1"], k=100, candidates=500, exclude_seen=False
    )  # as many as there are
    assert (
        whole["item"].tolist()
        == ranker.recommend(["u1"], k=100, exclude_seen=False)["item"].tolist()
    )
    # Of a row whose history is given, the generator finds what it finds for that row.
    found = saved.model.generate_items(batch, 5)[0][:1].sort(1).values
    user, clicks = int(batch["user_id"][0]), clicked_items(batch, "item_id_list")[0].numpy()
    clicks = clicks[clicks > 0]
    [user] = names_of(saved, "user_id", [user])
    own = ranker.recommend(
        [user],
        k=5,
        candidates=5,
        exclude_seen=False,
        histories={user: names_of(saved, "item_id", clicks)},
    )
    assert set(own["item"]) == set(names_of(saved, "item_id", found[0].numpy()))


def wide_enough(ranker, user, candidates, k):
    """The items that are ranked, by brute force: the generator's whole list, one user at a time."""
    saved = ranker.run
    number = saved.parts[0].field2token_id["user_id"][user]
    rows = [part.inter_feat for part in saved.parts]
    seen = {int(i) for feat in rows for i in feat["item_id"][feat["user_id"] == number]}
    width, last = candidates, len(ranker.items)
    while True:
        request = ranker._requests([user], None, None, 1)[0]
        found = [int(item) for item in ranker._generated(request, width)[0] if item]
        assert len(found) == min(width, last)
        unseen = [item for item in found if item not in seen]
        if len(unseen) >= k or width >= last:
            return names_of(saved, "item_id", np.array(unseen[:candidates], dtype=int))
        width = min(2 * width, last)


def test_seen_items_do_not_use_up_candidates(folders, monkeypatch, caplog):
    ranker, users = Ranker(folders["GenCI"]), [f"u{i}" for i in range(12)]
    everything = ranker.recommend(users, k=20)
    unseen = everything.groupby("user")["item"].agg(set)
    for size in (2**20, 40):
        monkeypatch.setattr("recbole_genci.serving.ranker.ROWS_AT_ONCE", size)
        caplog.clear()
        table = ranker.recommend(users, k=2, candidates=3)
        searched_again = 0
        for user in users:
            expected = wide_enough(ranker, user, 3, 2)
            scores = dict(zip(expected, ranker.score([user], expected)[0]))
            mine = table[table["user"] == user]
            assert mine["item"].tolist() == sorted(expected, key=lambda i: -scores[i])[:2]
            assert len(mine) == min(2, len(unseen[user]))
            first = ranker._generated(ranker._requests([user], None, None, 1)[0], 3)[0]
            searched_again += len(unseen[user] & set(names_of(ranker.run, "item_id", first))) < 2
        assert searched_again >= 6  # this data set has the fault
        short = [user for user in users if len(unseen[user]) < 2]
        assert ("fewer than k=2" in caplog.text) == bool(short)


def test_users_who_have_seen_almost_everything_are_counted(folders, caplog):
    ranker = Ranker(folders["GenCI"])
    items = [str(item) for item in ranker.items]
    left = ranker.recommend(["u1"], k=20)["item"].iloc[-1]
    clicks = {"u1": [item for item in items if item != left], "u2": items}
    for candidates in (5, None):
        caplog.clear()
        table = ranker.recommend(["u1", "u2", "u3"], 1, candidates, histories=clicks)
        assert "u2" not in set(table["user"])
        assert table[table["user"] == "u1"]["item"].tolist() == [left]
        assert "1 of 3 users gets fewer than k=1 items, the first is 'u2'" in caplog.text
    caplog.clear()
    ranker.recommend(ranker.users[:1], len(items))
    first = f"1 of 1 user gets fewer than k=20 items, the first is '{ranker.users[0]}': their"
    assert first in caplog.text
    caplog.clear()
    assert len(ranker.recommend(["u2"], 1, 5, exclude_seen=False)) == 1
    ranker.recommend(["u3"], k=len(items) + 5, exclude_seen=False)  # as many as there are
    assert "fewer than" not in caplog.text


def test_chunks_of_users_change_nothing(folders, monkeypatch):
    ranker, users = Ranker(folders["GenCI"]), [f"u{i}" for i in range(12)]
    scores, table = ranker.score(users), ranker.recommend(users, k=3)
    monkeypatch.setattr("recbole_genci.serving.ranker.ROWS_AT_ONCE", 50)
    np.testing.assert_allclose(ranker.score(users), scores, atol=1e-6)
    assert ranker.recommend(users, k=3)["item"].tolist() == table["item"].tolist()


def test_the_items_of_a_user_are_one_batch_with_the_scores_of_several(folders, monkeypatch):
    for name, most in (("GenCI", 4), ("DIN", 1)):
        saved = load(folders[name])
        ranker, batches, predict = Ranker(saved), [], saved.model.predict
        expected = ranker.score(["u1", "u2"])
        saved.config["eval_batch_size"] = 3  # 20 items

        def counted(batch, batches=batches, predict=predict):
            batches.append(len(batch))
            return predict(batch)

        monkeypatch.setattr(saved.model, "predict", counted)
        np.testing.assert_allclose(ranker.score(["u1", "u2"]), expected, atol=1e-6)
        assert sum(batches) == 40 and max(batches) == 3 * most
        # Few rows of each history fill no batch.
        batches.clear()
        np.testing.assert_allclose(
            ranker.score(["u1", "u2"], ranker.items[:2]), expected[:, :2], atol=1e-6
        )
        assert batches == [3, 1]


def test_what_cannot_be_served_is_refused_by_name(folders):
    ranker = Ranker(folders["DIN"])
    with pytest.raises(
        ValueError, match="user_id: 1 of 2 are unknown to this run, the first is 'u99'"
    ):
        ranker.score(["u1", "u99"])
    with pytest.raises(ValueError, match="item_id: 1 of 1 are unknown to this run, the first is 7"):
        ranker.score(["u1"], [7])
    with pytest.raises(ValueError, match=r"item_id: .* '\[PAD\]'"):
        ranker.score(["u1"], ["[PAD]"])
    with pytest.raises(ValueError, match="users: none"):
        ranker.score([])
    for users in (None, [["u1"]], 7):
        with pytest.raises(ValueError, match="user_id: "):
            ranker.recommend(users)
    np.testing.assert_array_equal(
        ranker.score(user for user in ["u1", "u2"]), ranker.score(["u1", "u2"])
    )
    with pytest.raises(
        ValueError, match=r"item_id: 'i1' is not a list of names, as \['i1'\] would be"
    ):
        ranker.score(["u1"], "i1")
    with pytest.raises(ValueError, match="item_id: 'i2' is not a list of names"):
        ranker.score(["u1"], histories={"u1": "i2"})
    for more in ({}, {"append": True}):
        unknown = "^histories: of 'u1', item_id: 1 of 2 are unknown to this run, the first is 'zz'"
        with pytest.raises(ValueError, match=unknown):
            ranker.score(["u1"], histories={"u1": ["i2", "zz"]}, **more)
        with pytest.raises(ValueError, match=unknown):
            ranker.recommend(["u1"], histories={"u1": ["i2", "zz"]}, **more)
    with pytest.raises(ValueError, match="histories: .'i2'. is not of the form {user"):
        ranker.score(["u1"], histories=["i2"])
    for table in (pd.DataFrame({"u1": ["i2"]}), pd.Series({"u1": ["i2"]})):
        with pytest.raises(ValueError, match="^histories: .* is not of the form {user") as error:
            ranker.score(["u1"], histories=table)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="^context: .* is not of the form {feature: value}"):
        ranker.score(["u1"], context=pd.Series({"hour": 3}))
    with pytest.raises(ValueError, match="histories: 'u2' is not one of the users"):
        ranker.score(["u1"], histories={"u2": ["i1"]})
    with pytest.raises(ValueError, match="candidates: DIN generates no items"):
        ranker.recommend(["u1"], candidates=20)
    with pytest.raises(
        ValueError, match="candidates: 5 is not a whole number of at least k, which is 10"
    ):
        Ranker(folders["GenCI"]).recommend(["u1"], candidates=5)
    with pytest.raises(ValueError, match="k: 0"):
        ranker.recommend(["u1"], k=0)
    with pytest.raises(ValueError, match="k: 1.5 is not"):
        ranker.recommend(["u1"], k=np.float64(1.5))
    with pytest.raises(ValueError, match="histories: 'u1' is not one of"):
        ranker.score(["u2"], histories={np.str_("u1"): []})
    with pytest.raises(
        ValueError, match="context: 'hour' is no feature of this run's rows; they have none"
    ):
        ranker.score(["u1"], context={"hour": 3})


def test_features_of_the_row_are_given_as_context(tmp_path):
    rows = tiny_rows(rows_per_user=40)
    keys = write_dataset(tmp_path / "data", rows)
    file, rng = tmp_path / "data/tiny/tiny.inter", np.random.default_rng(0)
    lines = file.read_text().splitlines()
    more = [
        [rng.choice(["phone", "tv"]), " ".join(rng.choice(list("abc"), 2)), f"{rng.random():.3f}"]
        for _ in lines[1:]
    ]
    head = "device:token\ttags:token_seq\tprice:float"
    file.write_text(
        "\n".join(
            [
                f"{lines[0]}\t{head}",
                *("\t".join([line, *own]) for line, own in zip(lines[1:], more)),
            ]
        )
        + "\n"
    )
    keys["load_col"] = keys["load_col"] | {
        "inter": [*keys["load_col"]["inter"], "device", "tags", "price"]
    }
    [result] = run(
        "DeepFM", "tiny", config_dict=keys | {"numerical_features": ["price"], "epochs": 2}
    )
    saved = load(result["folder"])
    ranker, test, (expected, _) = Ranker(saved), saved.parts[2], saved.predict("test")
    for row in range(0, len(test), 9):
        feat = test.inter_feat
        context = {
            "device": names_of(saved, "device", [int(feat["device"][row])])[0],
            "tags": names_of(saved, "tags", feat["tags"][row][feat["tags"][row] > 0].numpy()),
            "price": float(feat["price"][row, 0]),
        }
        user, item = (
            names_of(saved, field, [int(feat[field][row])]) for field in ("user_id", "item_id")
        )
        assert ranker.score(user, item, context=context).item() == pytest.approx(
            float(expected[row]), abs=1e-6
        )
    with pytest.raises(ValueError, match="context: rows have a feature 'tags'"):
        ranker.score(user, item, context={"device": "tv", "price": 0.5})
    with pytest.raises(
        ValueError, match="device: 1 of 1 are unknown to this run, the first is 'fridge'"
    ):
        ranker.score(user, item, context=context | {"device": "fridge"})
    padding = ranker.score(user, item, context=context | {"device": None})
    assert (
        padding
        == ranker.score(user, item, context=context | {"device": ""})
        != ranker.score(user, item, context=context)
    )
    for price in (None, "cheap", float("nan"), 10**400, [1, 2]):
        with pytest.raises(ValueError, match="context: 'price' is .*, which is no finite number"):
            ranker.score(user, item, context=context | {"price": price})
    with pytest.raises(ValueError, match="'price' is 1e.300, and models read numbers up to 3.4"):
        ranker.score(user, item, context=context | {"price": 1e300})
    row = pd.DataFrame([{"user_id": user[0], "item_id": item[0], **context}], dtype=object)
    with pytest.raises(ValueError, match="'price' is 1e.39, and models read .* .Row 1"):
        ranker.score_rows(row.assign(price=1e39))
    with pytest.raises(ValueError, match="'price' is 9+.*, which is no finite number"):
        ranker.score_rows(row.assign(price=[10**400 - 1]))
    with pytest.raises(ValueError, match="not finite, as a number among the features is too far"):
        ranker.score_rows(row.assign(price=3e38))
    missing = context | {"tags": None}
    assert ranker.score(user, item, context=missing) == ranker.score(
        user, item, context=context | {"tags": []}
    )
    with pytest.raises(ValueError, match="tags: 'a b' is not a list of names"):
        ranker.score(user, item, context=context | {"tags": "a b"})
    for device in (["tv"], np.array(["tv"])):
        with pytest.raises(ValueError, match="device: 1 of 1 are unknown"):
            ranker.score(user, item, context=context | {"device": device})


@pytest.mark.parametrize("name", ["DIN", "GenCI"])
def test_tokens_that_only_an_alias_of_items_has_are_not_recommended(tmp_path, name):
    rows = [row for row in tiny_rows() if row[1] != "i19"]  # which the .item file has
    keys = write_dataset(tmp_path / "data", rows) | (SMALL_GENCI if name == "GenCI" else {})
    file, pages = tmp_path / "data/tiny/tiny.inter", ["home", "i19", "i3", "cart"]
    head, *lines = file.read_text().splitlines()
    lines = [f"{line}\t{pages[number % 4]}" for number, line in enumerate(lines)]
    file.write_text("\n".join([f"{head}\tpage:token", *lines]) + "\n")
    load_col = keys["load_col"] | {"inter": [*keys["load_col"]["inter"], "page"]}
    keys |= {"load_col": load_col, "alias_of_item_id": ["page"]}
    (result,) = run(name, "tiny", config_dict=keys)
    ranker = Ranker(result.folder)
    every = {f"i{number}" for number in range(20)}
    new = pd.DataFrame(
        {"item_id": ["new"], "title": ["Story"], "year": ["1990"], "genre": ["Drama"]}
    )
    with pytest.raises(ValueError, match="items: 'home' stands only in columns of alias_of_item"):
        ranker.with_items(new.assign(item_id=["home"]))
    for each, items in ((ranker, every), (ranker.with_items(new), every | {"new"})):
        assert set(each.items) == items and len(each.items) == len(items)
        for candidates in (None, len(items) - 1) if name == "GenCI" else (None,):
            found = each.recommend(
                ["u1"],
                10**3 if candidates is None else candidates,
                candidates,
                exclude_seen=False,
                context={"page": "home"},
            )
            assert len(found) == (candidates or len(items))
            assert set(found["item"]) <= items
        best = each.recommend(["u1"], 3, context={"page": "home"})
        scores = each.score(["u1"], best["item"].tolist(), context={"page": "home"})
        np.testing.assert_allclose(scores[0], best["probability"], atol=1e-6)
        assert each.score(["u1"], context={"page": "home"}).shape == (1, len(items))
        unseen = each.recommend(["u1"], 100, context={"page": "home"})["item"]
        seen = {row[1] for row in rows if row[0] == "u1"}
        assert set(unseen) == items - seen
