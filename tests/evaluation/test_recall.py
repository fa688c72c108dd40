"""Generated items against brute-force scoring of the whole catalogue, and Recall and NDCG against
plain lists.
"""

import math
import shutil

import numpy as np
import pytest
import torch
from conftest import SMALL_GENCI, make_model, tiny_rows, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from references import randomise, score_codes

import recbole_genci.model.genci.genci as genci
from recbole_genci import load
from recbole_genci.data.batch_histories import clicked_items
from recbole_genci.evaluation.diagnostics import popularity
from recbole_genci.evaluation.recall import ranking_metrics, ranks_of, recall
from recbole_genci.quick_start import run


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    keys = write_dataset(folder / "data", tiny_rows()) | SMALL_GENCI
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (result,) = run("GenCI", "tiny", config_dict=keys)
        return load(folder / result["folder"])


@settings(max_examples=60)
@given(st.data(), st.integers(1, 8), st.booleans())
def test_ranks_equal_positions_in_a_plain_list(data, length, exclude):
    items = data.draw(st.permutations(range(1, 10)))[:length] + [0, 0]
    target = data.draw(st.integers(1, 9))
    history = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    shown = [item for item in items if item and not (exclude and item in history)]
    rank = ranks_of(
        torch.tensor([items]), torch.tensor([target]), torch.tensor([history]) if exclude else None
    )
    assert rank.tolist() == [shown.index(target) + 1 if target in shown else 0]


def test_recall_and_ndcg_by_hand():
    found = ranking_metrics(torch.tensor([1, 3, 0, 11]), [1, 10, 20])
    assert found["recall@1"] == found["ndcg@1"] == 0.25
    assert found["recall@10"] == 0.5 and found["ndcg@10"] == pytest.approx((1 + 0.5) / 4)
    assert found["recall@20"] == 0.75 and found["ndcg@20"] == pytest.approx(
        (1.5 + 1 / math.log2(12)) / 4
    )
    with pytest.raises(ValueError, match="no clicked row"):
        ranking_metrics(torch.empty(0), [1])


def test_a_generator_of_a_models_own_needs_no_semantic_ids(tiny_parts):
    class Favourites(torch.nn.Module):
        """Generates the items by their number."""

        generates_items = True

        def generate_items(self, interaction, num_beams):
            items = torch.arange(1, num_beams + 1).expand(len(interaction), -1)
            return items, -items.double()

    parts, keys = tiny_parts
    _, (train, valid, _) = make_model("LR", parts, keys)
    config = {"MAX_ITEM_LIST_LENGTH": 5, "LABEL_FIELD": "label", "ITEM_ID_FIELD": "item_id"}
    loader = type("Loader", (list,), {"dataset": valid, "config": config | {"LIST_SUFFIX": "_"}})
    found = recall(Favourites(), loader([(valid[:],)]), train, torch.device("cpu"), k=[3])
    clicked = valid.inter_feat["item_id"][valid.inter_feat["label"] == 1]
    assert train.semantic_ids is None
    assert found["generated"]["recall@3"] == pytest.approx((clicked <= 3).double().mean().item())


@pytest.mark.parametrize(
    "keys", [{}, {"history_tokens": "code"}, {"use_short_term": False}], ids=str
)
@pytest.mark.parametrize("cells", [1, 2**23])
def test_full_sort_scores_equal_teacher_forcing_every_item_of_the_catalogue(
    tiny_parts, monkeypatch, keys, cells
):
    monkeypatch.setattr(genci, "MAX_BEAM_CELLS", cells)  # 1: one history at a time
    parts, base = tiny_parts
    model, (_, _, test) = make_model("GenCI", parts, base | keys)
    randomise(model.intent, scale=0.3)
    batch = test[np.arange(len(test))]
    scores = model.full_sort_predict(batch)
    assert scores.shape == (len(test), parts[0].item_num)
    assert (scores[:, 0] == -torch.inf).all()
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(len(test)))
    with torch.no_grad():
        for row in range(0, len(test), 5):
            encoded, _ = model.encode_histories(test[[row]])
            every = test.semantic_ids[1:]
            exact = score_codes(
                model.intent, encoded, torch.zeros(len(every), dtype=torch.int64), every, model.trie
            )
            torch.testing.assert_close(scores[row, 1:], exact, atol=1e-5, rtol=1e-5)
    assert scores[:, 1:].std() > 0.1


