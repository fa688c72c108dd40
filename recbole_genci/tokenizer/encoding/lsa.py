"""Latent semantic analysis: TF-IDF of words and word pieces with truncated SVD. No download."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from recbole_genci.tokenizer.progress import SILENT, BuildProgress, Steps

LSA = "lsa"
PIECES_WEIGHT = 0.5  # weight of word pieces; whole words have 1
_TEXTS_COUNTED = 1000  # texts per progress step, so that counting costs nothing


# The default token pattern drops one-letter words, and with them some texts entirely.
WORDS: dict[str, Any] = {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
# Word pieces tell apart titles whose words occur nowhere else; they halve the collisions of
# MovieLens titles.
PIECES: dict[str, Any] = {"analyzer": "char_wb", "ngram_range": (3, 4)}


def check_words(texts: Sequence[str]) -> None:
    """Raise a ValueError if no text has a word in it."""
    if not any(re.search(r"\w", text) for text in texts):
        raise ValueError(
            f"None of the {len(texts)} item texts has a word in it. Check the key "
            "`item_text_fields`."
        )


def finished(vectors: np.ndarray, svd: TruncatedSVD) -> np.ndarray:
    """Projections ``[I, D]`` on ``svd``'s directions as vectors: signed, half-whitened, of length 1
    (0 stays 0).
    """
    components, strength = svd.components_, svd.singular_values_
    # A singular vector's sign is arbitrary: its largest loading is made positive.
    largest = np.abs(components).argmax(axis=1)
    vectors = vectors * np.where(components[np.arange(len(largest)), largest] < 0, -1.0, 1.0)
    # Half-whitened, because at full strength a few frequent words (genres, decades) dominate.
    vectors *= np.where(
        strength > 1e-6 * strength.max(), 1.0 / np.sqrt(np.maximum(strength, 1e-12)), 0.0
    )
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norm > 0, norm, 1.0)


def _counted(texts: Sequence[str], steps: Steps) -> Iterator[str]:
    """Yield the texts, and count a step for each."""
    for start in range(0, len(texts), _TEXTS_COUNTED):
        some = texts[start : start + _TEXTS_COUNTED]
        yield from some
        steps.advance(len(some))


class LatentSemanticAnalysis:
    """Vectors of texts, of length 1 (0 for a text without a known word).

    Args:
        dim: width of the vectors; smaller if there are fewer texts or terms.
        seed: seed of the randomised SVD.
    """

    def __init__(self, dim: int, seed: int):
        self.dim = dim
        self.seed = seed
        self._words = TfidfVectorizer(sublinear_tf=True, **WORDS)
        self._pieces = TfidfVectorizer(sublinear_tf=True, **PIECES)

    def fit_transform(self, texts: Sequence[str], progress: BuildProgress = SILENT) -> np.ndarray:
        """Learn terms and directions from ``texts``, and return their vectors ``[I, D]``.

        Raises:
            ValueError: no text has a word in it.
        """
        check_words(texts)
        with progress.steps(3 * len(texts)) as steps:
            words = self._words.fit_transform(_counted(texts, steps))
            pieces = self._pieces.fit_transform(_counted(texts, steps))
            matrix = sparse.hstack([words, PIECES_WEIGHT * pieces]).tocsr()
            self._svd = TruncatedSVD(
                n_components=min(self.dim, *matrix.shape), random_state=self.seed
            )
            # A single text has no variance to explain: scikit-learn divides 0 by 0 for a figure
            # that nobody reads.
            with np.errstate(invalid="ignore", divide="ignore"):
                vectors = finished(self._svd.fit_transform(matrix), self._svd)
            steps.skip_to(3 * len(texts))
        return vectors

    def transform(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors ``[J, D]`` of other texts, along the learnt directions."""
        matrix = sparse.hstack(
            [self._words.transform(texts), PIECES_WEIGHT * self._pieces.transform(texts)]
        ).tocsr()
        return finished(self._svd.transform(matrix), self._svd)
