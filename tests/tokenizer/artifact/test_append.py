import numpy as np
import pytest
import torch

from recbole_genci.tokenizer import (
    SemanticIDs,
    append_items,
    load_or_build_semantic_ids,
    tokenizer_settings,
)
from recbole_genci.tokenizer.artifact.frozen import (
    quantize_vectors,
    quantizer_from_weights,
    read_frozen,
)
from recbole_genci.tokenizer.encoding.item_file import ItemFile

WORDS = [
    "star",
    "war",
    "love",
    "paris",
    "robot",
    "ghost",
    "jazz",
    "city",
    "river",
    "night",
    "snow",
    "king",
]
QUICK = {
    "text_encoder": "lsa",
    "item_text_fields": ["title"],
    "codebook_size": 8,
    "codebook_dim": 8,
    "lsa_dim": 16,
    "rqvae_hidden_size": [16],
    "rqvae_epochs": 8,
}


def _text(number):
    return f"{WORDS[number % 12]} {WORDS[number * 5 // 12 % 12]} {1950 + number % 50}"


OLD = {f"i{n}": _text(n) for n in range(80)}
NEW = {f"n{n}": _text(n + 83) for n in range(30)} | {"twin": _text(7), "twin2": _text(7)}


def _publish(tmp_path, **changes):
    item_file = tmp_path / "toy.item"
    item_file.write_text(
        "item_id:token\ttitle:token_seq\n" + "".join(f"{k}\t{v}\n" for k, v in OLD.items())
    )
    settings = tokenizer_settings(QUICK | changes)
    ids = load_or_build_semantic_ids(
        settings, ItemFile(item_file, "item_id"), list(OLD), tmp_path / "cache", "toy"
    )
    (folder,) = (tmp_path / "cache").glob("toy-*")
    return ids, folder


@pytest.mark.parametrize(
    "changes",
    [{}, {"quantizer": "rkmeans"}, {"codebook_update": "gradient"}, {"spread_collisions": True}],
)
def test_published_ids_never_move_and_new_ones_are_unique(tmp_path, changes):
    published, folder = _publish(tmp_path, **changes)
    everything = OLD | NEW
    tokens = list(everything)
    extended = append_items(folder, tmp_path / "more", tokens, [everything[t] for t in tokens])
    np.testing.assert_array_equal(extended.codes[:80], published.codes)
    assert extended.item_tokens == (*published.item_tokens, *sorted(NEW))
    assert extended.manifest["appended"]["items"] == 32
    assert SemanticIDs.load(tmp_path / "more").digest == extended.digest
    assert SemanticIDs.load(folder).digest == published.digest

    shuffled = np.random.default_rng(0).permutation(len(tokens))
    again = append_items(
        folder,
        tmp_path / "again",
        [tokens[i] for i in shuffled],
        [everything[tokens[i]] for i in shuffled],
    )
    assert again.digest == extended.digest


def test_a_text_that_is_published_gets_the_codes_of_its_item_and_the_next_digit(tmp_path):
    published, folder = _publish(tmp_path, spread_collisions=True)
    extended = append_items(folder, tmp_path / "more", list(NEW), list(NEW.values()))
    row = {token: n for n, token in enumerate(extended.item_tokens)}
    codes = extended.codes
    for token in ("twin", "twin2"):
        np.testing.assert_array_equal(codes[row[token], :-1], codes[row["i7"], :-1])
        assert codes[row[token], -1] > codes[row["i7"], -1]
    assert extended.manifest["appended"]["equal_texts"] >= 2


def test_items_added_in_steps_keep_what_the_first_step_gave_them(tmp_path):
    _, folder = _publish(tmp_path)
    tokens = list(NEW)
    append_items(folder, tmp_path / "first", tokens[:10], [NEW[t] for t in tokens[:10]])
    second = append_items(tmp_path / "first", tmp_path / "second", tokens, list(NEW.values()))
    first = SemanticIDs.load(tmp_path / "first")
    np.testing.assert_array_equal(second.codes[: len(first)], first.codes)
    at_once = append_items(folder, tmp_path / "once", tokens, list(NEW.values()))
    one, other = (
        dict(zip(ids.item_tokens, ids.codes[:, :-1].tolist(), strict=True))
        for ids in (second, at_once)
    )
    assert one == other  # only digits can depend on who came first


