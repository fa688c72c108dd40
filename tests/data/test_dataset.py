"""Rows, labels, splits and errors of CTRDataset, on ml-100k and on small files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recbole
import torch
from conftest import tiny_rows, write_dataset

from recbole_genci.config import Config
from recbole_genci.data import create_dataset, create_loaders, storage
from recbole_genci.data.column_names import HISTORY_END, HISTORY_START, ROW_NUMBER
from recbole_genci.data.fingerprint import data_fingerprint
from recbole_genci.model.registry import get_model
from recbole_genci.utils.atomic_files import read_atomic_file


def raw_ml100k():
    file = Path(recbole.__file__).parent / "dataset_example/ml-100k/ml-100k.inter"
    frame = pd.read_csv(file, sep="\t").rename(columns=lambda c: c.split(":")[0])
    return frame[frame.rating != 3].reset_index(drop=True)


def test_ml100k_is_split_by_each_users_exact_time_order(ml100k_parts):
    raw = raw_ml100k()
    raw["row"] = np.arange(len(raw))
    assert sum(map(len, ml100k_parts)) == len(raw) == 72855
    part_of = np.full(len(raw), -1)
    for number, part in enumerate(ml100k_parts):
        part_of[part.inter_feat[ROW_NUMBER].numpy()] = number
    raw["part"] = part_of
    for _, rows in raw.groupby("user_id"):
        ordered = rows.sort_values(["timestamp", "row"])
        assert ordered.part.is_monotonic_increasing
        assert (ordered.part == 2).sum() == max(int(0.1 * len(rows)), 1)


def test_ml100k_labels_and_ids_are_those_of_the_raw_file(ml100k_parts):
    raw = raw_ml100k()
    for part in ml100k_parts:
        feat, rows = part.inter_feat, raw.iloc[part.inter_feat[ROW_NUMBER].numpy()]
        assert (feat["label"].numpy() == (rows.rating > 3)).all()
        for field in ("user_id", "item_id"):
            assert (
                part.field2id_token[field][feat[field].numpy()].astype(int)
                == rows[field].to_numpy()
            ).all()


def test_ml100k_histories_equal_a_loop_over_the_raw_file(ml100k_parts):
    raw = raw_ml100k()
    part = ml100k_parts[2].view(Config("DIN", "ml-100k"))
    chosen = np.random.default_rng(0).choice(len(part), 100, replace=False)
    batch = part[chosen]
    for place, row in enumerate(part.inter_feat[ROW_NUMBER].numpy()[chosen]):
        this = raw.iloc[row]
        earlier = raw[
            (raw.user_id == this.user_id) & (raw.rating > 3) & (raw.timestamp < this.timestamp)
        ]
        expected = earlier.sort_values("timestamp", kind="stable").item_id.tolist()[-50:]
        length = int(batch["item_length"][place])
        got = (
            part.field2id_token["item_id"][batch["item_id_list"][place, :length].numpy()]
            .astype(int)
            .tolist()
        )
        assert got == expected
        assert (batch["item_id_list"][place, length:] == 0).all()


def test_models_of_different_kinds_see_identical_rows_and_features(ml100k_parts):
    seen = {}
    others = ("FwFM", "NFM", "PNN", "FiGNN", "DeepFM", "DCNV2", "AutoInt", "xDeepFM", "DIN", "DIEN")
    for name in ("LR", *others):
        config = Config(name, "ml-100k")
        loaders = create_loaders(config, ml100k_parts)
        columns = ("user_id", "item_id", "label", "age", "class")
        batches = [
            [batch[0] if isinstance(batch, tuple) else batch for batch in loader]
            for loader in loaders
        ]
        seen[name] = [
            torch.cat([b[c].reshape(len(b), -1).double() for b in part])
            for part in batches
            for c in columns
        ]
        assert (
            all(b["item_id_list"].shape[1] == 50 for b in batches[0])
            if name in ("DIN", "DIEN")
            else True
        )
    for name in others:
        for mine, theirs in zip(seen["LR"], seen[name], strict=True):
            assert torch.equal(mine, theirs)


def test_columns_of_histories_are_not_features_of_context_models(ml100k_parts):
    model = get_model("DeepFM")(Config("DeepFM", "ml-100k"), ml100k_parts[0])
    assert set(model.token_field_names) == {
        "user_id",
        "item_id",
        "age",
        "gender",
        "occupation",
        "release_year",
    }
    assert model.token_seq_field_names == ["class"] and not model.float_field_names


def build(folder, rows, **keys):
    return create_dataset(
        Config("DIN", "tiny", config_dict=write_dataset(folder, rows) | keys)
    ).build()


@pytest.mark.parametrize(
    "eval_args",
    [
        {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "labeled"},
        {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "none", "mode": "labeled"},
        {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "labeled"},
        {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "labeled"},
        {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": "labeled"},
    ],
    ids=["random by user", "random", "global time", "leave one out", "time based"],
)
def test_histories_never_hold_what_the_split_holds_out(tmp_path, eval_args):
    rows = tiny_rows()
    parts = build(tmp_path, rows, eval_args=eval_args)
    held_out = np.concatenate([p.inter_feat[ROW_NUMBER].numpy() for p in parts[1:]])
    assert sum(map(len, parts)) == len(rows) and len(held_out)
    for number, part in enumerate(parts):
        view = part.view(part.config)
        batch = view[np.arange(len(part))]
        for place, row in enumerate(part.inter_feat[ROW_NUMBER].numpy()):
            user, _, _, time = rows[row]
            random_order = eval_args["order"] == "RO"
            expected = [
                (r[3], n, r[1])
                for n, r in enumerate(rows)
                if r[0] == user
                and r[2] == 1
                and r[3] < time
                and not (random_order and n in held_out)
            ]
            expected = [item for _, _, item in sorted(expected)][-5:]
            length = int(batch["item_length"][place])
            assert (
                list(part.field2id_token["item_id"][batch["item_id_list"][place, :length].numpy()])
                == expected
            )
        if number == 0 and eval_args["order"] == "TO":
            # In time order a training row's history is of training rows without being told so.
            frozen = build(tmp_path, rows, eval_args=eval_args, history_source="training")[0]
            again = frozen.view(part.config)[np.arange(len(part))]
            assert torch.equal(batch["item_id_list"], again["item_id_list"])


def test_frozen_histories_hold_training_rows_only(tmp_path):
    rows = tiny_rows()
    parts = build(tmp_path, rows, history_source="training")
    training = set(parts[0].inter_feat[ROW_NUMBER].tolist())
    clicked = {(rows[n][0], rows[n][1]) for n in training if rows[n][2] == 1}
    test = parts[2].view(parts[2].config)
    batch = test[np.arange(len(test))]
    for user, history in zip(batch["user_id"].tolist(), batch["item_id_list"].tolist()):
        name = test.field2id_token["user_id"][user]
        assert all(
            (name, test.field2id_token["item_id"][item]) in clicked for item in history if item
        )


def test_history_labels_all_counts_every_earlier_row(tmp_path):
    rows = tiny_rows()
    for labels in ("positive", "all"):
        parts = build(tmp_path, rows, history_labels=labels, MAX_ITEM_LIST_LENGTH=100)
        for part in parts:
            length = part.inter_feat[HISTORY_END] - part.inter_feat[HISTORY_START]
            for row, got in zip(part.inter_feat[ROW_NUMBER].tolist(), length.tolist()):
                u, _, _, t = rows[row]
                assert got == sum(
                    r[0] == u and r[3] < t and (labels == "all" or r[2] == 1) for r in rows
                )


def test_random_split_does_not_depend_on_the_global_random_state(tmp_path):
    eval_args = {
        "split": {"RS": [0.8, 0.1, 0.1]},
        "order": "RO",
        "group_by": "user",
        "mode": "labeled",
    }
    first = data_fingerprint(build(tmp_path, tiny_rows(), eval_args=eval_args))
    torch.rand(7)
    assert data_fingerprint(build(tmp_path, tiny_rows(), eval_args=eval_args)) == first
    # Nor on the seed of training: the runs of a table, apart, together or resumed, share rows and
    # negatives.
    one, other = (
        build(tmp_path, tiny_rows(), eval_args=eval_args, seed=seed)[0] for seed in (2020, 7)
    )
    assert torch.equal(one.history.negatives, other.history.negatives)
    assert data_fingerprint(build(tmp_path, tiny_rows(), eval_args=eval_args, seed=7)) == first
    assert data_fingerprint(build(tmp_path, tiny_rows(), eval_args=eval_args, data_seed=7)) != first
    changed = tiny_rows()
    changed[5][2] = 1 - changed[5][2]
    assert data_fingerprint(build(tmp_path, changed, eval_args=eval_args)) != first


def test_k_core_leaves_users_and_items_with_enough_rows(tmp_path):
    rows = tiny_rows(rows_per_user=8)
    parts = build(
        tmp_path, rows, user_inter_num_interval="[6,inf)", item_inter_num_interval="[4,inf)"
    )
    for field, least in (("user_id", 6), ("item_id", 4)):
        ids = torch.cat([p.inter_feat[field] for p in parts])
        assert (
            0 < len(ids) < len(rows)
            and np.unique(ids.numpy(), return_counts=True)[1].min() >= least
        )


def test_items_called_na_keep_their_rows_and_quotes_are_characters(tmp_path):
    rows = [
        ["u1", name, label, time]
        for time, (name, label) in enumerate(
            [("NA", 1), ("None", 0), ('"x', 1), ("nan", 1), ("i1", 0), ("i2", 1)]
        )
    ]
    parts = build(tmp_path, rows, filter_inter_by_user_or_item=False)
    tokens = parts[0].field2id_token["item_id"]
    ids = torch.cat([p.inter_feat["item_id"] for p in parts])
    assert sorted(tokens[ids.numpy()]) == sorted(["NA", "None", '"x', "nan", "i1", "i2"])


def test_a_dangling_feature_becomes_padding_and_an_empty_sequence_too(tmp_path):
    keys = write_dataset(tmp_path, tiny_rows())
    items = (tmp_path / "tiny/tiny.item").read_text().splitlines()
    (tmp_path / "tiny/tiny.item").write_text(
        "\n".join([items[0], "i0\tStory\t\t", *items[2:]]) + "\n"
    )
    part = create_dataset(Config("DeepFM", "tiny", config_dict=keys)).build()[0]
    place = list(part.field2id_token["item_id"]).index("i0")
    assert part.item_feat["year"][place] == 0 and (part.item_feat["genre"][place] == 0).all()
    assert (part.item_feat["year"] >= 0).all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"load_col": {"inter": ["user_id", "item_id", "lable", "timestamp"]}},
            r"load_col: field 'lable'.*tiny\.inter.*'label'",
        ),
        (
            {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "user": ["user_id"]}},
            r"no column 'label' and no threshold is set. .*tiny\.inter has 'label', but load_col "
            r"reads only user_id, item_id, timestamp. Set load_col: {inter: \[user_id, item_id, "
            r"timestamp, label\], user: \[user_id\]}. .*threshold: {rating: 4}",
        ),
        (
            {"load_col": {"inter": "*"}, "unload_col": {"inter": ["label"]}},
            "tiny.inter has 'label', but unload_col leaves it out; take it out of unload_col.",
        ),
        (
            {"LABEL_FIELD": "lable"},
            "no column 'lable' .*tiny.inter has user_id, item_id, label, timestamp. Did you mean "
            "'label'. Labels of 0 and 1 are in",
        ),
        (
            {"LABEL_FIELD": "click", "load_col": {"inter": ["user_id", "item_id", "timestamp"]}},
            "has user_id, item_id, label, timestamp, of which load_col reads user_id, item_id, tim",
        ),
        (
            {"threshold": {"ratings": 3}},
            "threshold: the rows have no column 'ratings', of .*tiny.inter has user_id, item_id, l",
        ),
        (
            {
                "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
                "threshold": {"label": 1},
                "LABEL_FIELD": "click",
            },
            r"threshold: .*Set load_col: {inter: \[user_id, item_id, timestamp, label\]}.$",
        ),
        (
            {"load_col": {"inter": ["user_id", "item_id", "label"]}},
            r"TIME_FIELD: DIN reads .*no time. .*tiny.inter has 'timestamp', but .* Set load_col: "
            r"{inter: \[user_id, item_id, label, timestamp\]}, or choose a model without",
        ),
        (
            {"TIME_FIELD": "timestamp", "load_col": {"inter": ["user_id", "item_id", "label"]}},
            "TIME_FIELD: the rows of tiny have no column 'timestamp'. .* Set load_col: .* Or set",
        ),
        (
            {"USER_ID_FIELD": "user", "load_col": {"inter": "*"}},
            "gave no column 'user'. .*has user_id, item_id, label, timestamp. Did you mean 'user_",
        ),
        ({"load_col": {"inter": ["item_id", "label", "timestamp"]}}, "USER_ID_FIELD"),
        (
            {"val_interval": {"label": "[7,9]"}},
            "no row of inter passed the filters. Check val_interval",
        ),
    ],
)
def test_missing_columns_are_named_with_what_to_do(tmp_path, keys, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path, tiny_rows(), **keys)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("label:float", "label:flot"), "label:flot.*is not field:type"),
        (lambda text: text.replace("\t", ","), "are divided by ','.*Set field_separator: ','"),
        (
            lambda text: text + "u1\ti1\n",
            r"tiny\.inter could not be read: line 302 has 2 of 4 cells",
        ),
        (lambda text: text + "u1\ti1\t1\t5\t6\n", r"tiny\.inter could not be read"),
        (lambda text: text + "u1\ti1\tone\t5\n", r"tiny\.inter could not be read"),
        (lambda text: text.splitlines()[0] + "\n", "no rows"),
        (lambda text: text.replace("\t1\t1", "\t2\t1"), "labels must be 0 or 1"),
    ],
    ids=[
        "bad header",
        "commas",
        "short line",
        "long line",
        "word for a number",
        "no rows",
        "label 2",
    ],
)
def test_malformed_files_are_refused_by_name(tmp_path, damage, message):
    keys = write_dataset(tmp_path, tiny_rows())
    file = tmp_path / "tiny/tiny.inter"
    file.write_text(damage(file.read_text()))
    with pytest.raises(ValueError, match=message):
        create_dataset(Config("DIN", "tiny", config_dict=keys))


def test_windows_line_ends_are_read(tmp_path):
    keys = write_dataset(tmp_path, tiny_rows())
    reference = data_fingerprint(create_dataset(Config("DIN", "tiny", config_dict=keys)).build())
    for file in (tmp_path / "tiny").iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert (
        data_fingerprint(create_dataset(Config("DIN", "tiny", config_dict=keys)).build())
        == reference
    )


def test_a_validation_part_of_one_class_is_refused_and_a_test_part_warned_of(tmp_path, caplog):
    from recbole_genci.data.part_checks import check_parts
    from recbole_genci.data.summary import warn_of_rows

    parts = build(tmp_path, tiny_rows())
    label = parts[1].inter_feat["label"]
    parts[1].inter_feat["label"] = torch.ones(len(parts[1]))
    for metric, fault in (("AUC", "is undefined"), ("LogLoss", "does not say how well clicks")):
        parts[0].config.final_config_dict["valid_metric"] = metric
        said = f"valid part has one class only, so that its {metric}, by which .* chosen, {fault}"
        with pytest.raises(ValueError, match=said):
            check_parts(parts)
    parts[1].inter_feat["label"] = label
    parts[2].inter_feat["label"] = torch.ones(len(parts[2]))
    check_parts(parts)
    warn_of_rows(parts)
    assert "test part has one class only: its AUC is undefined" in caplog.text


def test_a_folder_without_rows_is_refused_with_what_it_holds(tmp_path):
    keys = write_dataset(tmp_path, tiny_rows())
    (tmp_path / "tiny/tiny.inter").rename(tmp_path / "tiny/rows.inter")
    with pytest.raises(
        FileNotFoundError,
        match=r"tiny\.inter does not exist; .* holds rows\.inter, tiny\.item, tiny\.user",
    ):
        create_dataset(Config("DIN", "tiny", config_dict=keys))


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_tokens_keep_their_text_whichever_chunk_they_stand_in(tmp_path, monkeypatch, size):
    monkeypatch.setattr("recbole_genci.utils.atomic_files.reading.CHUNK_ROWS", size)
    file = tmp_path / "a.inter"
    tokens = ["001", "1", "1.0", "NA", "", "1e3", " 1", "ä", "01", "1", "nan", ""]
    lines = [f"{token}\t{number}\tx y" for number, token in enumerate(tokens)]
    file.write_text("\n".join(["a:token\tb:float\tc:token_seq", *lines]) + "\n", encoding="utf-8")
    header = {"a": "token", "b": "float", "c": "token_seq"}
    frame = read_atomic_file(file, ["b", "a", "c"], header, categories=True)
    assert list(frame) == ["b", "a", "c"] and isinstance(frame.index, pd.RangeIndex)
    assert frame["a"].cat.categories.tolist() == list(dict.fromkeys(t for t in tokens if t))
    assert frame["a"].astype(object).where(frame["a"].notna(), "").tolist() == tokens
    plain = read_atomic_file(file, ["b", "a", "c"], header)
    assert plain["b"].tolist() == frame["b"].tolist() == list(range(len(tokens)))
    assert plain["a"].fillna("").tolist() == tokens and plain["c"].tolist() == ["x y"] * 12


def test_negatives_are_items_and_no_tokens_of_aliases_alone(tmp_path):
    keys = write_dataset(tmp_path, tiny_rows(num_items=5), num_items=5)
    file = tmp_path / "tiny/tiny.inter"
    head, *lines = file.read_text().splitlines()
    lines = [f"{line}\tpage{number}" for number, line in enumerate(lines)]
    file.write_text("\n".join([f"{head}\tpage:token", *lines]) + "\n")
    found = []
    for more in ([], ["page"]):
        load_col = keys["load_col"] | {"inter": [*keys["load_col"]["inter"], *more]}
        alias = {"load_col": load_col, "alias_of_item_id": more}
        part = create_dataset(Config("DIEN", "tiny", config_dict=keys | alias)).build()[0]
        assert len(part.only_aliases) == len(lines) * len(more)
        found.append(part.field2id_token["item_id"][part.history.negatives.numpy()].tolist())
    assert set(found[0]) == {f"i{number}" for number in range(5)} and found[1] == found[0]


def test_rows_without_aliases_of_items_store_none(tiny_parts):
    """`hub pull` makes a run's file again, and compares its digest."""
    parts, _ = tiny_parts
    assert not parts[0].only_aliases
    assert "only_aliases" not in storage._described(parts)[1]
