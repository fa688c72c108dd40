"""Rare tokens and transformed numbers: fitted on training rows, the same as by brute force."""

import json
import logging
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CRITEO_FIELDS, tiny_rows, with_features, write_criteo, write_dataset
from recbole.utils import FeatureType

from recbole_genci.config import Config
from recbole_genci.config.fitted import transforms_of
from recbole_genci.data import create_dataset, reading
from recbole_genci.data.column_names import ROW_NUMBER
from recbole_genci.data.fingerprint import data_fingerprint, rows_fingerprint
from recbole_genci.data.fitting import RARE_TOKEN
from recbole_genci.data.prepared import prepare_parts, shaping_keys
from recbole_genci.data.transforms import Transform, fitted
from recbole_genci.plan import prepare
from recbole_genci.utils.static import static_shapes

TRANSFORMS = {
    "price": ["log", "standard"],
    "delay": {"buckets": 6},
    "steps": {"buckets": 3},
    "income": ["minmax"],
    "hits": "criteo",
}
LEAST = {"*": 30, "hits": 8, "tags": 50}
FITTED = {"min_count": LEAST, "transforms": TRANSFORMS}


def made(folder, **more):
    """Parts of small data with features of rows, users and items, and the files as frames."""
    keys = with_features(folder, write_dataset(folder, tiny_rows())) | FITTED | more
    return keys, parts_of(keys), frames(folder)


def parts_of(keys, model="DeepFM"):
    return create_dataset(Config(model, "tiny", config_dict=keys)).build()


def frames(folder):
    found = {}
    for ending in ("inter", "user", "item"):
        file = folder / f"tiny/tiny.{ending}"
        frame = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False)
        found[ending] = frame.rename(columns=lambda name: name.partition(":")[0])
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made(tmp_path_factory.mktemp("fitted"))


def cells(parts, raw, field, part=0):
    """The cells of a feature, as text, of a part's rows."""
    rows = raw["inter"].iloc[parts[part].inter_feat[ROW_NUMBER].numpy()]
    for ending, own in (("user", "user_id"), ("item", "item_id")):
        if field in raw[ending]:
            return [dict(zip(raw[ending][own], raw[ending][field]))[name] for name in rows[own]]
    return list(rows[field])


def read(parts, field, part=0):
    """The column of a feature that models read, of a part's rows."""
    batch = parts[part][torch.arange(len(parts[part]))]
    return batch.interaction[field]


@pytest.mark.parametrize("field", ["device", "tags", "year", "genre", "age"])
def test_the_tokens_that_are_kept_are_those_that_a_count_finds(data, field):
    keys, parts, raw = data
    counts = Counter(word for cell in cells(parts, raw, field) for word in cell.split())
    least = LEAST.get(field, 30)
    kept = sorted((t for t in counts if counts[t] >= least), key=lambda t: (-counts[t], t))
    assert 0 < len(kept) and (len(kept) < len(counts) or field in ("age", "genre"))
    names = parts[0].field2id_token[field].tolist()
    assert names == ["[PAD]", RARE_TOKEN, *kept]
    for part in range(3):
        for row, cell in zip(read(parts, field, part).tolist(), cells(parts, raw, field, part)):
            expected = [names.index(t) if t in kept else 1 for t in cell.split()]
            found = row if isinstance(row, list) else [row]
            assert found == expected + [0] * (len(found) - len(expected))


def test_ids_of_users_and_items_are_not_counted(data):
    keys, parts, _ = data
    for field in ("user_id", "item_id"):
        assert RARE_TOKEN not in parts[0].field2id_token[field] and field not in parts[0].rare
    assert parts[0].rare == {"device", "tags", "year", "genre", "age"} | {"hits"}


def numbers(texts):
    return np.array([float(np.float32(float(t))) if t else math.nan for t in texts])


