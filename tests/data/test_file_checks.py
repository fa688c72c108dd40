"""What bad input gets: a sentence that names it, or a stated rule; never half a result."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_rows, write_dataset

from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.data.column_names import ROW_NUMBER
from recbole_genci.data.copies import count_copies
from recbole_genci.data.download import check_dataset
from recbole_genci.data.part_checks import check_parts
from recbole_genci.data.summary import warn_of_rows
from recbole_genci.plan import prepare_rows


def build(folder, damage=lambda folder: None, rows=None, model="DIN", **more):
    keys = write_dataset(folder, rows or tiny_rows()) | more
    damage(folder / "tiny")
    return create_dataset(Config(model, "tiny", config_dict=keys)).build()


def append(name, line):
    return lambda folder: (folder / name).write_text((folder / name).read_text() + line + "\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: (f / "tiny.inter").write_text(""),
            r"tiny\.inter is empty. Its first line must name its columns",
        ),
        (lambda f: (f / "tiny.item").write_text(""), r"tiny\.item is empty"),
        (
            append("tiny.inter", "u1\ti1\t1\tnan"),
            r"tiny\.inter could not be read: line 302 has 'nan' for timestamp:float",
        ),
        (
            append("tiny.inter", "u1\ti1\tgood\t5"),
            r"line 302 has 'good' for label:float. Write a number",
        ),
        (
            append("tiny.inter", "u1\ti1\t1\tinf"),
            r"tiny\.inter could not be read: line 302 has 'inf' for timestamp:float",
        ),
        (
            append("tiny.inter", "u1\ti1\t1\t"),
            r"tiny\.inter lacks a finite 'timestamp' in 1 of 301 rows, first in line 302",
        ),
        (
            append("tiny.inter", "u1\ti1\t1"),
            r"tiny\.inter could not be read: line 302 has 3 of 4 cells. Every line needs 4",
        ),
        (
            append("tiny.item", "i20\tStory"),
            r"tiny\.item could not be read: line 22 has 2 of 4 cells",
        ),
        (
            append("tiny.inter", "u1\ti1\t\t5"),
            r"tiny\.inter lacks a finite 'label' in 1 of 301 rows",
        ),
        (
            lambda f: (f / "tiny.item").write_bytes(
                (f / "tiny.item").read_bytes().replace(b"Story 1 ", b"St\xe9ry 1 ")
            ),
            r"tiny\.item (is not|could not be read).*key.* encoding",
        ),
    ],
    ids=[
        "empty rows",
        "empty items",
        "nan time",
        "word for a label",
        "infinite time",
        "no time",
        "row cut off",
        "item cut off",
        "no label",
        "other encoding",
    ],
)
def test_bad_files_are_named_with_the_line(tmp_path, damage, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, damage)


@pytest.mark.parametrize(
    ("suffix", "field", "before"),
    [
        ("user", "label:float", "inter"),
        ("user", "item_id:token", "inter"),
        ("item", "label:float", "inter"),
        ("item", "user_id:token", "user"),
        ("item", "age:token", "user"),
    ],
)
def test_a_column_of_two_files_is_refused_unless_one_is_read(tmp_path, suffix, field, before):
    """Else rows would get the label or id of their user's or item's line."""
    name = field.partition(":")[0]

    def damage(folder):
        lines = (folder / f"tiny.{suffix}").read_text().splitlines()
        lines = [f"{lines[0]}\t{field}", *(f"{line}\t0" for line in lines[1:])]
        (folder / f"tiny.{suffix}").write_text("\n".join(lines) + "\n")

    load_col = {"inter": ["user_id", "item_id", "label", "timestamp"], "user": "*", "item": "*"}
    message = f"'{name}' is read from .*tiny.{suffix} and from the .{before} file, and a row can"
    with pytest.raises(ValueError, match=message):
        build(tmp_path, damage, load_col=load_col)
    assert build(tmp_path / "2", damage)


@pytest.mark.parametrize(
    ("field", "kind", "should"),
    [
        ("timestamp:float", "timestamp:token", "timestamp:float"),
        ("label:float", "label:token", "label:float"),
        ("user_id:token", "user_id:float", "user_id:token"),
        ("item_id:token", "item_id:token_seq", "item_id:token"),
    ],
)
def test_a_column_of_another_type_than_its_use_needs_is_refused(tmp_path, field, kind, should):
    def damage(folder):
        text = (folder / "tiny.inter").read_text().replace(field, kind)
        (folder / "tiny.inter").write_text(
            text.replace("\nu", "\n") if kind == "user_id:float" else text
        )

    with pytest.raises(ValueError, match=f"tiny.inter declares '{kind}', which must be '{should}'"):
        build(tmp_path, damage)


def test_a_rating_as_a_word_is_refused_too(tmp_path):
    def damage(folder):
        (folder / "tiny.inter").write_text(
            (folder / "tiny.inter").read_text().replace("label:float", "rating:token")
        )

    load_col = {"inter": ["user_id", "item_id", "rating", "timestamp"]}
    with pytest.raises(ValueError, match="declares 'rating:token', which must be 'rating:float'"):
        build(tmp_path, damage, load_col=load_col, threshold={"rating": 1})


def test_numerical_features_are_loaded_numbers(tmp_path):
    choices = r"is no loaded column of type float or float_seq; those are timestamp\. Load it by"
    with pytest.raises(ValueError, match=f"numerical_features: 'pages' {choices} load_col"):
        build(tmp_path, numerical_features=["pages"])
    with pytest.raises(ValueError, match=r"transforms: 'pages' .*; those are timestamp\. "):
        build(tmp_path, transforms={"pages": "log"})

    def damage(folder):
        lines = (folder / "tiny.inter").read_text().splitlines()
        (folder / "tiny.inter").write_text(
            "\n".join([lines[0] + "\tprice:float", *(f"{line}\t" for line in lines[1:])]) + "\n"
        )

    load_col = {"inter": ["user_id", "item_id", "label", "timestamp", "price"]}
    with pytest.raises(ValueError, match="'price' has no value in any row"):
        build(tmp_path, damage, load_col=load_col, numerical_features=["price"])


@pytest.mark.parametrize(
    ("source", "asked", "again"),
    [("user", "age", "u3\t99"), ("item", "year, genre", "i3\tStory\t1999\tDrama")],
)
def test_features_are_asked_of_a_file_that_is_there_and_describes_each_once(
    tmp_path, source, asked, again
):
    with pytest.raises(
        FileNotFoundError,
        match=f"load_col: .*tiny.{source}, from which it asks for {asked}, does not exist",
    ):
        build(tmp_path, lambda folder: (folder / f"tiny.{source}").unlink())
    with pytest.raises(
        ValueError,
        match=f"tiny.{source} describes 1 of its {source}s twice, the first is '{source[0]}3'",
    ):
        build(tmp_path, append(f"tiny.{source}", again))
    nobody = again[again.index("\t") :]
    with pytest.raises(
        ValueError, match=rf"tiny.{source}: 2 lines have no {source}_id, the first is line \d+\. Wr"
    ):
        build(tmp_path, append(f"tiny.{source}", f"{nobody}\n{nobody}"))


def test_without_features_a_file_of_users_need_not_be_there(tmp_path):
    only_ids = {"inter": ["user_id", "item_id", "label", "timestamp"], "user": ["user_id"]}
    assert build(tmp_path, lambda folder: (folder / "tiny.user").unlink(), load_col=only_ids)


def test_what_the_label_is_made_of_is_no_feature(tmp_path):
    with pytest.raises(
        ValueError, match="numerical_features: 'label' is the label, or the label is made of it"
    ):
        build(tmp_path, numerical_features=["label"])
    with pytest.raises(
        ValueError, match="numerical_features: 'timestamp' is the label, or the label is made of it"
    ):
        build(
            tmp_path,
            model="DeepFM",
            numerical_features=["timestamp"],
            threshold={"timestamp": 1_700_000_020},
            TIME_FIELD=None,
            eval_args={"order": "RO"},
        )


def test_large_numbers_are_pointed_out(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        build(tmp_path, numerical_features=["timestamp"])
    assert (
        "numerical_features: 'timestamp' reaches 1.7e+09" in caplog.text
        and "normalize_field: [timestamp]" in caplog.text
    )
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        build(tmp_path, numerical_features=["timestamp"], normalize_field=["timestamp"])
    assert "reaches" not in caplog.text


def test_columns_that_are_not_there_are_named(tmp_path):
    with pytest.raises(
        ValueError,
        match="normalize_field: 'timestmap' is no loaded column of .*Did you mean 'timestamp'",
    ):
        build(tmp_path, normalize_field=["timestmap"])
    with pytest.raises(
        ValueError, match="val_interval: 'yaer' is no loaded column; .*Did you mean 'year'"
    ):
        build(tmp_path, val_interval={"yaer": "[1990,inf)"})


def test_a_filter_is_of_the_kind_of_its_column(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"val_interval: \[0, 1\] for 'label', a column of type float, is not an interval",
    ):
        build(tmp_path, val_interval={"label": [0, 1]})
    with pytest.raises(
        ValueError,
        match=r"val_interval: '\[1,2\]' for 'item_id', a column of type token, is not a list",
    ):
        build(tmp_path, val_interval={"item_id": "[1,2]"})
    with pytest.raises(ValueError, match="val_interval: 1990 for 'year' is no text.*it: '1990'"):
        build(tmp_path, val_interval={"year": ["1991", 1990]})
    parts = build(tmp_path, val_interval={"item_id": ["i1", "i2", "i3"]})
    assert (
        set(parts[0].field2id_token["item_id"]) == {"[PAD]", "i1", "i2", "i3"}
        and sum(map(len, parts)) < 300
    )


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    def damage(folder):
        for file in folder.iterdir():
            file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())

    assert sum(map(len, build(tmp_path, damage))) == 300


def test_files_of_a_given_split_need_ids_in_every_row(tmp_path):
    def damage(folder):
        lines = (folder / "tiny.inter").read_text().splitlines()
        for number, name in enumerate(("train", "valid", "test")):
            own = [lines[0], *lines[1 + 100 * number : 101 + 100 * number]]
            (folder / f"tiny.{name}.inter").write_text("\n".join(own) + "\n")

    files = {"benchmark_filename": ["train", "valid", "test"]}
    assert [len(part) for part in build(tmp_path, damage, **files)] == [100, 100, 100]

    def damage_more(folder):
        damage(folder)
        append("tiny.valid.inter", "\ti1\t1\t1700000001")(folder)

    with pytest.raises(
        ValueError, match="1 rows of benchmark_filename have no 'user_id' or no 'item_id'"
    ):
        build(tmp_path, damage_more, **files)


def test_of_repeated_rows_of_one_instant_the_first_in_the_file_is_kept(tmp_path):
    rows = [
        [f"u{user}", f"i{item}", label, 1_700_000_000 + item // 10]
        for user in range(6)
        for item in range(20)
        for label in (1, 0)
    ]
    for keep, label in (("first", 1), ("last", 0)):
        parts = build(tmp_path, rows=rows, rm_dup_inter=keep, eval_args={"order": "RO"})
        assert (
            all((part.inter_feat["label"] == label).all() for part in parts)
            and sum(map(len, parts)) == 120
        )
        order = np.concatenate([part.inter_feat[ROW_NUMBER].numpy() for part in parts]).argsort()
        items = np.concatenate([part.inter_feat["item_id"].numpy() for part in parts])[
            order
        ].reshape(6, 20)
        assert (items == items[0]).all()  # rows stay in the file's order


def test_another_encoding_is_read_when_it_is_named(tmp_path):
    def to_latin(folder):
        (folder / "tiny.item").write_bytes(
            (folder / "tiny.item").read_text().replace("Story 1 ", "Stéry 1 ").encode("latin-1")
        )

    assert len(build(tmp_path, to_latin, encoding="latin-1")[0])


def test_rows_of_users_and_items_without_features_are_left_out_and_counted_or_kept_with_padding(
    tmp_path, caplog
):
    def damage(folder):
        append("tiny.inter", "u1\tNEW\t1\t1700000001\nNEWU\ti1\t0\t1700000001")(folder)

    with caplog.at_level(logging.WARNING):
        parts = build(tmp_path, damage)
    assert sum(map(len, parts)) == 300 and "2 of 302 rows are left out" in caplog.text
    examples = "Rows have user_id 'NEWU', and tiny.user has 'u0', for example. Rows have item_id "
    assert examples + "'NEW', and tiny.item has 'i0', for example. Set filter_inter" in caplog.text
    parts = build(tmp_path, damage, filter_inter_by_user_or_item=False)
    assert sum(map(len, parts)) == 302
    item, user = parts[0].token2id("item_id", "NEW"), parts[0].token2id("user_id", "NEWU")
    assert parts[0].item_feat["year"][item] == 0 and (parts[0].item_feat["genre"][item] == 0).all()
    assert parts[0].user_feat["age"][user] == 0


@pytest.mark.parametrize(
    "lines",
    [
        {150: "u1\t\t1\t1700000001"},
        {0: "\ti3\t1\t1700000001", 5: "u1\t\t1\t1700000002"},
        {3: "\t\t0\t1700000001", 300: "u1\t\t1\t1700000002", 301: "\ti3\t1\t5"},
    ],
)
def test_rows_without_a_user_or_an_item_and_no_others_are_left_out(tmp_path, lines, caplog):
    def damage(folder):
        header, *rows = (folder / "tiny.inter").read_text().splitlines()
        for place, line in lines.items():
            rows.insert(place, line)
        (folder / "tiny.inter").write_text("\n".join([header, *rows]) + "\n")

    clean = build(tmp_path / "clean")
    with caplog.at_level(logging.WARNING):
        parts = build(tmp_path, damage)
    message = (
        f"{len(lines)} of {300 + len(lines)} rows have no 'user_id' or no 'item_id', first in line "
        f"{min(lines) + 2}"
    )
    assert message in caplog.text
    for found, expected in zip(parts, clean, strict=True):
        for column in ("user_id", "item_id", "timestamp", "label"):
            assert torch.equal(found.inter_feat[column], expected.inter_feat[column])


def test_repeated_interactions_are_rows_of_their_own_unless_asked_otherwise(tmp_path):
    rows = tiny_rows()
    pairs = {(u, i) for u, i, _, _ in rows}
    parts = build(tmp_path, rows=[*rows, rows[7]])
    assert sum(map(len, parts)) == len(rows) + 1
    # The two lines are of one instant, so that neither is in the other's history.
    for part in parts:
        batch = part.view(part.config)[np.arange(len(part))]
        for number, history in zip(
            part.inter_feat[ROW_NUMBER].tolist(), batch["item_id_list"].tolist()
        ):
            if number in (7, len(rows)):
                same = [r for r in rows if r[0] == rows[7][0] and r[2] == 1 and r[3] < rows[7][3]]
                assert np.count_nonzero(history) == min(len(same), 5)
    for keep in ("first", "last"):
        assert sum(map(len, build(tmp_path, rows=rows, rm_dup_inter=keep))) == len(pairs)


def without_copies(rows):
    return [list(row) for row in dict.fromkeys(map(tuple, rows))]


COPIES = (
    "of an earlier one (the same user_id, item_id, label, timestamp), so that a model may be tested"
    " on a row that it was trained on; take them out of the files"
)


@pytest.mark.parametrize(
    ("twice", "said"), [([], None), ([7], "1 of 301 rows is a copy "), ([7, 7, 9], "3 of 303 rows")]
)
def test_exact_copies_are_counted(tmp_path, caplog, twice, said):
    rows = without_copies(tiny_rows(rows_per_user=40))[:300]
    changed = [[*rows[3][:3], rows[3][3] + 1]]  # of another time: no copy
    build(tmp_path, rows=[*rows[1:], *changed, *(rows[each] for each in twice)])
    assert ("earlier one" in caplog.text) == bool(twice)
    if said:
        assert said in caplog.text and COPIES in caplog.text
        assert caplog.text.count("rm_dup_inter: first.") == 1


def test_copies_may_be_asked_away_and_are_judged_by_what_the_file_says(tmp_path, caplog):
    rows = without_copies(tiny_rows())
    build(tmp_path / "asked", rows=[*rows, rows[7]], rm_dup_inter="first")
    # Ratings that become the same label are still two ratings.
    graded = [[user, item, 2 + label, time] for user, item, label, time in rows]
    graded.append([*graded[0][:2], graded[0][2] + 3, graded[0][3]])
    keys = {"threshold": {"label": 3}, "LABEL_FIELD": "click"}
    build(tmp_path / "rated", rows=[row for row in graded if row[2] > 2], **keys)
    assert "earlier one" not in caplog.text
    build(tmp_path / "again", rows=[*graded, graded[1]], **keys)
    assert "1 of " in caplog.text and COPIES in caplog.text


def test_copies_in_files_that_are_split_already_are_not_left_to_a_key(tmp_path, caplog):
    rows = without_copies(tiny_rows(rows_per_user=40))[:300]

    def split(folder):
        header, *lines = (folder / "tiny.inter").read_text().splitlines()
        for part, start in (("train", 0), ("valid", 100), ("test", 200)):
            own = [header, *lines[start : start + 100], lines[0]]
            (folder / f"tiny.{part}.inter").write_text("\n".join(own) + "\n")

    build(tmp_path, split, rows=rows, benchmark_filename=["train", "valid", "test"])
    assert "3 of 303 rows are copies" in caplog.text and "rm_dup_inter" not in caplog.text


def test_hashes_of_regular_numbers_do_not_meet():
    grid = np.stack(np.meshgrid(range(200), range(50), range(7), indexing="ij")).reshape(3, -1)
    users, items, times = grid
    columns = [users, items, times / 4, 1_700_000_000.0 + times]
    assert count_copies(columns) == 0 == count_copies([each[:0] for each in columns])
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(users), 3 * len(users))
    columns = [column[drawn] for column in columns]
    assert count_copies(columns) == len(drawn) - len(np.unique(drawn))


def test_a_user_with_one_row_trains_and_one_with_two_is_also_tested(tmp_path):
    rows = [
        *tiny_rows(),
        ["solo", "i1", 1, 1_700_000_000],
        ["duo", "i1", 1, 1_700_000_000],
        ["duo", "i2", 0, 1_700_000_005],
    ]
    parts = build(tmp_path, rows=rows, filter_inter_by_user_or_item=False)
    count = {
        name: [int((p.inter_feat["user_id"] == p.token2id("user_id", name)).sum()) for p in parts]
        for name in ("solo", "duo")
    }
    assert count == {"solo": [1, 0, 0], "duo": [1, 0, 1]}


def test_a_catalogue_of_one_item_trains_and_scores(tmp_path):
    from conftest import SMALL_GENCI

    from recbole_genci.quick_start import run

    rows = [[f"u{i % 4}", "i0", (i // 4 + i) % 2, i] for i in range(120)]
    keys = write_dataset(tmp_path / "data", rows, num_items=1)
    for result in run("DeepFM,DIN,DIEN,GenCI", "tiny", config_dict=keys | SMALL_GENCI):
        assert 0 <= result["test"]["auc"] <= 1 and np.isfinite(result["test"]["logloss"])


def test_nan_scores_stop_the_evaluation(tmp_path):
    from recbole_genci.data import create_loaders
    from recbole_genci.evaluation.scoring import metrics_of, score_rows

    keys = write_dataset(tmp_path, tiny_rows())
    config = Config("LR", "tiny", config_dict=keys, compared_models=["GenCI"])
    loader = create_loaders(config, create_dataset(config).build())[2]

    class Broken(torch.nn.Module):
        def predict(self, interaction):
            return torch.where(interaction["label"] == 1, torch.nan, 0.5)

    with pytest.raises(
        FloatingPointError,
        match="Broken predicted .* scores that are not finite. Lower learning_rate",
    ):
        score_rows(Broken(), loader, config["device"])
    # What it would have been taken for by RecBole:
    labels = torch.tensor([0.0, 1.0, 0.0, 1.0])
    assert metrics_of(config, torch.tensor([0.5, torch.nan, 0.5, torch.nan]), labels)["auc"] == 1.0
    assert metrics_of(config, torch.tensor([0.1, 0.4, 0.35, 0.8]), labels)["auc"] == 1.0
    assert metrics_of(config, torch.tensor([0.1, 0.3, 0.35, 0.8]), labels)["auc"] == 0.75


@pytest.mark.parametrize(("source", "key"), [("user", "USER_ID_FIELD"), ("item", "ITEM_ID_FIELD")])
def test_features_are_loaded_with_the_id_of_whom_they_describe(tmp_path, source, key):
    feature = {"user": "age", "item": "year"}[source]
    own = {"inter": ["user_id", "item_id", "label", "timestamp"], source: [feature]}
    with pytest.raises(
        ValueError,
        match=rf"load_col: '{source}' lists {feature} without '{source}_id'.*\(key {key}\). Add it",
    ):
        build(tmp_path, load_col=own)


@pytest.mark.parametrize("file", ["tiny.inter", "tiny.item"])
def test_an_id_with_the_name_of_padding_is_refused(tmp_path, file):
    def damage(folder):
        text = (folder / file).read_text()
        (folder / file).write_text(
            text.replace("\ti3\t", "\t[PAD]\t").replace("\ni3\t", "\n[PAD]\t")
        )

    with pytest.raises(ValueError, match=r"'\[PAD\]' is a value of 'item_id' in tiny's files"):
        build(tmp_path, damage)


def test_times_beyond_exact_numbers_are_pointed_out(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        build(tmp_path / "seconds")
        assert "no longer exact" not in caplog.text
        build(
            tmp_path / "nanoseconds",
            lambda folder: (folder / "tiny.inter").write_text(
                (folder / "tiny.inter").read_text().rstrip("\n")
                + "\nu1\ti1\t1\t1700000000000000001\n"
            ),
        )
    assert (
        "'timestamp' reaches 1.7e+18, where a number of 64 bits is no longer exact: rows less than "
        "256 apart" in caplog.text
    )


def with_times(change):
    """A damage that makes other times of those of tiny.inter, ``[R]``, and of all its columns."""

    def damage(folder):
        file = folder / "tiny.inter"
        rows = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False)
        times = rows["timestamp:float"].astype(float).to_numpy()
        rows["timestamp:float"] = change(times, rows)
        rows.to_csv(file, sep="\t", index=False)

    return damage


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda times: np.where(np.arange(300) > 296, times * 1000, times),
            "'timestamp' is 1700000397000 in line 299, and 1700000250 in a usual row; 3 rows of "
            "300 are so far from it.",
        ),
        (
            lambda times: np.where(np.arange(300) == 5, 0, times),
            "'timestamp' is 0 in line 7, and 1700000250 in a usual row; 1 row of 300 is so far",
        ),
        (
            lambda times: np.where(np.arange(300) == 5, -1, times),
            "'timestamp' is -1 in line 7, and 1700000250 in a usual row; 1 row of 300 is so far",
        ),
    ],
)
def test_times_in_two_units_are_pointed_out(tmp_path, caplog, change, said):
    """With their first line, as they would stand at one end of their user's rows."""
    stamps = 1_700_000_100 + np.arange(300)
    build(tmp_path, with_times(lambda times, rows: change(stamps).astype("int64")))
    assert said in caplog.text


