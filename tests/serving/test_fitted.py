"""Raw values given to a saved run are merged and transformed as those of training were."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_rows, with_features, write_dataset

from recbole_genci import Ranker, load
from recbole_genci.predict import main as predict
from recbole_genci.quick_start import run
from recbole_genci.serving.export import _inputs
from recbole_genci.serving.export_check import as_described, some_rows
from recbole_genci.serving.features import FeatureReader
from recbole_genci.serving.static_scorer import StaticScorer
from recbole_genci.utils.ragged import Ragged
from recbole_genci.utils.static import static_shapes

FITTED = {
    "min_count": {"*": 30, "tags": 50},
    "transforms": {
        "price": ["log", "standard"],
        "delay": {"buckets": 6},
        "steps": {"buckets": 3},
        "income": "minmax",
        "hits": "criteo",
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of runs by model, each trained when asked for, and the raw files as texts."""
    folder = tmp_path_factory.mktemp("fitted")
    keys = with_features(folder / "data", write_dataset(folder / "data", tiny_rows())) | FITTED
    keys |= {"checkpoint_dir": str(folder / "saved"), "results_dir": str(folder / "results")}
    frames = {}
    for ending in ("inter", "user", "item"):
        file = folder / f"data/tiny/tiny.{ending}"
        frame = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False)
        frames[ending] = frame.rename(columns=lambda name: name.partition(":")[0])

    class Runs(dict):
        def __missing__(self, name):
            self[name] = run(name, "tiny", config_dict=keys)[0].folder
            return self[name]

    return Runs(), frames


@pytest.fixture(scope="module")
def ranker(made):
    return Ranker(made[0]["DeepFM"])


def of_part(saved, frames, part=2):
    return frames["inter"].iloc[saved.parts[part].inter_feat[":row_number"].numpy()]


@pytest.mark.parametrize("name", ["DeepFM", pytest.param("DIN", marks=pytest.mark.slow)])
def test_raw_rows_have_the_scores_of_the_run(made, name):
    folders, frames = made
    saved = load(folders[name])
    expected = saved.predict("test")[0]
    found = Ranker(saved).score_rows(of_part(saved, frames))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert saved.evaluate() == saved.metrics["test"]