def test_numbers_become_what_their_steps_say(data):
    keys, parts, raw = data

    def log(x):
        return math.copysign(math.log1p(abs(x)), x)

    logs = {part: [log(x) for x in numbers(cells(parts, raw, "price", part))] for part in range(3)}
    there = [x for x in logs[0] if not math.isnan(x)]
    mean, deviation = np.mean(there), np.std(there)
    incomes = [x for x in numbers(cells(parts, raw, "income")) if not math.isnan(x)]
    low, high = min(incomes), max(incomes)
    of_users = np.mean([(x - low) / (high - low) for x in incomes])
    assert min(there) < 0 and len(there) < len(logs[0])
    for part in range(3):
        expected = [0.0 if math.isnan(x) else (x - mean) / deviation for x in logs[part]]
        found = read(parts, "price", part)
        np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)
        assert (found[:, 1] == 1).all()
        own = numbers(cells(parts, raw, "income", part))
        expected = [of_users if math.isnan(x) else (x - low) / (high - low) for x in own]
        np.testing.assert_allclose(read(parts, "income", part)[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize(("field", "count"), [("delay", 6), ("steps", 3)])
def test_buckets_hold_equal_shares_of_the_training_rows(data, field, count):
    keys, parts, raw = data
    training = numbers([t for cell in cells(parts, raw, field) for t in cell.split()])
    ordered = sorted(training)
    ends = {ordered[math.ceil(k * len(ordered) / count) - 1] for k in range(1, count)}
    ends = sorted(end for end in ends if end < ordered[-1])

    def bucket(x):
        return 1 + sum(x > end for end in ends)

    sizes = Counter(map(bucket, training))
    assert len(sizes) == len(ends) + 1 == count and max(sizes.values()) <= len(ordered) / count + 3
    for part in range(3):
        for row, cell in zip(read(parts, field, part).tolist(), cells(parts, raw, field, part)):
            expected = [bucket(x) for x in numbers(cell.split())] or [0]
            found = row if isinstance(row, list) else [row]
            assert found == expected + [0] * (len(found) - len(expected))
    kind = parts[0].field2type[field].value
    assert kind == ("token" if field == "delay" else "token_seq")
    assert len(parts[0].field2id_token[field]) == count + 1


def test_criteos_categories_are_its_formula_and_are_counted(data):
    keys, parts, raw = data

    def category(text):
        x = float(text)
        return str(math.floor(math.log(x) ** 2) if x > 2 else int(x))

    counts = Counter(category(t) for t in cells(parts, raw, "hits") if t)
    kept = {name for name, count in counts.items() if count >= 8}
    names = parts[0].field2id_token["hits"].tolist()
    assert set(names[2:]) == kept and 2 < len(kept) < len(counts) and names[1] == RARE_TOKEN
    for part in range(3):
        for id, text in zip(read(parts, "hits", part).tolist(), cells(parts, raw, "hits", part)):
            name = category(text) if text else ""
            assert id == (0 if not text else names.index(name) if name in kept else 1)


def test_held_out_rows_change_no_training_value(data, tmp_path):
    keys, parts, raw = data
    with_features(tmp_path, write_dataset(tmp_path, tiny_rows()))
    held = np.concatenate([parts[n].inter_feat[ROW_NUMBER].numpy() for n in (1, 2)])
    file = tmp_path / "tiny/tiny.inter"
    lines = [line.split("\t") for line in file.read_text().splitlines()]
    names = [name.partition(":")[0] for name in lines[0]]
    rng = np.random.default_rng(9)
    for row in held:
        for field in ("device", "tags"):
            lines[row + 1][names.index(field)] = rng.choice(["", "new", "tv", "b"])
        for field in ("price", "delay", "hits"):
            lines[row + 1][names.index(field)] = rng.choice(["", "-1e9", "1e9", "7"])
        lines[row + 1][names.index("steps")] = "1e9 -5"
    file.write_text("\n".join("\t".join(line) for line in lines) + "\n")
    for ending, line in (("item", "nobody\tA film\t2077\tNew Action"), ("user", "u99\t99\t1e9")):
        with (tmp_path / f"tiny/tiny.{ending}").open("a") as stream:
            stream.write(f"{line}\n")
    changed = parts_of(keys | {"data_path": str(tmp_path)})
    assert changed[0].transforms == parts[0].transforms
    fields = [*TRANSFORMS, "device", "tags", "year", "genre", "age"]
    for field in fields:
        assert torch.equal(read(changed, field), read(parts, field)), field
    for field in parts[0].rare:
        before, after = (each[0].field2id_token[field].tolist() for each in (parts, changed))
        assert before == after
    # The test can fail: held-out rows did change.
    assert any(not torch.equal(read(changed, f, 2), read(parts, f, 2)) for f in fields)


def test_rows_that_a_filter_drops_are_not_counted(tmp_path):
    keys, parts, raw = made(tmp_path, val_interval={"delay": "[0,20]"}, min_count={"device": 9})
    assert 0 < sum(map(len, parts)) < len(raw["inter"])
    counts = Counter(cells(parts, raw, "device"))
    kept = {t for t in counts if t and counts[t] >= 9}
    assert set(parts[0].field2id_token["device"][2:]) == kept
    assert parts[0].rare == {"device"}


def test_a_star_stands_for_all_columns_that_are_not_named(tmp_path):
    keys, parts, _ = made(
        tmp_path,
        min_count={"*": 25, "device": 1},
        transforms={"*": "standard", "delay": {"buckets": 2}},
        numerical_features=["price", "income", "hits", "steps"],
        normalize_all=True,
    )
    assert set(parts[0].transforms) == {"price", "delay", "income", "hits", "steps"}
    for field in ("price", "income", "hits", "steps"):
        assert parts[0].transforms[field].steps[0].name == "standard"
    assert not set(parts[0].scales) & set(parts[0].transforms)
    assert len(parts[0].field2id_token["device"]) > 5
    assert abs(float(read(parts, "hits")[:, 0].mean())) < 1e-5


def test_files_that_are_split_already_are_fitted_on_the_first(tmp_path):
    for seed, part in enumerate(("train", "valid", "test")):
        write_criteo(tmp_path, 60, f"criteo.{part}.inter", seed)
    keys = {
        "data_path": str(tmp_path),
        "USER_ID_FIELD": None,
        "ITEM_ID_FIELD": None,
        "load_col": {"inter": "*"},
        "benchmark_filename": ["train", "valid", "test"],
        "min_count": 7,
        "numerical_features": CRITEO_FIELDS[1:14],
        "transforms": {"*": "minmax", "I3": "criteo"},
        "gpu_id": "",
    }
    parts = create_dataset(Config("LR", "criteo", config_dict=keys)).build()
    train = pd.read_csv(tmp_path / "criteo/criteo.train.inter", sep="\t", dtype=str)
    counts = train["C4:token"].value_counts()
    assert set(parts[0].field2id_token["C4"][2:]) == set(counts[counts >= 7].index)
    low, high = (getattr(train["I1:float"].astype(float), end)() for end in ("min", "max"))
    assert (parts[0].transforms["I1"].low, parts[0].transforms["I1"].high) == (low, high)
    assert "I3" in parts[0].rare and parts[0].field2type["I3"].value == "token"


def test_models_of_a_command_share_what_is_fitted_and_other_keys_give_other_rows(
    data, tmp_path, monkeypatch, caplog
):
    from recbole_genci.data import prepared

    keys, parts, _ = data
    plain = {name: value for name, value in keys.items() if "mlp" not in name}
    assert {"min_count", "transforms"} <= set(shaping_keys(Config("LR", "tiny", config_dict=plain)))
    monkeypatch.setattr(prepared, "SMALLEST_FILE", 1)
    keys = plain | {"prepared_rows_dir": str(tmp_path / "kept")}
    caplog.set_level(logging.INFO)
    plan = prepare("LR,FM", "tiny", config_dict=keys)
    assert "Fitted on 252 training rows (min_count, transforms)" in caplog.text
    again = prepare_parts(Config("FM", "tiny", config_dict=keys))
    for other in (plan.parts, again):
        assert rows_fingerprint(other) == rows_fingerprint(parts)
        assert other[0].transforms == parts[0].transforms and other[0].rare == parts[0].rare
    assert len(list((tmp_path / "kept").glob("*.safetensors"))) == 1
    less = prepare_parts(Config("FM", "tiny", config_dict=keys | {"min_count": 30}))
    assert len(list((tmp_path / "kept").glob("*.safetensors"))) == 2
    assert rows_fingerprint(less) != rows_fingerprint(parts)
    assert data_fingerprint(less) == data_fingerprint(parts)


@pytest.mark.parametrize("number", [0.1, 7.3, 3e38])
@pytest.mark.parametrize("steps", [["log", "standard"], ["standard"], ["log", "minmax"]])
def test_equal_numbers_become_zeros(number, steps):
    # The mean of equal logarithms is not exactly theirs, and their deviation is then not zero.
    values = torch.full((720,), number)
    assert fitted(values, [(step, 0) for step in steps])(values).abs().max() <= 2e-6


def test_a_value_of_no_training_row_is_said(tmp_path, caplog):
    _, parts, _ = made(tmp_path, min_count={"device": 999}, transforms=None)
    assert "min_count: no value of 'device' is in 999 training rows or more" in caplog.text
    assert parts[0].field2id_token["device"].tolist() == ["[PAD]", RARE_TOKEN]


def test_numbers_that_become_categories_may_be_the_only_features(tmp_path):
    write_criteo(tmp_path, 60)
    keys = {"data_path": str(tmp_path), "USER_ID_FIELD": None, "ITEM_ID_FIELD": None}
    keys |= {"load_col": {"inter": ["label", "I1"]}, "gpu_id": "", "min_count": 4}
    keys["transforms"] = {"I1": "criteo"}
    part = create_dataset(Config("LR", "criteo", config_dict=keys)).build()[0]
    assert part.fields(ftype=[FeatureType.TOKEN]) == ["I1"] and part.rare == {"I1"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"transforms": {"prise": {"buckets": 3}}},
            "transforms: 'prise' is no loaded column of type float or float_seq; .* 'price'",
        ),
        (
            {"transforms": {"device": {"buckets": 3}}},
            "transforms: 'device' is a column of type token in .*tiny.inter, and trans",
        ),
        (
            {"transforms": {"incone": "log"}},
            "transforms: 'incone' is no loaded column of .* price, .*Did you mean 'income'",
        ),
        (
            {"transforms": {"genra": "log"}},
            "transforms: 'genra' is no loaded column .*Did you mean 'genre'",
        ),
        (
            {"transforms": {"title": "log"}},
            "transforms: 'title' is a column of .*tiny.item that is not read. Load it by load_col",
        ),
        (
            {"transforms": {"delay": "log"}},
            "transforms: 'delay' is not in numerical_features, so that no model reads its numbers",
        ),
        (
            {"min_count": {"price": 3}, "transforms": None},
            "min_count: 'price' is a column of type float in .* counts tokens. Leave it out",
        ),
        (
            {"min_count": {"devise": 3}, "transforms": None},
            "min_count: 'devise' is no loaded column of type token .*Did you mean 'device'",
        ),
        ({"unused_col": {"inter": ["hits"]}}, "transforms: 'hits' is in unused_col too"),
        (
            {"unused_col": {"inter": ["device"]}, "min_count": {"device": 2}},
            "min_count: 'device' is in unused_col too. Leave it out of one of them",
        ),
    ],
)
def test_columns_that_are_not_there_are_refused(tmp_path, more, message, monkeypatch):
    def unread(*_, **__):
        raise AssertionError("rows are read")

    monkeypatch.setattr(reading, "read_atomic_file", unread)
    with pytest.raises(ValueError, match=message):
        made(tmp_path, **more)