def test_small_or_steady_times_are_in_one_unit(tmp_path, caplog):
    """Counters may begin at 0; stamps may be of any year since 1973."""
    build(tmp_path / "a", with_times(lambda times, rows: np.arange(300) ** 3))
    build(tmp_path / "b", with_times(lambda times, rows: np.linspace(1e8, 4e9, 300).round()))
    assert "usual row" not in caplog.text


def test_a_column_of_tokens_without_any_is_pointed_out(tmp_path, caplog):
    def damage(folder):
        for name in ("tiny.inter", "tiny.item"):
            lines = (folder / name).read_text().splitlines()
            lines = [f"{lines[0]}\tin_{name[5:]}:token", *(f"{line}\t" for line in lines[1:])]
            (folder / name).write_text("\n".join(lines) + "\n")

    build(tmp_path, damage, load_col={"inter": "*", "item": "*"})
    assert "'in_inter' has no value in any row, so that models learn nothing of it" in caplog.text
    assert "'in_item' has no value in any item, so that" in caplog.text
    assert caplog.text.count("has no value in any") == 2


def first_without_click(rows, number):
    """Which rows ``[R]`` are the first ``number`` without a click."""
    is_none = rows["label:float"] == "0"
    return is_none & (is_none.cumsum() <= number)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda times, rows: "7", "all 300 rows have the same 'timestamp'"),
        (
            lambda times, rows: np.where(first_without_click(rows, 3), "6", "7"),
            "297 of 300 rows have the same 'timestamp'",
        ),
        (
            lambda times, rows: rows["user_id:token"].str.removeprefix("u"),
            "all {clicks} clicks share their 'timestamp' with another click of their user",
        ),
    ],
)
def test_equal_times_are_named_where_no_row_has_a_history(tmp_path, caplog, change, why):
    parts = build(tmp_path, with_times(change))
    warn_of_rows(parts)
    why = why.format(clicks=len(parts[0].history.keys))
    (said,) = [line for line in caplog.messages if line.startswith("No test row has a history")]
    assert said == (
        "No test row has a history: models that read histories have nothing to read, as "
        f"{why}; is it the right column (TIME_FIELD)?"
    )


