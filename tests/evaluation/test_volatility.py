"""Volatility against a loop over Python sets, by hand, and on parts read from files and restored
from a run's folder.
"""

import copy
import shutil

import numpy as np
import pytest
import torch
from conftest import tiny_rows, write_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recbole.data.interaction import Interaction

from recbole_genci import load
from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.data.column_names import ROW_NUMBER, TIME_RANK
from recbole_genci.evaluation.volatility import DEFINITION, UserVolatility, groups, user_volatility
from recbole_genci.quick_start import run

nan = float("nan")


def reference(clicks, genres):
    """Volatility by user of ``(user, item, time, row)`` clicks, straight from the definition."""
    found = {}
    for user in {click[0] for click in clicks}:
        own = sorted((time, row, item) for who, item, time, row in clicks if who == user)
        sets = [genres[item] for _, _, item in own if genres[item]]
        steps = [1 - len(a & b) / len(a | b) for a, b in zip(sets, sets[1:])]
        found[user] = sum(steps) / len(steps) if steps else nan
    return found


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_volatility_equals_a_loop_over_sets(tiny_parts, data):
    part = copy.copy(tiny_parts[0][0])
    names = list(range(1, part.num("genre")))
    genres = [
        [],
        *(data.draw(st.lists(st.sampled_from(names), max_size=4)) for _ in range(1, part.item_num)),
    ]
    padded = torch.tensor(
        [row + [0] * (4 - len(row)) for row in genres]
    )  # an item may repeat a genre
    part.item_feat = Interaction(part.item_feat.interaction | {"genre": padded})
    row = st.tuples(
        st.integers(1, 4), st.integers(1, part.item_num - 1), st.integers(0, 3), st.booleans()
    )
    rows = data.draw(st.lists(row, min_size=1, max_size=25))
    number = data.draw(st.permutations(range(len(rows))))
    users, items, times, labels = (torch.tensor(column) for column in zip(*rows))
    part.inter_feat = Interaction(
        {
            "user_id": users,
            "item_id": items,
            "label": labels.float(),
            TIME_RANK: times,
            ROW_NUMBER: torch.tensor(number),
        }
    )
    found = user_volatility([part])
    clicks = [(user, item, time, n) for (user, item, time, label), n in zip(rows, number) if label]
    expected = reference(clicks, [set(row) for row in genres])
    assert found.users.tolist() == sorted({user for user, *_ in rows})
    np.testing.assert_allclose(
        found.volatility, [expected.get(user, nan) for user in found.users], atol=1e-12
    )


ROWS = [
    # ann: {A} -> {A, B} -> {C}: distances 1/2 and 1; her dislike of i3 does not count, nor do the
    # held-out last two.
    ["ann", "i0", 1, 10],
    ["ann", "i3", 0, 11],
    ["ann", "i1", 1, 12],
    ["ann", "i2", 1, 13],
    ["ann", "i2", 1, 14],
    ["ann", "i0", 0, 15],
    # bob: twice {C}, and i4 between them has no genre: 0.
    ["bob", "i2", 1, 5],
    ["bob", "i4", 1, 6],
    ["bob", "i2", 1, 7],
    ["bob", "i0", 1, 8],
    ["bob", "i0", 0, 9],
    # cat: one click with a genre.
    ["cat", "i0", 1, 1],
    ["cat", "i4", 1, 2],
    ["cat", "i1", 1, 3],
    ["cat", "i2", 0, 4],
    # dan: all at one instant, so the file's order counts: {A} -> {C} -> {A, B}: 1 and 1.
    ["dan", "i0", 1, 1],
    ["dan", "i2", 1, 1],
    ["dan", "i1", 1, 1],
    ["dan", "i0", 1, 20],
    ["dan", "i3", 0, 21],
]
GENRES = ["A", "A B", "C", "B", ""]


@pytest.fixture
def hand_keys(tmp_path):
    folder = tmp_path / "hand"
    folder.mkdir()
    lines = ["user_id:token\titem_id:token\tlabel:float\ttimestamp:float"] + [
        "\t".join(map(str, row)) for row in ROWS
    ]
    (folder / "hand.inter").write_text("\n".join(lines) + "\n")
    items = [f"i{i}\t{genres}\tx y\tk" for i, genres in enumerate(GENRES)]
    (folder / "hand.item").write_text(
        "\n".join(["item_id:token\tgenre:token_seq\ttags:token_seq\tkind:token", *items]) + "\n"
    )
    return {
        "data_path": str(tmp_path),
        "load_col": {
            "inter": ["user_id", "item_id", "label", "timestamp"],
            "item": ["item_id", "genre"],
        },
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"},
    }


def build(keys):
    return create_dataset(Config("DIN", "hand", config_dict=keys)).build()


def by_name(parts, found):
    return dict(zip(parts[0].id2token("user_id", found.users).tolist(), found.volatility.tolist()))