def test_numbers_that_pandas_keeps_for_itself_are_copied(made, ranker):
    rows = of_part(ranker.run, made[1])
    numbers = rows.assign(price=pd.to_numeric(rows["price"]), hits=pd.to_numeric(rows["hits"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ranker.score_rows(numbers)
    np.testing.assert_array_equal(found, ranker.score_rows(rows))


def test_no_number_of_a_list_moves_to_the_place_of_a_missing_one(made, ranker):
    rows = of_part(ranker.run, made[1]).iloc[:2]
    found = {}
    for steps in ([1.0, 2.0], [1.0, 2.0, None], ["1", "2"]):
        found[str(steps)] = ranker.score_rows(rows.assign(steps=[steps, "1  2"]))
    assert len({scores.tobytes() for scores in found.values()}) == 1
    for steps in ([None, 2.0], ["", "2"]):
        with pytest.raises(ValueError, match="'steps' is a list in which number 1 is missing"):
            ranker.score_rows(rows.assign(steps=[[1.0], steps]))


def test_a_file_of_raw_rows_has_the_metrics_of_the_run(made, tmp_path, capsys):
    folders, frames = made
    saved = load(folders["DeepFM"])
    rows = of_part(saved, frames).assign(price=lambda t: pd.to_numeric(t["price"]))
    rows.to_csv("new.csv", index=False)
    words = [f"--run={folders['DeepFM']}", "--input=new.csv", "--output=scores.csv"]
    assert predict(words) == 0
    scores = pd.read_csv("scores.csv")["score"]
    np.testing.assert_allclose(scores, saved.predict("test")[0], atol=1e-6)
    assert f'"auc": {saved.metrics["test"]["auc"]}' in capsys.readouterr().out


def test_unknown_tokens_are_rare_and_no_warning_is_due(made, ranker, caplog):
    rows = of_part(ranker.run, made[1]).iloc[:6]
    rare, new, missing = (
        ranker.score_rows(rows.assign(device=device, tags=[tags] * 6))
        for device, tags in (("pad", "e e"), ("never seen", ["x", "y"]), ("", ""))
    )
    np.testing.assert_array_equal(rare, new)
    assert np.abs(rare - missing).max() > 1e-6 and "unknown" not in caplog.text
    known = {"device": "pad", "tags": ["e"], "price": 5, "delay": 1, "steps": [1, 2], "hits": None}
    other = known | {"device": "unheard of"}
    scores = [ranker.score(["u1"], ["i1", "i2"], context=each) for each in (known, other)]
    np.testing.assert_array_equal(*scores)


def test_a_context_is_given_as_in_the_files(made, ranker):
    rows = of_part(ranker.run, made[1])
    row = rows[(rows["tags"] != "") & (rows["price"] != "") & (rows["delay"] != "")].iloc[0]
    context = {"device": row["device"] or None, "tags": row["tags"].split()}
    context |= {name: float(row[name]) for name in ("price", "delay")}
    context["hits"] = float(row["hits"]) if row["hits"] else None
    context["steps"] = [float(each) for each in row["steps"].split()]
    found = ranker.score([row["user_id"]], [row["item_id"]], context=context)
    expected = ranker.score_rows(pd.DataFrame([row]).drop(columns="timestamp"))
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_new_users_and_items_are_those_with_the_same_features(made, ranker):
    frames = made[1]
    item = frames["item"].iloc[3]
    wider = ranker.with_items(
        pd.DataFrame([item, item.replace("Horror Thriller", "Noir")]).assign(
            item_id=["twin", "strange"]
        )
    )
    table = wider.run.parts[0].item_feat
    old = wider.run.parts[0].field2token_id["item_id"]["i3"]
    assert torch.equal(table["genre"][-2], table["genre"][old])
    assert table["genre"][-1].tolist() == [1, 0]
    user = frames["user"].iloc[5]
    features = {"age": user["age"], "income": float(user["income"])}
    rows = frames["inter"].iloc[:5].assign(user_id="new")
    known = ranker.score_rows(rows.assign(user_id="u5"), user_features={"u5": features})
    np.testing.assert_array_equal(known, ranker.score_rows(rows.assign(user_id="u5")))
    richer = ranker.score_rows(rows, user_features={"new": features | {"income": 1e9}})
    assert np.abs(richer - ranker.score_rows(rows, user_features={"new": features})).max() > 1e-6


def test_a_missing_number_is_what_it_was_in_training(made, ranker):
    reader, frames = FeatureReader(ranker.run.parts), made[1]
    for part in ranker.run.parts:
        rows = frames["inter"].iloc[part.inter_feat[":row_number"].numpy()]
        for field in ("price", "delay", "hits", "steps", "device", "tags"):
            found, expected = reader.column(field, rows[field]), part.inter_feat[field]
            if isinstance(found, Ragged):
                assert torch.equal(found.lengths, expected.lengths)
                found, expected = found.compact().values, expected.compact().values
            assert torch.equal(found, expected), field


def test_a_program_transforms_by_itself_as_its_description_says(ranker):
    scorer, features = ranker._scorer, ranker._features
    module = StaticScorer(scorer.model_with_mean, scorer.view, features).eval()
    inputs = {each.field: each for each in module.inputs if each.length_of is None}
    assert inputs["device"].unknown == 1 and inputs["user_id"].unknown == 0
    assert inputs["device"].meaning.endswith("0 is missing, 1 unknown.")
    for field in ("price", "delay", "hits", "steps"):
        assert inputs[field].dtype == "float64" and inputs[field].vocabulary is None
    names = {each.vocabulary for each in module.inputs if each.vocabulary}
    tokens = {name: scorer.view.field2id_token[name].tolist() for name in names}
    table = some_rows(scorer, features)
    table.loc[:9, "delay"] = [0.1, 7, 14, 21, 28, 35, 42, -1, 1e9, np.nan]
    table.loc[:9, "hits"] = [-1.5, 0, 1, 2, 2.5, 3, 40, 1e7, 12345, np.nan]
    given = as_described(table, _inputs(module), tokens, module.history_name, 1)
    with torch.no_grad(), static_shapes():
        found = module(**given)
    np.testing.assert_allclose(found, ranker.score_rows(table), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_it_can_be_exported(ranker, tmp_path, ending):
    if ending == ".onnx":
        pytest.importorskip("onnxscript")
    assert ranker.export(tmp_path / f"m{ending}")["checked"]["largest_difference"] < 1e-5


def test_a_value_that_is_no_number_is_refused(made, ranker):
    rows = made[1]["inter"].iloc[:2].assign(delay=["3", "soon"])
    with pytest.raises(ValueError, match=r"rows: 'delay' is 'soon', which is no finite number"):
        ranker.score_rows(rows)