def test_rows_without_a_history_are_not_blamed_on_different_times(tmp_path, caplog):
    parts = build(tmp_path)
    for part in parts:
        part.inter_feat[":history_start"] = part.inter_feat[":history_end"]
    warn_of_rows(parts)
    assert "have nothing to read." in caplog.text and "TIME_FIELD" not in caplog.text


@pytest.mark.parametrize(
    ("write", "rounding"),
    [("{:.5e}".format, "7 digits"), (lambda time: f"{np.float32(time):.0f}", "32 bits")],
)
def test_times_that_are_rounded_are_warned_of(tmp_path, caplog, write, rounding):
    exact = build(tmp_path / "exact")
    warn_of_rows(exact)
    assert "rounded" not in caplog.text
    warn_of_rows(
        build(tmp_path / "days", with_times(lambda times, _: (times - 1_699_980_000) * 86400))
    )
    assert "rounded" not in caplog.text
    step = 4000 if rounding == "7 digits" else 40
    low = exact[0].rank_times[0]
    times = with_times(lambda times, _: [write(1.7e9 + (each - low) * step) for each in times])
    warn_of_rows(build(tmp_path / "rounded", times))
    assert f"'timestamp' seems to be rounded to {rounding}: " in caplog.text
    assert "and neither is in the other's history. Write times with" in caplog.text