def test_another_processors_logarithm_gives_the_same_buckets(monkeypatch):
    values = torch.rand(500, generator=torch.Generator().manual_seed(0)).double().mul(99).float()
    steps = [("log", 0), ("buckets", 7)]
    here, original = fitted(values, steps), torch.Tensor.log1p
    found = here(values)
    ups = torch.tensor(np.inf, dtype=torch.float64)
    monkeypatch.setattr(torch.Tensor, "log1p", lambda self: original(self).nextafter(ups))
    assert fitted(values, steps).as_json() == here.as_json()
    assert torch.equal(here(values), found) and found.bincount()[1:].min() >= 71
    again = Transform.of_json(json.loads(json.dumps(here.as_json())))
    assert again == here and again.tokens() == here.tokens()


def test_others_are_numerical_features_that_no_other_key_scales():
    keys = dict.fromkeys(["numerical_features", "normalize_field", "discretization"])
    keys["numerical_features"] = ["a", "b", "c", "d"]
    keys |= {"normalize_field": ["b"], "discretization": {"c": {"method": "LD"}}}
    written = transforms_of(keys | {"transforms": {"*": "log", "d": "minmax"}})
    assert written == {"a": [("log", 0)], "d": [("minmax", 0)]}


def test_a_column_without_a_number_in_training_is_refused(data, tmp_path):
    keys, parts, _ = data
    with_features(tmp_path, write_dataset(tmp_path, tiny_rows()))
    file = tmp_path / "tiny/tiny.inter"
    lines = [line.split("\t") for line in file.read_text().splitlines()]
    place = lines[0].index("delay:float")
    for row in parts[0].inter_feat[ROW_NUMBER].tolist():
        lines[row + 1][place] = ""
    file.write_text("\n".join("\t".join(line) for line in lines) + "\n")
    with pytest.raises(ValueError, match="transforms: 'delay' has no number in any training row"):
        parts_of(keys | {"data_path": str(tmp_path)})


