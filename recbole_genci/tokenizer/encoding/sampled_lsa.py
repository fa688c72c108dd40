"""Latent semantic analysis of a large catalogue: terms and directions come from a sample of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from recbole_genci.tokenizer.encoding.lsa import (
    PIECES,
    PIECES_WEIGHT,
    WORDS,
    check_words,
    finished,
)
from recbole_genci.tokenizer.progress import SILENT, BuildProgress
from recbole_genci.tokenizer.scale import SAMPLE

_HASHES = 1 << 22  # numbers that terms are hashed to: so many that few terms share one
_SAMPLE_CHARACTERS = 1 << 23  # so that long texts do not make the sample large
_BLOCK, _BLOCK_CHARACTERS = 1 << 14, 1 << 21  # texts that are in memory as terms at a time


class _Terms:
    """TF-IDF ``[I, T]`` in float32 of the terms that two texts of a sample have; others tell
    nothing of a text's neighbours. Terms are hashed: there is no dictionary that grows.
    """

    def __init__(self, **analysis: Any):
        self._count = HashingVectorizer(
            n_features=_HASHES, norm=None, alternate_sign=False, dtype=np.float32, **analysis
        )
        self._weight = TfidfTransformer(sublinear_tf=True)

    def fit_transform(self, blocks: Sequence[Sequence[str]]) -> sparse.csr_matrix:
        counts = sparse.vstack([self._count.transform(block) for block in blocks], format="csr")
        texts = np.bincount(counts.indices, minlength=_HASHES)
        self._kept = np.flatnonzero(texts >= min(2, texts.max()))
        return self._weight.fit(counts).transform(counts, copy=False)[:, self._kept]

    def transform(self, block: Sequence[str]) -> sparse.csr_matrix:
        return self._weight.transform(self._count.transform(block), copy=False)[:, self._kept]


class SampledLatentSemanticAnalysis:
    """As `LatentSemanticAnalysis`, in memory that grows with the vectors alone.

    The frequencies of terms, and the directions, come from a sample of the distinct texts. Texts
    are made vectors of in blocks, each by itself: neither the sample nor a vector depends on the
    order of the texts.

    Args:
        dim: width of the vectors; smaller if there are fewer texts.
        seed: seed of the randomised SVD.
    """

    def __init__(self, dim: int, seed: int):
        self.dim = dim
        self.seed = seed
        self._words, self._pieces = _Terms(**WORDS), _Terms(**PIECES)

    def fit_transform(self, texts: Sequence[str], progress: BuildProgress = SILENT) -> np.ndarray:
        """Learn from ``texts``, and return their vectors ``[I, D]`` float32.

        Raises:
            ValueError: no text has a word in it.
        """
        check_words(texts)
        sample = sampled_texts(texts)
        with progress.steps(2 * len(sample) + len(texts)) as steps:
            self._fit(sample)
            steps.advance(2 * len(sample))
            vectors = np.empty((len(texts), len(self._svd.components_)), dtype=np.float32)
            start = 0
            for block in _blocks(texts):
                vectors[start : start + len(block)] = self._vectors(block)
                start += len(block)
                steps.advance(len(block))
        return vectors

    def transform(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors ``[J, D]`` float32 of other texts, along the learnt directions."""
        return np.concatenate([self._vectors(block) for block in _blocks(texts)])

    def _fit(self, sample: Sequence[str]) -> None:
        blocks = list(_blocks(sample))
        words = self._words.fit_transform(blocks)
        pieces = self._pieces.fit_transform(blocks)
        pieces.data *= PIECES_WEIGHT
        matrix = sparse.hstack([words, pieces], format="csr", dtype=np.float32)
        num_words = words.shape[1]
        del words, pieces
        self._svd = TruncatedSVD(
            n_components=min(self.dim, *matrix.shape), random_state=self.seed
        ).fit(matrix)
        # Transposed once: a term's loadings lie side by side.
        loadings = np.ascontiguousarray(self._svd.components_.T)
        self._loadings = loadings[:num_words], PIECES_WEIGHT * loadings[num_words:]

    def _vectors(self, block: Sequence[str]) -> np.ndarray:
        words, pieces = self._words.transform(block), self._pieces.transform(block)
        # Sparse products sum each row by itself, so that a block's other rows change nothing.
        along = words @ self._loadings[0] + pieces @ self._loadings[1]
        return finished(along.astype(np.float64), self._svd)


def sampled_texts(texts: Sequence[str]) -> list[str]:
    """At most `SAMPLE` distinct texts, those of the smallest hash, in its order."""
    hashes = np.fromiter(map(_hash, texts), dtype=np.uint64, count=len(texts))
    _, first = np.unique(hashes, return_index=True)
    sample = [texts[row] for row in first[:SAMPLE]]
    characters = np.cumsum([len(text) for text in sample])
    return sample[: max(1, int(np.searchsorted(characters, _SAMPLE_CHARACTERS)))]


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in blocks that are small enough to be analysed at once, however long they are."""
    start = characters = 0
    for number, text in enumerate(texts):
        characters += len(text)
        if number > start and (number - start == _BLOCK or characters > _BLOCK_CHARACTERS):
            yield texts[start:number]
            start, characters = number, len(text)
    if start < len(texts):
        yield texts[start:]