def test_labels_of_one_kind_are_said_to_be_so(tmp_path):
    def damage(folder):
        lines = (folder / "tiny.inter").read_text().splitlines()
        column = lines[0].split("\t").index("label:float")
        rows = [line.split("\t") for line in lines[1:]]
        rows = ["\t".join([*row[:column], "1", *row[column + 1 :]]) for row in rows]
        (folder / "tiny.inter").write_text("\n".join([lines[0], *rows]) + "\n")

    with pytest.raises(
        ValueError, match='All rows are clicks: labels .* docs/faq.md, "All rows are clicks", says'
    ):
        check_parts(build(tmp_path, damage))


@pytest.mark.parametrize(
    ("size", "smaller"), [(1024, 16), (252, 16), (28, 16), (27, None), (16, None), (2, None)]
)
def test_an_epoch_of_few_steps_is_warned_of_with_a_batch_size(tmp_path, caplog, size, smaller):
    parts = build(tmp_path, train_batch_size=size)
    warn_of_rows(parts)
    said = [line for line in caplog.messages if line.startswith("train_batch_size: ")]
    steps = -(-len(parts[0]) // size)
    assert len(parts[0]) == 252 and len(said) == (smaller is not None)
    if smaller:
        steps = f"{steps} step{'s' if steps > 1 else ''}"
        assert f"252 training rows in batches of {size} make only {steps} an epoch" in said[0]
        assert said[0].endswith(f"such as --train_batch_size={smaller}.")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        warn_of_rows(build(tmp_path, train_batch_size=size, min_patience_steps=400))
    said = [each for each in caplog.records if each.message.startswith("train_batch_size: ")]
    assert [each.levelname for each in said] == ["INFO"] * (smaller is not None)


def test_few_test_rows_are_pointed_out(tmp_path, caplog, monkeypatch):
    parts = build(tmp_path)
    said = f"With {len(parts[-1])} test rows two models may differ by several hundredths of AUC"
    for few, is_said in ((1000, True), (len(parts[-1]), False)):
        monkeypatch.setattr("recbole_genci.data.summary._FEW_TEST_ROWS", few)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            warn_of_rows(parts)
        assert (said in caplog.text) == is_said


GROUPED = (
    "and no user has more than {most}; each user's rows are divided, which takes 3 for one in each "
    "part and about 10 for 8:1:1. Give more rows, or change split in eval_args."
)


@pytest.mark.parametrize(
    ("rows", "args", "said"),
    [
        (["u1 i1 1 5", "u1 i2 0 6"], {}, f"valid rows: there are 2 rows in all, {GROUPED}"),
        (["u1 i1 1 5"], {}, f"valid rows: there is 1 row in all, {GROUPED}"),
        (
            [f"u{n % 2} i1 1 {n}" for n in range(4)],
            {},
            f"valid rows: there are 4 rows in all, {GROUPED}",
        ),
        (
            ["u1 i1 1 5", "u1 i2 0 6"],
            {"group_by": "none", "split": {"RS": [0.6, 0.2, 0.2]}},
            "valid rows: there are 2 rows in all; all rows are divided, which takes 3 for one in "
            "each part and about 5 for 3:1:1. Give",
        ),
        (
            ["u1 i1 1 5", "u1 i2 0 6"],
            {"split": {"LS": "valid_and_test"}},
            "valid rows: there are 2 rows in all, and no user has more than 2; each user's last",
        ),
        (
            ["u1 i1 1 5", "u1 i2 0 6"],
            {"split": {"TS": [0.8, 0.1, 0.1]}},
            "train rows: there are 2 rows in all. Give more rows, or change split in eval_args.",
        ),
    ],
)
def test_a_split_that_leaves_nothing_says_how_many_rows_it_needs(rows, args, said, tmp_path):
    def damage(folder):
        head = (folder / "tiny.inter").read_text().splitlines()[0]
        (folder / "tiny.inter").write_text("\n".join([head, *rows]).replace(" ", "\t") + "\n")

    most = max(sum(row.startswith(user) for row in rows) for user in ("u0", "u1"))
    said = "eval_args: the split leaves no " + said.format(most=most)
    with pytest.raises(ValueError) as error:
        check_parts(build(tmp_path, damage, eval_args=args))
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("shares", [[0.8, 0.1, 0.1], [0.2, 0.4, 0.4], [0.98, 0.01, 0.01]])
def test_three_rows_of_a_user_are_one_for_each_part(shares, tmp_path):
    def damage(folder):
        head = (folder / "tiny.inter").read_text().splitlines()[0]
        rows = [f"u{user}\ti1\t{user}\t{time}" for user in (0, 1) for time in range(3)]
        (folder / "tiny.inter").write_text("\n".join([head, *rows]) + "\n")

    parts = build(tmp_path, damage, eval_args={"split": {"RS": shares}})
    assert list(map(len, parts)) == [2, 2, 2]


def test_a_sequence_is_no_filter(tmp_path):
    with pytest.raises(ValueError, match="val_interval: 'genre' is a column of type token_seq"):
        build(tmp_path, val_interval={"genre": ["Action"]})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"alias_of_user_id": ["a"]},
            "alias_of_user_id: 'a' is no loaded column of type token or token_seq; those are",
        ),
        ({"alias_of_item_id": ["label"]}, "alias_of_item_id: 'label' is no loaded column"),
        (
            {"alias_of_user_id": ["year"], "alias_of_item_id": ["year"]},
            "alias_of_item_id: 'year' cannot hold both user IDs and item IDs",
        ),
        ({"alias_of_item_id": ["user_id"]}, "alias_of_item_id: 'user_id' cannot hold both"),
    ],
)
def test_an_alias_is_a_column_of_tokens_of_one_kind(tmp_path, keys, message):
    asked = write_dataset(tmp_path, tiny_rows()) | keys
    with pytest.raises(ValueError, match=f"^{message}"):
        create_dataset(Config("DeepFM", "tiny", config_dict=asked))