def test_frozen_codes_do_not_depend_on_chunks_and_are_those_of_the_fit(tmp_path):
    published, folder = _publish(tmp_path)
    artifact = read_frozen(folder)
    model = quantizer_from_weights(artifact.weights, folder)
    from recbole_genci.tokenizer.build import item_vectors

    vectors = item_vectors(artifact.settings, published.item_tokens, artifact.texts, folder.parent)
    whole = quantize_vectors(model, vectors)[0].numpy()
    np.testing.assert_array_equal(whole, published.codes[:, :-1])
    parts = [quantize_vectors(model, part)[0].numpy() for part in np.array_split(vectors, 23)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_what_cannot_be_added_is_refused(tmp_path):
    _, folder = _publish(tmp_path, collision_codebook_size=4)
    with pytest.raises(ValueError, match="nothing to add"):
        append_items(folder, tmp_path / "more", ["i1"], [OLD["i1"]])
    with pytest.raises(ValueError, match="1 items more than once"):
        append_items(folder, tmp_path / "more", ["x", "x"], ["a", "b"])
    with pytest.raises(ValueError, match=r"\d+ items share the codes.*holds 4"):
        append_items(folder, tmp_path / "more", list("abcdefgh"), [_text(7)] * 8)
    assert not (tmp_path / "more").exists()


def test_another_tokenizer_than_the_published_one_is_noticed(tmp_path):
    ids, folder = _publish(tmp_path)
    artifact = read_frozen(folder)
    forged = {
        name: value + 1.0 if name == "codebooks.0.codes" else value
        for name, value in artifact.weights.items()
    }
    forged["codebooks.0.codes"] = forged["codebooks.0.codes"] * torch.linspace(-3, 3, 8)[:, None]
    ids.save(tmp_path / "forged", forged, artifact.texts)
    with pytest.raises(ValueError, match=r"only .*% of 80 published items the codes they have"):
        append_items(tmp_path / "forged", tmp_path / "more", ["x"], ["star night"])
    ids.save(tmp_path / "bare")
    with pytest.raises(FileNotFoundError, match="without texts.tsv"):
        append_items(tmp_path / "bare", tmp_path / "more", ["x"], ["star night"])


def test_vectors_of_the_users_own_need_no_texts(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "own.npy", rng.normal(size=(112, 12)))
    (tmp_path / "own.txt").write_text("".join(f"{t}\n" for t in [*OLD, *NEW]))
    settings = tokenizer_settings(
        QUICK | {"item_text_fields": None, "text_encoder": str(tmp_path / "own.npy")}
    )
    absent = ItemFile(tmp_path / "absent.item", "item_id")
    build = (settings, absent, list(OLD), tmp_path / "cache", "toy")
    ids = load_or_build_semantic_ids(*build)
    (folder,) = (tmp_path / "cache").glob("toy-*")
    assert ids.manifest["embedding_dim"] == 12 and read_frozen(folder).texts[0] == "item i0"
    extended = append_items(folder, tmp_path / "more", list(NEW), list(NEW.values()))
    np.testing.assert_array_equal(extended.codes[:80], ids.codes)
    np.save(tmp_path / "own.npy", rng.normal(size=(112, 12)))  # other content under the same name
    load_or_build_semantic_ids(*build)
    assert len(list((tmp_path / "cache").glob("toy-*"))) == 2
    with pytest.raises(ValueError, match="published items the codes they have"):
        append_items(folder, tmp_path / "other", list(NEW), list(NEW.values()))


def test_a_vector_that_is_published_gets_the_codes_of_its_item(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(112, 12))
    vectors[1] = vectors[0]  # i1 as i0
    vectors[80:84] = vectors[[0, 0, 3, 80]]  # n0 and n1 as i0, n2 as i3; n3 is another
    vectors[83] = np.random.default_rng(1).normal(size=12)
    vectors[84:86] = vectors[83]  # n4 and n5 as n3
    np.save(tmp_path / "own.npy", vectors)
    (tmp_path / "own.txt").write_text("".join(f"{t}\n" for t in [*OLD, *NEW]))
    settings = tokenizer_settings(
        QUICK
        | {
            "item_text_fields": None,
            "text_encoder": str(tmp_path / "own.npy"),
            "spread_collisions": True,
            "num_codebooks": 2,
            "quantizer": "rkmeans",
        }
    )
    load_or_build_semantic_ids(
        settings,
        ItemFile(tmp_path / "absent.item", "item_id"),
        list(OLD),
        tmp_path / "cache",
        "toy",
    )
    (folder,) = (tmp_path / "cache").glob("toy-*")
    extended = append_items(folder, tmp_path / "more", list(NEW), list(NEW.values()))
    codes = dict(zip(extended.item_tokens, extended.codes[:, :-1].tolist(), strict=True))
    assert codes["i0"] == codes["i1"] == codes["n0"] == codes["n1"] and codes["i3"] == codes["n2"]
    assert codes["n3"] == codes["n4"] == codes["n5"]


def test_equal_vectors_have_equal_residuals_however_many_there_are(tmp_path):
    _, folder = _publish(tmp_path)
    model = quantizer_from_weights(read_frozen(folder).weights, folder)
    vectors = np.random.default_rng(0).normal(size=(40, 16))
    for number in range(2, 41):  # a matrix product may round its last few rows in another way
        several = vectors[:number].copy()
        several[-1] = several[0]
        codes, residuals = quantize_vectors(model, several)
        assert torch.equal(residuals[0], residuals[-1]) and torch.equal(codes[0], codes[-1])
        torch.testing.assert_close(
            residuals[0], quantize_vectors(model, several[:1])[1][0], rtol=0, atol=1e-12
        )


def test_an_artifact_of_another_dataset_is_refused_and_changed_texts_are_named(tmp_path, caplog):
    published, folder = _publish(tmp_path)
    other = {token: f"hammer {token}" for token in OLD} | NEW
    with pytest.raises(
        ValueError, match="80 of the 80 items.*first 'i0'.*'hammer i0' now.*another dataset"
    ):
        append_items(folder, tmp_path / "more", list(other), list(other.values()))
    assert not (tmp_path / "more").exists()
    retitled = OLD | {"i1": "a new title", "i2": "one more"} | NEW
    extended = append_items(folder, tmp_path / "more", list(retitled), list(retitled.values()))
    assert (
        "2 of the 80 items" in caplog.text
        and "first 'i1'" in caplog.text
        and "'a new title' now" in caplog.text
    )
    np.testing.assert_array_equal(extended.codes[:80], published.codes)


def test_equal_texts_beyond_the_collision_level_are_told_as_such(tmp_path):
    _, folder = _publish(tmp_path, collision_codebook_size=4)
    with pytest.raises(
        ValueError, match=r"5 of them have equal texts.*`collision_codebook_size` to at least"
    ) as caught:
        append_items(
            folder, tmp_path / "more", list("abcd"), [_text(7)] * 4
        )  # and the published one
    assert "spread_collisions" not in str(caught.value)


@pytest.mark.parametrize("large_when_built", [False, True])
def test_items_are_added_by_the_algorithm_that_built_the_artifact(
    tmp_path, monkeypatch, caplog, large_when_built
):
    sizes = (0, 1 << 15) if large_when_built else (1 << 15, 0)
    monkeypatch.setattr("recbole_genci.tokenizer.scale.LARGE_CATALOGUE", sizes[0])
    published, folder = _publish(tmp_path, quantizer="rkmeans")
    assert published.manifest["build_version"] == (4 if large_when_built else 1)
    monkeypatch.setattr("recbole_genci.tokenizer.scale.LARGE_CATALOGUE", sizes[1])
    with caplog.at_level("INFO"):
        extended = append_items(folder, tmp_path / "more", list(NEW), list(NEW.values()))
    assert "gives 100.0% of 80 published items their codes again" in caplog.text
    np.testing.assert_array_equal(extended.codes[:80], published.codes)