def test_beams_as_wide_as_the_catalogue_rank_it_exactly_and_narrow_ones_leave_places_empty(
    tiny_parts,
):
    parts, base = tiny_parts
    model, (_, _, test) = make_model("GenCI", parts, base)
    randomise(model.intent, scale=0.3)
    batch = test[np.arange(len(test))]
    scores, count = model.full_sort_predict(batch), parts[0].item_num - 1
    items, log_probs = model.generate_items(batch, count + 3)
    assert (items[:, :count].sort(1).values == torch.arange(1, count + 1)).all()
    torch.testing.assert_close(log_probs[:, :count], scores[:, 1:].sort(1, descending=True).values)
    torch.testing.assert_close(scores.gather(1, items[:, :count]), log_probs[:, :count])
    assert (items[:, count:] == 0).all() and (log_probs[:, count:] == -torch.inf).all()


@pytest.mark.parametrize("exclude", [False, True])
def test_recall_of_a_saved_run_equals_its_definition_row_by_row(tmp_path, exclude):
    keys = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40)) | SMALL_GENCI
    saved = load(run("GenCI", "tiny", config_dict=keys)[0]["folder"])
    shutil.rmtree(tmp_path / "data")
    count = saved.parts[0].item_num - 1
    found = saved.recall("valid", k=[1, 5], num_beams=count, exclude_history=exclude)
    view = saved.loader("valid").dataset
    batch = view[np.flatnonzero((view.inter_feat["label"] == 1).numpy())]
    favourites = popularity(saved.loader("train").dataset).items.argsort()[:-1].tolist()
    ranks = {"generated": [], "popular": []}
    for row, scores in enumerate(saved.model.full_sort_predict(batch)):
        seen = set(clicked_items(batch, "item_id_list")[row].tolist()) if exclude else set()
        target = batch["item_id"][row].item()
        for name, ranking in (
            ("generated", scores.argsort(descending=True)[:count].tolist()),
            ("popular", favourites),
        ):
            shown = [item for item in ranking if item not in seen]
            ranks[name].append(shown.index(target) + 1 if target in shown else 0)
    assert found == {
        name: ranking_metrics(torch.tensor(values), [1, 5]) for name, values in ranks.items()
    }
    assert (
        saved.recall("valid", k=[count], exclude_history=False)["generated"][f"recall@{count}"] == 1
    )
    assert saved.recall("valid", k=np.int64(count)) == saved.recall("valid", k=[count])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"k": [0]}, "k: .0. is not a list"),
        ({"k": []}, "k: .. is not a list"),
        ({"k": 0}, "k: 0 is not a list"),
        ({"k": [True]}, "k: .True. is not a list"),
        ({"num_beams": 5}, "5 beams give no list of 20 items; use at least 20"),
        (
            {"k": [2], "num_beams": 3, "exclude_history": True},
            "2 items beside the up to 5 of a history; use at least 7",
        ),
    ],
)
def test_lists_that_cannot_be_made_are_refused(saved, keys, message):
    with pytest.raises(ValueError, match=message):
        saved.recall(**keys)


def test_models_that_generate_nothing_recall_nothing(tmp_path):
    keys = write_dataset(tmp_path / "data", tiny_rows())
    with pytest.raises(ValueError, match="DeepFM generates no items"):
        load(run("DeepFM", "tiny", config_dict=keys)[0]["folder"]).recall()
    without = keys | SMALL_GENCI | {"mu": 0, "use_short_term": False}
    with pytest.raises(ValueError, match="mu: with mu: 0 and use_short_term: False"):
        load(run("GenCI", "tiny", config_dict=without)[0]["folder"]).recall()