def test_preloaded_weights_are_not_looked_at(tmp_path):
    asked = write_dataset(tmp_path, tiny_rows()) | {"preload_weight": {"no": "column"}}
    assert len(create_dataset(Config("DeepFM", "tiny", config_dict=asked)).inter_feat)


def change_items(old, new):
    def damage(folder):
        text = (folder / "tiny.item").read_text()
        assert old in text
        (folder / "tiny.item").write_text(text.replace(old, new))

    return damage


@pytest.mark.parametrize("word", ["inf", "-inf", "nan", "1e39", "old"])
def test_a_feature_that_is_no_number_is_named_by_line(tmp_path, word):
    def damage(folder):
        lines = (folder / "tiny.item").read_text().replace("year:token", "year:float").splitlines()
        lines[4] = lines[4].replace("1993", word)
        (folder / "tiny.item").write_text("\n\n".join(lines))

    with pytest.raises(ValueError, match=rf"tiny.item .*line 9 has '{word}' for year:float"):
        build(tmp_path, damage, numerical_features=["year"])
    damage = change_items("genre:token_seq", "genre:float_seq")
    with pytest.raises(ValueError, match="tiny.item .*line 2 has 'Action' for genre:float_seq"):
        build(tmp_path / "sequence", damage, numerical_features=["genre"])