# ---------------------------------------------------------------- single transforms


def test_the_log_of_zero_is_zero_and_negative_numbers_are_mirrored():
    found = fitted(torch.tensor([1.0]), [("log", 0)])(torch.tensor([0.0, -3.0, 3.0, math.nan]))
    expected = [0, -math.log(4), math.log(4), math.log(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_one_value_alone_becomes_zero_or_one_bucket():
    same = torch.full((5,), 7.0)
    for name in ("standard", "minmax"):
        assert fitted(same, [(name, 0)])(torch.tensor([7.0, 9.0])).tolist() == [0, 2]
    cut = fitted(same, [("buckets", 4)])
    assert cut.tokens() == ["any"] and cut(torch.tensor([-9.0, 7.0, math.nan])).tolist() == [
        1,
        1,
        0,
    ]


def test_many_equal_numbers_leave_fewer_buckets_none_of_them_empty():
    values = torch.tensor([0.0] * 80 + list(range(1, 21)))
    cut = fitted(values, [("buckets", 10)])
    assert sorted(set(cut(values).tolist())) == list(range(1, len(cut.tokens()) + 1))
    assert cut.tokens() == ["<= 0.0", "<= 10.0", "> 10.0"]


@pytest.mark.parametrize("least", [None, 2])
def test_criteos_formula(least):
    training = torch.tensor([1.0, 1, 0, 0, -3.7, -3.2, 100, 100, 2, 5])
    transform = fitted(training, [("criteo", 0)], least)
    names = ["[PAD]", *(["[RARE]"] if least else []), *transform.tokens()]
    found = transform(torch.tensor([1.9, 2, 2.1, 5, -3.9, 1e6, math.nan])).tolist()
    rare = "[RARE]" if least else "[PAD]"
    assert [names[id] for id in found] == ["1", "2", "0", "2", "-3", rare, "[PAD]"]
    assert names[found[0]] == "1" and set(names[1 + bool(least) :]) == {"1", "0", "-3", "21", "2"}


@pytest.mark.parametrize("steps", [["log", "standard"], ["minmax"], [("buckets", 4)], ["criteo"]])
def test_a_traced_program_and_a_file_give_the_same(steps):
    steps = [step if isinstance(step, tuple) else (step, 0) for step in steps]
    transform = fitted(torch.randn(90) * 9, steps, 3)
    values = torch.cat([torch.randn(40).double() * 20, torch.tensor([math.nan, 0, 1e30])])
    with static_shapes():
        static = transform(values)
    assert torch.equal(static, transform(values))
    assert torch.equal(Transform.of_json(transform.as_json())(values), static)
