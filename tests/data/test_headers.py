"""Columns that keys leave out, and files of rows that are split already."""

import logging

import pytest
from conftest import tiny_rows, write_dataset

from recbole_genci.config import Config
from recbole_genci.data.dataset import create_dataset
from recbole_genci.plan import prepare

COLUMNS = ["user_id", "item_id", "label", "timestamp"]
SPLIT = ["train", "valid", "test"]


def build(keys, model="DeepFM"):
    return create_dataset(Config(model, "tiny", config_dict=keys)).build()


@pytest.fixture
def split(tmp_path):
    """Writes three files of rows, whose column ``x`` has these types; None is no column."""

    def write(*kinds, **more):
        keys = write_dataset(tmp_path, tiny_rows()) | {"benchmark_filename": SPLIT} | more
        header, *lines = (tmp_path / "tiny/tiny.inter").read_text().splitlines()
        for number, (part, kind) in enumerate(zip(SPLIT, kinds, strict=True)):
            rows = lines[100 * number :][:100]
            if kind is not None:
                rows = [f"{line}\t{place % 3}" for place, line in enumerate(rows)]
            text = "\n".join([f"{header}\tx:{kind}" if kind else header, *rows])
            (tmp_path / f"tiny/tiny.{part}.inter").write_text(text + "\n")
        return keys

    return write


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (("token_seq", "token", "token"), r"token_seq in \S+train.inter and of type token in \S+v"),
        (("float", "float", "float_seq"), r"float in \S+train.inter and of type float_seq in \S+t"),
        (("token", "float", "token"), r"token in \S+train.inter and of type float in \S+valid"),
    ],
)
def test_a_column_has_one_type_in_all_files(split, kinds, said):
    keys = split(*kinds, load_col={"inter": [*COLUMNS, "x"]})
    with pytest.raises(ValueError, match=f"^benchmark_filename: 'x' is a column of type {said}"):
        build(keys)


@pytest.mark.parametrize("load_col", [None, {"inter": "*"}])
@pytest.mark.parametrize("kinds", [(None, "token", "token"), ("token", "token", None)])
def test_a_feature_is_in_all_files(split, kinds, load_col):
    lacks = "train" if kinds[0] is None else "test"
    said = rf"^benchmark_filename: \S+ has the column 'x', which .* and \S+tiny.{lacks}.inter does"
    with pytest.raises(ValueError, match=said):
        build(split(*kinds, load_col=load_col))
    unloaded = {"unload_col": {"inter": ["x"]}}
    for leaves_out in (unloaded, {"unused_col": {"inter": ["x"]}}):
        assert "x" not in build(split(*kinds, load_col=load_col) | leaves_out)[0].row_features
    keys = split("float", "float", None, load_col=load_col)
    assert "x" not in build(keys)[0].row_features  # no feature: it may be missing
    with pytest.raises(ValueError, match=said.replace(lacks, "test")):
        build(keys | {"numerical_features": ["x"]})
    with pytest.raises(ValueError, match=said.replace(lacks, "test")):
        build(keys | {"transforms": {"x": {"buckets": 3}}})


def test_a_split_that_does_nothing_is_told(split, caplog):
    keys = split("token", "token", "token", load_col={"inter": [*COLUMNS, "x"]})
    told = "eval_args: this key does nothing here. The files of benchmark_filename are split"
    for args, is_told in (({"mode": "labeled"}, False), ({"split": {"RS": [7, 2, 1]}}, True)):
        caplog.clear()
        prepare("DeepFM", "tiny", config_dict=keys | {"eval_args": args})
        assert (told in caplog.text) == is_told


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"load_col": None, "unload_col": {"item": ["yaer"]}},
            r"^unload_col: 'yaer' is no column of \S+tiny.item; .* Did you mean 'year'\?",
        ),
        ({"unused_col": {"item": ["yaer"]}}, r"^unused_col: 'yaer' .* Did you mean 'year'\?"),
        ({"unused_col": {"item": "year"}}, r"^unused_col: 'year' for 'item' is not a list of col"),
        ({"unused_col": {"inter": ["label"]}}, "^unused_col: 'label' of 'inter' is an id or the"),
        ({"unused_col": {"inter": ["user_id"]}}, "^unused_col: 'user_id' of 'inter' is an id"),
        ({"unused_col": {"item": ["item_id"]}}, "^unused_col: 'item_id' of 'item' is an id"),
    ],
)
def test_a_column_that_cannot_be_left_out_is_named(tmp_path, keys, said):
    with pytest.raises(ValueError, match=said):
        build(write_dataset(tmp_path, tiny_rows()) | keys)


def test_a_column_of_a_file_that_is_not_there_is_named(tmp_path):
    keys = write_dataset(tmp_path, tiny_rows()) | {"load_col": {"inter": COLUMNS}}
    (tmp_path / "tiny/tiny.user").unlink()
    with pytest.raises(ValueError, match="^unused_col: 'age' would be .* it does not exist. Leave"):
        build(keys | {"unused_col": {"user": ["age"]}})
    (tmp_path / "tiny/tiny.user").write_text("")
    with pytest.raises(ValueError, match="^unused_col: 'age' .* load_col reads nothing of it"):
        build(keys | {"unused_col": {"user": ["age"]}})
    assert len(build(keys)) == 3  # nobody reads the empty file


def test_rows_that_an_interval_of_users_leaves_out_are_no_surprise(tmp_path, caplog):
    keys = write_dataset(tmp_path, tiny_rows())
    with caplog.at_level(logging.WARNING):
        parts = build(keys | {"val_interval": {"age": ["20", "21"]}})
    assert sum(map(len, parts)) < 300 and "no line in the .user" not in caplog.text
    (tmp_path / "tiny/tiny.user").write_text("user_id:token\tage:token\nu0\t20\nu1\t21\n")
    with caplog.at_level(logging.WARNING):
        parts = build(keys | {"val_interval": {"age": ["20"]}})
    assert sum(map(len, parts)) == 25
    assert "250 of 300 rows are left out, because their user or item has no line" in caplog.text