def test_blank_lines_do_not_shift_the_lines_of_messages(tmp_path, caplog):
    def damage(more):
        def spread(folder):
            text = (folder / "tiny.inter").read_text().replace("\n", "\n\n", 7)
            (folder / "tiny.inter").write_text(text + more)

        return spread

    with pytest.raises(ValueError, match="lacks a finite 'label' .* first in line 309"):
        build(tmp_path, damage("u1\ti1\t\t5\n"))
    with caplog.at_level(logging.WARNING):
        build(tmp_path, damage("u1\t\t1\t5\n"))
    assert "no 'item_id', first in line 309" in caplog.text
    again = change_items("i3\t", "i2\t")
    with pytest.raises(ValueError, match="the first is 'i2', in line 5"):
        build(tmp_path, again)


def test_a_line_of_a_given_split_is_named_with_its_file(tmp_path):
    def damage(folder):
        lines = (folder / "tiny.inter").read_text().splitlines()
        for number, name in enumerate(("train", "valid", "test")):
            own = [lines[0], *lines[1 + 100 * number : 101 + 100 * number]]
            if name == "valid":
                own[5] = own[5].rpartition("\t")[0] + "\t"
            (folder / f"tiny.{name}.inter").write_text("\n".join(own) + "\n")

    with pytest.raises(ValueError, match="first in line 6 of tiny.valid.inter"):
        build(tmp_path, damage, benchmark_filename=["train", "valid", "test"])