def test_volatility_and_groups_by_hand(hand_keys):
    parts = build(hand_keys)
    found = user_volatility(parts)
    assert by_name(parts, found) == pytest.approx(
        {"ann": 0.75, "bob": 0.0, "cat": nan, "dan": 1.0}, nan_ok=True
    )
    assert found.threshold == 0.75
    rows = parts[0].token2id("user_id", np.array(["dan", "cat", "ann", "bob", "dan"]))
    assert groups(found, rows).tolist() == [
        "fast",
        "",
        "slow",
        "slow",
        "fast",
    ]  # ann is the median herself
    every = user_volatility(parts, training_only=False)
    # Held-out clicks: ann {C}, bob {A}, cat {A, B}, dan {A}.
    expected = {"ann": 0.5, "bob": 0.5, "cat": 0.5, "dan": (1 + 1 + 0.5) / 3}
    assert by_name(parts, every) == pytest.approx(expected)


def test_groups_of_unknown_users_and_of_nobody():
    found = UserVolatility(np.array([2, 5, 7]), np.array([0.2, nan, 0.4]))
    assert groups(found, np.array([1, 2, 3, 5, 7, 9])).tolist() == ["", "slow", "", "", "fast", ""]
    assert groups(found, np.array([], dtype=np.int64)).tolist() == []
    undefined = UserVolatility(np.array([2]), np.array([nan]))
    assert np.isnan(undefined.threshold) and groups(undefined, np.array([2])).tolist() == [""]
    assert groups(
        UserVolatility(np.array([], dtype=np.int64), np.array([])), np.array([3])
    ).tolist() == [""]


def test_the_definition_says_what_is_chosen():
    for word in (
        "median",
        "training clicks",
        "consecutive",
        "order of the .inter file",
        "volatility_field",
    ):
        assert word in DEFINITION


def load_items(*fields):
    return {
        "load_col": {
            "inter": ["user_id", "item_id", "label", "timestamp"],
            "item": ["item_id", *fields],
        }
    }


def test_a_field_of_single_tokens_serves_where_it_is_named(hand_keys):
    parts = build(hand_keys | load_items("kind") | {"volatility_field": "kind"})
    assert by_name(parts, user_volatility(parts)) == pytest.approx(
        {"ann": 0, "bob": 0, "cat": 0, "dan": 0}
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (load_items("kind"), "dataset hand has no loaded item field of type token_seq"),
        (
            {"load_col": {"inter": ["user_id", "item_id", "label", "timestamp"]}},
            "no loaded item field of type token_seq",
        ),
        (
            load_items("genre", "tags"),
            "several item fields of type token_seq, genre, tags; say which",
        ),
        (
            {"volatility_field": "genres"},
            "'genres' is no loaded item field .* has genre. Did you mean 'genre'",
        ),
        ({"volatility_field": "user_id"}, "'user_id' is no loaded item field"),
    ],
)
def test_data_without_genres_are_refused(hand_keys, keys, message):
    with pytest.raises(ValueError, match=f"^volatility_field: .*{message}"):
        user_volatility(build(hand_keys | keys))


def test_a_restored_run_has_the_volatility_of_the_files(tmp_path):
    keys = write_dataset(tmp_path / "data", tiny_rows())
    fresh = create_dataset(Config("DeepFM", "tiny", config_dict=keys)).build()
    expected = user_volatility(fresh)
    folder = run("DeepFM", "tiny", config_dict=keys)[0]["folder"]
    shutil.rmtree(tmp_path / "data")
    found = user_volatility(load(folder).parts)
    np.testing.assert_array_equal(found.users, expected.users)
    np.testing.assert_array_equal(found.volatility, expected.volatility)
    train = fresh[0]
    genres = [set(row[row > 0].tolist()) for row in train.item_feat["genre"]]
    columns = [
        train.inter_feat[name].tolist()
        for name in ("user_id", "item_id", TIME_RANK, ROW_NUMBER, "label")
    ]
    by_user = reference([row[:4] for row in zip(*columns) if row[4] == 1], genres)
    np.testing.assert_allclose(
        found.volatility, [by_user[user] for user in found.users], atol=1e-12
    )
    assert len(set(groups(found, found.users).tolist())) == 2


def test_the_shipped_datasets_name_their_field(ml100k_parts):
    found = user_volatility(ml100k_parts)
    assert len(found.users) == 943 and np.isnan(found.volatility).sum() <= 5
    share = (groups(found, found.users) == "fast").mean()
    assert 0.4 < share <= 0.5 and 0 < found.threshold < 1
    for name, field in {
        "ml-1m": "genre",
        "amazon-fashion": "categories",
        "amazon-instruments": "categories",
    }.items():
        config = Config("LR", name)
        assert config["volatility_field"] == field and field in config["load_col"]["item"]
