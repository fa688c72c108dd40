"""The table of keys: checks, help and documents use what properties files say of each key."""

import math
import re

import numpy as np
import pytest
from conftest import TINY, tiny_rows, write_dataset

from recbole_genci.config import Config
from recbole_genci.config.keys import key_table, properties_folder, read_keys
from recbole_genci.config.kind import parse_kind
from recbole_genci.data import create_dataset
from recbole_genci.model.registry import known_models


@pytest.mark.parametrize(
    ("words", "taken", "refused", "expected"),
    [
        ("bool", [True, False], [1, "True", None], "True or False"),
        (
            "int >= 1",
            [1, 7, np.int64(3)],
            [0, 1.0, True, "1", None],
            "a whole number of at least 1",
        ),
        (
            "float > 0",
            [1, 0.5, np.float32(2)],
            [0, -1.0, math.inf, math.nan, "1", True],
            "a number above 0",
        ),
        ("float in [0, 1)", [0, 0.99], [1, 1.0, -0.1], "a number from 0 to below 1"),
        ("float in (0, 1]", [1, 0.01], [0, 1.1], "a number above 0 to 1"),
        ("int in [1, 65535]", [1, 65535], [0, 65536], "a whole number from 1 to 65535"),
        ("str", ["", "a"], [1, None, ["a"]], "a text"),
        ("str: a | b", ["a", "b"], ["c", "", 1], "one of a, b"),
        ("str or ~", ["a", None], [1], "a text, or None (~)"),
        (
            "list of int >= 1",
            [[1], (2, 3)],
            [[], [0], 1, "[1]", None],
            "each a whole number of at least 1",
        ),
        ("list", [[], ["a"]], ["a", {}, None], "a list"),
        ("dict like {rating: 4}", [{"rating": 4}, {}], [4, [1]], "of the form {rating: 4}"),
        ("any", [None, 1, "a", []], [], ""),
    ],
)
def test_a_kind_takes_what_it_says(words, taken, refused, expected):
    kind = parse_kind(words)
    assert all(map(kind.accepts, taken)) and not any(map(kind.accepts, refused))
    assert expected in kind.expected() and kind.words == words
    for value in refused:
        said = kind.refusal("key", value)
        assert (
            said.startswith(f"key: {value!r} is not {kind.expected()}.")
            or words == "bool"
            and "neither" in said
        )


@pytest.mark.parametrize(
    "words", ["int >= many", "float between 0 and 1", "list of > 0", "str a b", "bool: x"]
)
def test_brackets_that_begin_like_a_kind_must_go_on_like_one(words):
    with pytest.raises(ValueError, match="begins like the kind of a key|is no range"):
        parse_kind(words)
    assert parse_kind("see README") is None and parse_kind("authors' name") is None


def test_every_key_of_every_model_has_a_kind_and_a_default_of_it():
    table = key_table(known_models(), "ml-100k")
    without = {key.name for key in table.values() if key.kind is None}
    assert without == {"order_list", "fields"} & without, f"no kind: {without}"
    for model in known_models():
        for key in key_table([model], "ml-1m").values():
            key.check(key.default)


def test_every_line_of_ours_says_what_its_key_takes_and_means():
    ours = properties_folder()
    for file in [ours / "overall.yaml", *sorted((ours / "model").glob("*.yaml"))]:
        for key in read_keys([file]).values():
            whole = key_table([file.stem] if file.parent.name == "model" else [])[key.name]
            assert whole.kind is not None, (file.name, key.name)
            assert whole.meaning or whole.kind.words, (file.name, key.name)


def test_a_line_with_a_kind_replaces_the_meaning_and_a_remark_joins_it(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "rate: 1  # (float > 0) Of learning.\nsize: 2  # (int >= 1) Wide.\n"
    )
    (tmp_path / "b.yaml").write_text("rate: 3  # By tuning.\nsize: 4  # (int >= 2) Wider.\n")
    table = read_keys([tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "absent.yaml"])
    assert (table["rate"].default, table["rate"].meaning) == (3, "Of learning. By tuning.")
    assert (table["size"].kind.words, table["size"].meaning) == ("int >= 2", "Wider.")
    (tmp_path / "c.yaml").write_text("# Of mine\n\nrate: 1  # (float over 0) Of learning.\n")
    with pytest.raises(ValueError, match="c.yaml, line 3: .*'over 0' is no range"):
        read_keys([tmp_path / "c.yaml"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mu": "-1e999"}, "mu: -inf is not a number of at least 0."),
        ({"learning_rate": float("inf")}, "learning_rate: inf is not a number above 0."),
        ({"encoding": 64}, "encoding: 64 is not a text."),
        ({"ITEM_ID_FIELD": ["a"]}, "ITEM_ID_FIELD: ['a'] is not a text."),
        ({"NEG_PREFIX": 1}, "NEG_PREFIX: 1 is not a text."),
        ({"alias_of_item_id": "x"}, "alias_of_item_id: 'x' is not a list."),
        ({"worker": -1}, "worker: -1 is not a whole number of at least 0."),
        ({"port": 70000}, "port: 70000 is not a whole number from 1 to 65535."),
        (
            {"item_text_fields": "[title]"},
            "item_text_fields: '[title]' is not a list of one or more entries",
        ),
        ({"sr_loss": None}, "sr_loss: None is not one of bce, mse."),
    ],
)
def test_a_value_of_another_kind_is_one_sentence(keys, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Config(
            "GenCI",
            "ml-100k",
            argv=[f"--{key}={value}" for key, value in keys.items()]
            if isinstance(next(iter(keys.values())), str)
            else (),
            config_dict=keys,
        )


def test_keys_that_do_nothing_are_said_to(tmp_path, caplog):
    from recbole_genci.plan import prepare

    keys = write_dataset(tmp_path, tiny_rows()) | {"topk": 10, "loss_type": "CE"}
    prepare(
        "LR,DeepFM",
        "tiny",
        config_dict={k: v for k, v in keys.items() if k in {*LR_KEYS, "topk", "loss_type"}},
    )
    said = [record.message for record in caplog.records if "does nothing here" in record.message]
    assert said == [
        "topk: this key does nothing here. AUC and LogLoss look at all rows, not at the first k.",
        "loss_type: this key does nothing here. CTR models use binary cross-entropy.",
    ]


LR_KEYS = {
    "load_col",
    "MAX_ITEM_LIST_LENGTH",
    "epochs",
    "train_batch_size",
    "eval_batch_size",
    "metrics",
    "gpu_id",
    "data_path",
    "latency_repeats",
}


def test_a_star_loads_every_column_of_a_file(tmp_path):
    keys = {k: v for k, v in write_dataset(tmp_path, tiny_rows()).items() if k in LR_KEYS}
    named = create_dataset(Config("LR", "tiny", config_dict=keys))
    star = TINY["load_col"] | {"inter": "*", "item": "*"}
    every = create_dataset(Config("LR", "tiny", config_dict=keys | {"load_col": star}))
    assert set(every.field2type) - set(named.field2type) == {"title"}
    for field in named.inter_feat.columns:
        assert np.array_equal(named.inter_feat[field], every.inter_feat[field])
    none = create_dataset(Config("LR", "tiny", config_dict=keys | {"load_col": None}))
    assert set(none.field2type) == set(every.field2type)
    with pytest.raises(ValueError, match=r"unload_col: '\*' for 'inter' is not a list of columns"):
        Config("LR", "tiny", config_dict=keys | {"unload_col": {"inter": "*"}})