def test_sequences_that_another_separator_divides_are_pointed_out(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        build(tmp_path / "spaces")
        assert "seq_separator" not in caplog.text
        damage = change_items(" Drama\n", "|Drama\n")
        build(tmp_path, lambda folder: (damage(folder), change_items(" T", "|T")(folder)))
    assert "no cell of 'genre' has the seq_separator ' ', but 10 of 20 have '|'" in caplog.text
    assert "such as 'Comedy|Drama'" in caplog.text and "set seq_separator: '|'" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        parts = build(tmp_path, change_items("Comedy Drama", "Comedy|Drama"), seq_separator="|")
    assert "seq_separator" not in caplog.text
    assert "Drama" in parts[0].field2token_id["genre"]


def test_labels_and_a_threshold_are_one_too_many(tmp_path):
    threshold = {"threshold": {"timestamp": 1_700_000_009}, "TIME_FIELD": None}
    keys = {"eval_args": {"order": "RO", "split": {"RS": [8, 1, 1]}, "group_by": "none"}}
    with pytest.raises(ValueError, match="^threshold: it makes labels of 'timestamp', and the row"):
        build(tmp_path, model="DeepFM", **threshold, **keys)
    columns = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    assert len(build(tmp_path, model="DeepFM", **threshold, **keys, **columns)) == 3


def test_a_sequence_far_longer_than_the_others_is_pointed_out(tmp_path, caplog):
    many = " ".join(f"g{n}" for n in range(300))
    damage = change_items("1993\tHorror Thriller", f"1993\t{many}")
    with caplog.at_level(logging.WARNING):
        build(tmp_path, damage)
    assert (
        "item field 'genre': one row has 300 tokens, 99 % have at most 2; every batch that has it "
        "is padded to it, in memory and time. Set seq_len: {genre: 2}." in caplog.text
    )
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        build(tmp_path, damage, seq_len={"genre": 2})
    assert "genre" not in caplog.text


@pytest.mark.parametrize("suffix", ["emb", ["emb"], ["item"], [""]])
def test_additional_files_are_refused(tmp_path, suffix):
    asked = write_dataset(tmp_path, tiny_rows()) | {"additional_feat_suffix": suffix}
    with pytest.raises(ValueError, match="^additional_feat_suffix: .* which no CTR model reads"):
        create_dataset(Config("DeepFM", "tiny", config_dict=asked))


@pytest.mark.parametrize("field", ["nofield", "year", 1])
def test_a_limit_for_no_sequence_is_refused(tmp_path, field):
    with pytest.raises(ValueError, match=f"seq_len: '{field}' is no loaded column of type token_s"):
        build(tmp_path, seq_len={field: 3})


def test_rows_that_32_bits_cannot_number_are_refused(tmp_path, monkeypatch):
    keys = write_dataset(tmp_path, tiny_rows())
    monkeypatch.setattr("recbole_genci.utils.atomic_files.reading.MOST_ROWS", 299)
    with pytest.raises(ValueError, match=r"tiny.inter has more than 299 rows, the most that one"):
        create_dataset(Config("DIN", "tiny", config_dict=keys))
    monkeypatch.undo()
    monkeypatch.setattr("recbole_genci.data.splitting.MOST_ROWS", 299)
    with pytest.raises(
        ValueError, match="^dataset tiny: its files have 300 rows together, and one"
    ):
        create_dataset(Config("DIN", "tiny", config_dict=keys))


@pytest.mark.parametrize("kind", ["token", "token_seq"])
def test_a_numerical_feature_that_is_read_as_a_token_is_said_to_be_one(tmp_path, kind):
    def damage(folder):
        lines = (folder / "tiny.inter").read_text().splitlines()
        rows = [f"{lines[0]}\tsite:{kind}", *(f"{line}\ts1" for line in lines[1:])]
        (folder / "tiny.inter").write_text("\n".join(rows) + "\n")

    load_col = {"inter": ["user_id", "item_id", "label", "timestamp", "site"]}
    said = rf"'site' is a column of type {kind}, which models .* call it 'site:float' in its file"
    with pytest.raises(ValueError, match=said):
        build(tmp_path, damage, load_col=load_col, numerical_features=["site"])
    with pytest.raises(
        ValueError, match=r"'item_id' is a column of type token, .* Leave it out\.$"
    ):
        build(tmp_path, numerical_features=["item_id"])


FORGOTTEN = {
    "a column of load_col": {"load_col": {"inter": ["user_id", "item_id", "clicked", "timestamp"]}},
    "a column of an id": {"load_col": {"inter": ["user_id", "label", "timestamp"]}},
    "a label": {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}},
    "a time": {"load_col": {"inter": ["user_id", "item_id", "label"]}, "TIME_FIELD": "timestamp"},
    "rows without a time": {"load_col": {"inter": ["user_id", "item_id", "label"]}},
    "files of a split": {"benchmark_filename": ["train", "valid", "test"]},
    "a column left out": {"unused_col": {"user": ["agr"]}},
}


