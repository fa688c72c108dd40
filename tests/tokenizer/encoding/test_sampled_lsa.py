import tracemalloc

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from recbole_genci.tokenizer import scale
from recbole_genci.tokenizer.encoding import sampled_lsa
from recbole_genci.tokenizer.encoding.encoders import encode_texts
from recbole_genci.tokenizer.encoding.lsa import LatentSemanticAnalysis
from recbole_genci.tokenizer.encoding.sampled_lsa import (
    SampledLatentSemanticAnalysis,
    sampled_texts,
)

WORDS = ["star", "war", "love", "paris", "robot", "ghost", "jazz", "city", "river", "night", "sea"]


def _texts(number, seed=0):
    rng = np.random.default_rng(seed)
    return [
        " ".join(rng.choice(WORDS, 3)) + f" {rng.integers(0, 3 * number)}" for _ in range(number)
    ]


def test_vectors_are_those_of_a_dense_svd_of_the_terms_that_two_texts_have():
    texts = list(dict.fromkeys(_texts(120)))
    parts = []
    for weight, analysis in (
        (1.0, {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}),
        (0.5, {"analyzer": "char_wb", "ngram_range": (3, 4)}),
    ):
        dense = TfidfVectorizer(sublinear_tf=True, **analysis).fit_transform(texts).toarray()
        parts.append(weight * dense[:, (dense > 0).sum(axis=0) >= 2])
    matrix = np.hstack(parts)
    _, strength, directions = np.linalg.svd(matrix, full_matrices=False)
    expected = matrix @ directions[:5].T / np.sqrt(strength[:5])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = SampledLatentSemanticAnalysis(5, 0).fit_transform(texts)
    # Angles, because a singular vector's sign is arbitrary.
    np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T, atol=2e-3)


def test_neither_the_order_of_texts_nor_the_size_of_blocks_changes_a_bit(monkeypatch):
    texts = _texts(300)
    monkeypatch.setattr(sampled_lsa, "SAMPLE", 100)
    vectors = SampledLatentSemanticAnalysis(8, 0).fit_transform(texts)
    order = np.random.default_rng(1).permutation(300)
    monkeypatch.setattr(sampled_lsa, "_BLOCK", 7)
    shuffled = SampledLatentSemanticAnalysis(8, 0).fit_transform([texts[row] for row in order])
    np.testing.assert_array_equal(shuffled, vectors[order])
    monkeypatch.setattr(sampled_lsa, "_BLOCK_CHARACTERS", 30)
    lsa = SampledLatentSemanticAnalysis(8, 0)
    np.testing.assert_array_equal(lsa.fit_transform(texts), vectors)
    np.testing.assert_array_equal(lsa.transform(texts), vectors)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_the_sample_has_distinct_texts_and_a_bounded_length(monkeypatch):
    texts = _texts(200) + ["the same"] * 500
    assert sorted(sampled_texts(texts)) == sorted(set(texts))
    monkeypatch.setattr(sampled_lsa, "SAMPLE", 50)
    sample = sampled_texts(texts)
    assert len(set(sample)) == 50 and sample == sampled_texts(texts[::-1])
    monkeypatch.setattr(sampled_lsa, "_SAMPLE_CHARACTERS", 200)
    assert sum(map(len, sampled_texts(texts))) <= 200
    assert len(sampled_texts(["long " * 100])) == 1


def test_memory_grows_with_the_vectors_alone(monkeypatch):
    monkeypatch.setattr(sampled_lsa, "SAMPLE", 200)
    monkeypatch.setattr(sampled_lsa, "_BLOCK", 200)
    peaks = []
    for number in (1_000, 5_000):
        texts = _texts(number)
        tracemalloc.start()
        SampledLatentSemanticAnalysis(16, 0).fit_transform(texts)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    output = 4_000 * 16 * 4
    assert peaks[1] - peaks[0] - output < 4_000 * 500  # bytes; the full matrix has 16,000 an item


def test_texts_without_words_are_refused_and_unknown_words_give_no_direction():
    with pytest.raises(ValueError, match="item_text_fields"):
        SampledLatentSemanticAnalysis(4, 0).fit_transform(["!!!", "..."])
    for texts in (["Heat"], ["a", "a", ""], ["x y", "!!!"]):
        vectors = SampledLatentSemanticAnalysis(4, 0).fit_transform(texts)
        assert vectors.shape[0] == len(texts) and np.isfinite(vectors).all()


def test_only_large_catalogues_are_encoded_by_a_sample(monkeypatch):
    texts = _texts(60)
    small = LatentSemanticAnalysis(8, 2020).fit_transform(texts).astype(np.float32)
    np.testing.assert_array_equal(encode_texts(texts, "lsa", dim=8), small)
    monkeypatch.setattr(scale, "LARGE_CATALOGUE", 59)
    large = SampledLatentSemanticAnalysis(8, 2020).fit_transform(texts)
    np.testing.assert_array_equal(encode_texts(texts, "lsa", dim=8), large)
    assert not np.array_equal(small, large)
