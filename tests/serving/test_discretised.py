"""Numbers that RecBole cut into buckets: new values get the buckets that it would give them."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL_GENCI, tiny_rows, write_dataset

from recbole_genci import Ranker, load
from recbole_genci.quick_start import run
from recbole_genci.serving.features import FeatureReader
from recbole_genci.utils.ragged import Ragged

CUT = {
    "delay": {"method": "ED", "bucket": 6},
    "steps": {"method": "ED", "bucket": 4},
    "income": {"method": "ED", "bucket": 3},
    "wealth": {"method": "ED", "bucket": 3},
    "same": {"method": "ED", "bucket": 3},
    "price": {"method": "ED", "bucket": 5},
    "rank": {"method": "LD"},
}


def with_numbers(folder, keys):
    """Give rows, users and items numbers, some missing; `delay` and `price` are also normalised."""
    rng = np.random.default_rng(0)
    for ending, columns in {
        "inter": {"delay:float": 40, "steps:float_seq": 3},
        "user": {"income:float": 900, "wealth:float": 1e10, "same:float": 0},
        "item": {"price:float": 1e5, "rank:float": 9},
    }.items():
        file = folder / f"tiny/tiny.{ending}"
        lines = file.read_text().splitlines()
        for name, size in columns.items():
            count = 2 if name.endswith("seq") else 1
            cells = [
                " ".join(f"{value:.3f}" for value in rng.random(count) * size - 2)
                for _ in lines[1:]
            ]
            cells[4] = ""
            lines = [f"{line}\t{cell}" for line, cell in zip(lines, [name, *cells])]
        file.write_text("\n".join(lines) + "\n")
    keys["load_col"] = {
        "inter": [*keys["load_col"]["inter"], "delay", "steps"],
        "user": [*keys["load_col"]["user"], "income", "wealth", "same"],
        "item": [*keys["load_col"]["item"], "price", "rank"],
    }
    return keys | {
        "numerical_features": list(CUT),
        "discretization": CUT,
        "normalize_field": ["delay", "price"],
        "eval_batch_size": 4096,
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    keys = with_numbers(folder / "data", write_dataset(folder / "data", tiny_rows()))
    keys |= {"checkpoint_dir": str(folder / "saved"), "results_dir": str(folder / "results")}
    folders = {
        r.model: r.folder for r in run("DeepFM,GenCI", "tiny", config_dict=keys | SMALL_GENCI)
    }
    frames = {}
    for ending in ("inter", "user", "item"):
        frame = pd.read_csv(
            folder / f"data/tiny/tiny.{ending}", sep="\t", dtype=str, keep_default_na=False
        )
        frames[ending] = frame.rename(columns=lambda name: name.partition(":")[0])
    return folders, frames


def equal(column, expected):
    if isinstance(column, Ragged):
        assert torch.equal(column.compact().values, expected.compact().values)
        column, expected = column.lengths, expected.lengths
    assert torch.equal(column, expected)


def test_every_value_of_the_files_has_its_bucket_of_training(made):
    folders, frames = made
    saved = load(folders["DeepFM"])
    whole, reader = saved.parts[0], FeatureReader(saved.parts)
    for ending, uid, fields in (("user", "user_id", ["income"]), ("item", "item_id", ["price"])):
        frame, table = frames[ending], getattr(whole, f"{ending}_feat")
        ids = torch.tensor([whole.field2token_id[uid][name] for name in frame[uid]])
        for field in fields:
            column = reader.column(field, frame[field])
            equal(column, table[field][ids])
            assert len(column[:, 1].unique()) == CUT[field]["bucket"]
    for part in saved.parts:
        rows = frames["inter"].iloc[part.inter_feat[":row_number"].numpy()]
        for field in ("delay", "steps"):
            equal(reader.column(field, rows[field]), part.inter_feat[field])


def test_large_and_equal_numbers_have_the_last_bucket_of_training(made):
    folders, frames = made
    saved = load(folders["DeepFM"])
    whole, reader = saved.parts[0], FeatureReader(saved.parts)
    # RecBole adds 1e-9 to the largest number, which changes no number of 1e10.
    ids = torch.tensor(
        [whole.field2token_id["user_id"][name] for name in frames["user"]["user_id"]]
    )
    for field, last in (("wealth", 4), ("same", 1)):
        column = reader.column(field, frames["user"][field])
        equal(column, whole.user_feat[field][ids])
        assert column[:, 1].max() == last
        assert reader.column(field, [1e12])[0, 1] == last


@pytest.mark.parametrize("name", ["DeepFM", "GenCI"])
def test_a_row_of_the_file_has_the_score_of_the_run(made, name):
    folders, frames = made
    saved = load(folders[name])
    rows = frames["inter"].iloc[saved.parts[2].inter_feat[":row_number"].numpy()]
    expected = saved.predict("test")[0]
    np.testing.assert_allclose(Ranker(saved).score_rows(rows), expected, atol=1e-6)


def test_a_new_item_and_a_new_user_are_those_with_the_same_numbers(made):
    folders, frames = made
    ranker = Ranker(folders["DeepFM"])
    item = frames["item"].iloc[3]
    new = pd.DataFrame([item]).drop(columns="rank").assign(item_id="twin")
    wider = ranker.with_items(new)
    table, old = wider.run.parts[0].item_feat, wider.run.parts[0].field2token_id["item_id"]["i3"]
    assert torch.equal(table["price"][-1], table["price"][old])
    user = frames["user"].iloc[2]
    features = {"age": user["age"], "income": float(user["income"])}
    rows = frames["inter"].iloc[:5].assign(user_id="new")
    known = {"u2": features}
    scores = ranker.score_rows(rows.assign(user_id="u2"), user_features=known)
    np.testing.assert_array_equal(scores, ranker.score_rows(rows.assign(user_id="u2")))
    richer = ranker.score_rows(rows, user_features={"new": features | {"income": 10}})
    assert np.abs(richer - ranker.score_rows(rows, user_features={"new": features})).max() > 1e-6


def test_beyond_the_range_it_is_the_first_or_the_last_bucket(made, caplog):
    folders, _ = made
    reader = FeatureReader(load(folders["DeepFM"]).parts)
    found = reader.column("delay", ["-99", "1e9", "17", ""])
    assert found[:, 0].tolist() == [1] * 4 and found[:2, 1].tolist() == [1, 6]
    buckets = reader.whole.buckets["delay"]
    low, high = reader.whole.scales["delay"]
    middle = np.array([(17 - low) / (high - low), buckets.mean])
    assert found[2:, 1].tolist() == buckets.numbers(middle, 6).tolist()
    reader.warn_of_unknown()
    assert (
        "2 values of 'delay' are beyond the range of training, the first is '-99'." in caplog.text
    )


def test_a_missing_number_of_a_sequence_has_a_bucket_or_is_refused_by_row(made):
    folders, frames = made
    saved = load(folders["DeepFM"])
    rows = frames["inter"].iloc[:3].assign(steps=[[0.1], [], [0.2, np.nan]])
    assert np.isfinite(Ranker(saved).score_rows(rows)).all()
    saved.config.final_config_dict["discretization"] = {}
    with pytest.raises(ValueError, match=r"^rows: 'steps' has a sequence with a miss.*\(Row 3\.\)"):
        Ranker(saved).score_rows(rows)


def test_a_context_is_cut_as_a_row_is(made):
    folders, frames = made
    ranker = Ranker(folders["DeepFM"])
    row = frames["inter"].iloc[:1]
    said = "'steps' is a float_seq, and cannot be given by its value. Give rows to score_rows inst"
    with pytest.raises(ValueError, match=said):
        ranker.score(["u1"], ["i1"], context={"delay": 3.5, "steps": [1, 2]})
    value = ranker._reader._value("delay", float(row["delay"].iloc[0]))
    assert torch.equal(value, ranker._features.column("delay", row["delay"]))


def test_what_has_no_buckets_is_refused(made):
    folders, frames = made
    saved = load(folders["DeepFM"])
    with pytest.raises(ValueError, match="'rank' was discretised in training, by method LD, which"):
        Ranker(saved).with_items(frames["item"].iloc[:1].assign(item_id="n"))


def test_a_feature_of_rows_without_buckets_is_refused_whether_it_is_given_or_not(made):
    folders, frames = made
    saved = load(folders["DeepFM"])
    del saved.parts[0].buckets["delay"]
    saved.config.final_config_dict["discretization"] = CUT | {"delay": {"method": "LD"}}
    ranker, row = Ranker(saved), frames["inter"].iloc[:1]
    said = "'delay' .*method LD, .*there. It can score no rows but its own. Train a run with method"
    for rows in (row, row.drop(columns="delay")):
        with pytest.raises(ValueError, match=f"^rows: {said}"):
            ranker.score_rows(rows)
    with pytest.raises(ValueError, match=f"^context: {said}"):
        ranker.recommend(["u1"])