@pytest.mark.parametrize("keys", FORGOTTEN.values(), ids=FORGOTTEN)
def test_a_forgotten_file_of_keys_is_named(tmp_path, keys, monkeypatch):
    file = tmp_path / "tiny/tiny.yaml"
    words = f"{file} has keys of this dataset: give --config_files={file}."
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        build(tmp_path, **keys)
    assert not hasattr(error.value, "__notes__")  # there is no such file
    file.write_text("{}")
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        build(tmp_path, **keys)
    assert error.value.__notes__ == [words]
    monkeypatch.chdir(tmp_path)
    file.rename("tiny.yaml")
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        build(tmp_path, **keys)
    here = "No --config_files was given, and tiny.yaml is there: give --config_files=tiny.yaml."
    assert error.value.__notes__ == [here]
    written = write_dataset(tmp_path, tiny_rows()) | keys
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        create_dataset(Config("DIN", "tiny", ["tiny.yaml"], config_dict=written))
    assert not hasattr(error.value, "__notes__")  # it was given


def test_a_forgotten_file_of_keys_is_named_where_it_is_no_error_of_columns(tmp_path, caplog):
    words = "No --config_files was given, and {0}.yaml is there: give --config_files={0}.yaml."
    for name in ("tiny", "ml-100k"):
        Path(f"{name}.yaml").write_text("data_path: elsewhere\n")
    with pytest.raises(ValueError, match="there is no folder") as error:
        check_dataset(Config("DIN", "tiny", config_dict={"data_path": str(tmp_path)}))
    assert error.value.__notes__ == [words.format("tiny")]
    with pytest.raises(ValueError, match="holds 3; labels must be 0 or 1") as error:
        build(tmp_path, append("tiny.inter", "u1\ti1\t3\t1800000000"))  # without its threshold
    assert error.value.__notes__ == [words.format("tiny")]
    # This package has keys of ml-100k, so its file may be about something else.
    assert Config("LR", "ml-100k").forgotten_keys() is None
    keys = write_dataset(tmp_path, tiny_rows()) | {
        "load_col": {"inter": ["user_id", "item_id", "label"]}
    }
    prepare_rows(Config("DeepFM", "tiny", config_dict=keys))
    (said,) = [each for each in caplog.messages if "rows have no time" in each]
    assert said.endswith(words.format("tiny"))


def test_a_misspelt_time_in_load_col_is_a_slip_and_no_choice(tmp_path, caplog):
    keys = write_dataset(tmp_path, tiny_rows()) | {
        "load_col": {"inter": ["user_id", "item_id", "label", "timestmp"]}
    }
    with pytest.raises(ValueError, match="field 'timestmp' .* Did you mean 'timestamp'?"):
        prepare_rows(Config("DeepFM", "tiny", config_dict=keys))
    assert not [each for each in caplog.messages if "rows have no time" in each]


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (["test", "train", "valid"], "train, valid, test"),
        (["train", "test"], "train, test, test"),
        (["b", "a", "c"], "a, b, c"),
    ],
)
def test_rows_that_are_split_already_are_seen(tmp_path, names, advice):
    def split(folder):
        rows = (folder / "tiny.inter").read_text()
        (folder / "tiny.inter").unlink()
        for name in names:
            (folder / f"tiny.{name}.inter").write_text(rows)

    said = rf"tiny\.inter does not exist; .*split already, set benchmark_filename: \[{advice}\]\.$"
    with pytest.raises(FileNotFoundError, match=said):
        build(tmp_path, split)
