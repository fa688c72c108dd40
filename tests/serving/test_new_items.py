"""Items that came after training: codes of the frozen tokenizer, embeddings of what they share."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL_GENCI, tiny_rows, trained_runs, write_dataset
from references import with_rows_changed

from recbole_genci import Ranker, load
from recbole_genci.quick_start import run
from recbole_genci.serving.unseen import stand_ins
from recbole_genci.tokenizer import append_items

MODELS = "LR,FFM,DeepFM,DIN,DIEN,MIRRN,GenCI"
NEW = pd.DataFrame(
    {
        "item_id": ["n1", "n2", "twin"],
        "title": ["Story 21 of Drama", "Night of Horror", "Story 3 of Horror Thriller"],
        "year": ["1991", "2031", "1993"],
        "genre": ["Drama", "Horror Western", "Horror Thriller"],
    }
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return trained_runs(tmp_path_factory.mktemp("new-items"), MODELS)[0]


def content(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in Path(folder).rglob("*")
        if file.is_file()
    }


def with_item(saved, item, values_of):
    """A run in which one item has other embeddings."""
    count = saved.parts[0].item_num

    def change(weight, first):
        weight[first + item] = values_of(weight[first : first + count])

    return with_rows_changed(saved, "item", change)


@pytest.mark.parametrize("name", ["LR", "FFM", "DeepFM", "DIN", "DIEN", "MIRRN"])
@pytest.mark.parametrize("unseen", ["mean", "padding"])
def test_a_new_item_is_the_item_with_that_embedding_and_features(folders, name, unseen):
    saved = load(folders[name])
    whole = saved.parts[0]
    trained = torch.unique(whole.inter_feat["item_id"])
    values = {"mean": lambda rows: rows[trained].mean(0), "padding": lambda rows: rows[0]}
    item = whole.field2token_id["item_id"]["i3"]  # with the features of `twin`
    ranker, changed = Ranker(saved), Ranker(with_item(saved, item, values[unseen]))
    users, before = ["u1", "u2"], ranker.score(["u1", "u2"])
    clicks = {"u1": ["i5", "i8"], "u2": ["i1"]}
    wider = ranker.with_items(NEW, unseen)
    np.testing.assert_allclose(
        wider.score(users, ["twin"], histories=clicks),
        changed.score(users, ["i3"], histories=clicks),
        atol=1e-6,
    )
    more = {"u1": ["i5", "twin", "i8"], "u2": ["twin"]}
    same = {"u1": ["i5", "i3", "i8"], "u2": ["i3"]}
    np.testing.assert_allclose(
        wider.score(users, ["i7"], histories=more),
        changed.score(users, ["i7"], histories=same),
        atol=1e-6,
    )
    # Items of the run have the scores of the run, and the run is as it was.
    np.testing.assert_allclose(wider.score(users, ranker.items), before, atol=1e-6)
    np.testing.assert_array_equal(ranker.score(users), before)
    assert wider.items.tolist() == [*ranker.items, "n1", "n2", "twin"]
    assert "twin" not in ranker.items and len(ranker.items) == saved.parts[0].item_num - 1


def test_cohorts_give_the_mean_over_levels_of_the_mean_over_trained_items():
    rng = np.random.default_rng(0)
    rows, codes = rng.normal(size=(9, 4)), rng.integers(0, 3, (9, 4))
    trained = np.array([0, 1, 1, 0, 1, 1, 1, 0, 1], dtype=bool)
    new = np.array([[0, 1, 2, 5], [2, 7, 7, 0], [7, 7, 7, 7]])
    found = stand_ins(
        torch.from_numpy(rows),
        "cohorts",
        torch.from_numpy(trained),
        3,
        (torch.from_numpy(codes), torch.from_numpy(new)),
    ).numpy()
    for place, item in enumerate(new):
        means = []
        for level in range(3):  # not the collision digit
            members = trained & (codes[:, level] == item[level])
            if members.any():
                means.append(rows[members].mean(0))
        expected = np.mean(means, axis=0) if means else rows[trained].mean(0)
        np.testing.assert_allclose(found[place], expected)
    for how, expected in (("mean", rows[trained].mean(0)), ("padding", rows[0])):
        found = stand_ins(torch.from_numpy(rows), how, torch.from_numpy(trained), 2).numpy()
        np.testing.assert_allclose(found, [expected, expected])


def test_published_codes_stay_and_new_ones_are_those_of_the_tokenizer(folders, tmp_path):
    before = content(folders["GenCI"])
    ranker = Ranker(folders["GenCI"])
    wider = ranker.with_items(NEW, "cohorts")
    ids, more = ranker.run.semantic_ids, wider.run.semantic_ids
    np.testing.assert_array_equal(more.codes[: len(ids)], ids.codes)
    texts = [f"{r.title}. {r.genre}. {r.year}" for r in NEW.itertuples()]
    assert texts == [wider.texts[item] for item in NEW["item_id"]]
    folder = Path(folders["GenCI"]) / "semantic_ids"
    appended = append_items(folder, tmp_path / "more", list(NEW["item_id"]), texts)
    assert more.digest == appended.digest
    # Trie and cohorts are those of the larger catalogue, and the embeddings follow from them.
    model, codes = wider.run.model, torch.from_numpy(more.aligned([*["[PAD]"], *wider.items]))
    old = len(ranker.items) + 1
    assert model.num_items == old + 3 and len(model.trie.leaf_item) == old + 2
    trained = torch.unique(wider.run.parts[0].inter_feat["item_id"])
    known = ranker.run.model.item_embeddings().detach()
    for place in range(3):
        means = []
        for level in range(codes.shape[1] - 1):
            members = trained[codes[trained, level] == codes[old + place, level]]
            if len(members):
                means.append(known[members].mean(0))
        expected = torch.stack(means).mean(0) if means else known[trained].mean(0)
        found = model.item_embeddings()[old + place].detach()
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.item_embeddings()[:old], ranker.run.model.item_embeddings())
    by_default = ranker.with_items(NEW).run.model.item_embeddings().detach()
    torch.testing.assert_close(by_default[old:], known[:1].expand(3, -1))
    recommended = wider.recommend(["u1"], k=100, candidates=100)
    assert set(NEW["item_id"]) <= set(recommended["item"])
    assert recommended.set_index("item")["text"]["n2"] == texts[1]
    assert content(folders["GenCI"]) == before


def test_items_added_in_steps_are_those_added_at_once(folders):
    ranker = Ranker(folders["GenCI"])
    at_once, steps = ranker.with_items(NEW), ranker.with_items(NEW[:2]).with_items(NEW)
    assert at_once.items.tolist() == steps.items.tolist()
    users = ["u1", "u2", "u3"]
    np.testing.assert_allclose(at_once.score(users), steps.score(users), atol=1e-6)
    assert steps.users.tolist() == ranker.users.tolist()


def test_a_code_that_no_item_had_has_the_mean_of_its_level(folders):
    model = load(folders["GenCI"]).model.intent
    sizes = [size + more for size, more in zip(model.level_sizes, (0, 2, 1, 1))]
    wider = model.embeddings_for(sizes)
    assert len(wider) == len(model.token_embedding.weight) + 4
    old, new = 1, 1
    weight = model.token_embedding.weight.detach()
    for size, more in zip(model.level_sizes, (0, 2, 1, 1)):
        torch.testing.assert_close(wider[new : new + size], weight[old : old + size])
        for extra in range(more):
            torch.testing.assert_close(wider[new + size + extra], weight[old : old + size].mean(0))
        old, new = old + size, new + size + more
    torch.testing.assert_close(wider[new:], weight[old:])


def test_items_come_from_files_too(folders, tmp_path):
    ranker = Ranker(folders["GenCI"])
    expected = ranker.with_items(NEW).score(["u1", "u2"])
    header = "item_id:token\ttitle:token_seq\tyear:token\tgenre:token_seq"
    old = "i3\tStory 3 of Horror Thriller\t1993\tHorror Thriller"
    lines = ["\t".join(row) for row in NEW.to_numpy()]
    (tmp_path / "more.item").write_text("\n".join([header, old, *lines]) + "\n")
    NEW.to_csv(tmp_path / "more.csv", index=False)
    for file in ("more.item", "more.csv"):
        wider = ranker.with_items(tmp_path / file)
        np.testing.assert_allclose(wider.score(["u1", "u2"]), expected, atol=1e-6)
    lists = NEW.assign(genre=[genre.split() for genre in NEW["genre"]])
    wider = ranker.with_items(lists)
    np.testing.assert_allclose(wider.score(["u1", "u2"]), expected, atol=1e-6)


def test_a_whole_number_has_one_text_beside_a_missing_one(folders):
    ranker = Ranker(folders["GenCI"])
    more = NEW.assign(item_id=["n1", "n2", "more"], year=[1991, 2031, None])
    assert more["year"].dtype == np.float64
    told = ranker.with_items(more).texts
    assert told["n2"] == "Night of Horror. Horror Western. 2031"


def test_missing_and_unknown_features_count_as_missing(folders, caplog):
    ranker = Ranker(folders["DeepFM"])
    without = ranker.with_items(NEW[["item_id"]])
    told = "items: there are no columns 'year' and 'genre'; the features count as missing."
    assert told in caplog.text
    ranker.with_items(NEW.drop(columns="year"))
    assert "items: there is no column 'year'; the feature counts as missing." in caplog.text
    empty = NEW.assign(year=None, genre=[None, "", "  "])
    np.testing.assert_array_equal(ranker.with_items(empty).score(["u1"]), without.score(["u1"]))
    caplog.clear()
    ranker.with_items(NEW)
    assert "1 value of 'year' is unknown to this run, the first is '2031'" in caplog.text
    assert "1 value of 'genre' is unknown to this run, the first is 'Western'" in caplog.text


def test_what_cannot_be_added_is_refused_in_a_sentence(folders, tmp_path):
    ranker, plain = Ranker(folders["GenCI"]), Ranker(folders["DIN"])
    cases = [
        (NEW.drop(columns="item_id"), "items: there is no column 'item_id'"),
        (NEW.assign(item_id=["a", "b", "a"]), "items: 'a' stands there twice"),
        (NEW.assign(item_id=["a", "", "c"]), "items: '' in column 'item_id' is no name"),
        (NEW.assign(item_id=["a", "[PAD]", "c"]), "is no name of an item"),
        (NEW.assign(item_id=["i1", "i2", "i3"]), "has all of the 3 items already"),
        (
            NEW.add_suffix(":token"),
            r"there is no column 'item_id'; .*no types: name them item_id, title, year, \.\.\.",
        ),
        (
            NEW.rename(columns={"genre": "genre:token_seq"}),
            "there is no column 'genre'.*have no types: name them genre",
        ),
        (NEW.drop(columns="genre"), "items: there is no column 'genre'. Semantic IDs of this run"),
        (NEW[["item_id", "year"]], "items: there are no columns 'title' and 'genre'. Semantic"),
        ({"item_id": ["a"]}, "is neither a DataFrame nor a file"),
        (
            pd.concat([NEW[2:]] * 300).assign(item_id=[f"t{n}" for n in range(300)]),
            "items share the codes",
        ),
    ]
    for items, message in cases:
        with pytest.raises(ValueError, match=message):
            ranker.with_items(items)
    with pytest.raises(FileNotFoundError, match="none.item does not exist"):
        ranker.with_items(tmp_path / "none.item")
    with pytest.raises(ValueError, match="unseen: 'cohorts' .* DIN reads no semantic IDs"):
        plain.with_items(NEW, "cohorts")
    with pytest.raises(ValueError, match="unseen: 'best' is not one of padding, mean, cohorts"):
        ranker.with_items(NEW, "best")


def test_a_run_without_tokenizer_says_what_to_do(folders, tmp_path):
    folder = shutil.copytree(folders["GenCI"], tmp_path / "bare")
    ids = load(folder).semantic_ids
    shutil.rmtree(folder / "semantic_ids")
    ids.save(folder / "semantic_ids")
    ranker = Ranker(folder)
    assert ranker.texts == {} and "text" not in ranker.recommend(["u1"], 2)
    with pytest.raises(
        ValueError, match="holds semantic IDs, but not what gives .* A push to the hub left"
    ):
        ranker.with_items(NEW)


def test_weights_that_depend_on_items_in_unknown_ways_are_refused(folders, monkeypatch):
    ranker = Ranker(folders["DeepFM"])
    original = type(ranker.run.model).__init__

    def with_popularity(self, config, dataset):
        original(self, config, dataset)
        self.popularity = torch.nn.Parameter(torch.zeros(dataset.item_num))

    monkeypatch.setattr(type(ranker.run.model), "__init__", with_popularity)
    ranker.run.model.popularity = torch.nn.Parameter(torch.zeros(len(ranker.items) + 1))
    with pytest.raises(ValueError, match="items: popularity of DeepFM depends on the number of"):
        ranker.with_items(NEW)


def test_new_items_of_a_run_with_own_vectors_have_rows_in_their_file(tmp_path, caplog):
    rng = np.random.default_rng(0)
    keys = write_dataset(tmp_path / "data", tiny_rows()) | SMALL_GENCI

    def write(tokens):
        vectors = rng.normal(size=(20, 6)), rng.normal(size=(len(tokens) - 20, 6))
        if len(tokens) > 20:
            vectors = np.load(tmp_path / "own.npy"), vectors[1]
        np.save(tmp_path / "own.npy", np.concatenate(vectors))
        (tmp_path / "own.txt").write_text("\n".join(tokens))

    tokens = [f"i{number}" for number in range(20)]
    write(tokens)
    keys |= {"text_encoder": str(tmp_path / "own.npy"), "item_text_fields": None}
    (result,) = run("GenCI", "tiny", config_dict=keys)
    ranker = Ranker(result.folder)
    with pytest.raises(ValueError, match=r"own.txt has no row for 1 of 21 items, first \['n1'\]"):
        ranker.with_items(NEW.iloc[:1])
    write([*tokens, "n1"])
    wider = ranker.with_items(NEW.iloc[:1])
    old = ranker.run.semantic_ids
    np.testing.assert_array_equal(wider.run.semantic_ids.codes[:20], old.codes)
    assert wider.items.tolist() == [*ranker.items, "n1"]
    assert wider.score(["u1"], ["n1"]).shape == (1, 1)
    assert "no text in" not in caplog.text  # no text is read
