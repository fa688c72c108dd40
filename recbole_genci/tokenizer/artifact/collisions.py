"""The collision digit: the last level, which tells apart items with the same quantiser codes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from recbole_genci.tokenizer.encoding.text import shorten


def _stable_hash(token: str) -> bytes:
    """The same on every machine and in every process, unlike ``hash(str)``."""
    return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _first_free(codes: np.ndarray, published: np.ndarray) -> np.ndarray:
    """For each row of ``codes [I, L]`` the first free digit of its bucket: the largest digit in
    ``published [P, L + 1]`` plus 1.
    """
    both = np.concatenate([published[:, :-1], codes])
    _, bucket = np.unique(both, axis=0, return_inverse=True)
    bucket = bucket.reshape(-1)
    free = np.zeros(len(both), dtype=np.int64)
    np.maximum.at(free, bucket[: len(published)], published[:, -1] + 1)
    return free[bucket[len(published) :]]


def _remedy(needed: int, capacity: int, texts: Sequence[str]) -> str:
    """Advice for a bucket of ``needed`` items with these texts. Only a larger level separates items
    with equal texts.
    """
    text, equal = Counter(texts).most_common(1)[0] if texts else ("", 0)
    larger = f"Raise `collision_codebook_size` to at least {needed}"
    if equal > capacity:
        return (
            f"{equal} of them have equal texts ({shorten(text)!r}), which no codebooks can part. "
            f"{larger}, or tell the items apart by richer `item_text_fields`."
        )
    return (
        f"{larger}, set `spread_collisions: True`, or tell the items apart: richer "
        "`item_text_fields`, more or larger codebooks."
    )


def _check_items(codes: np.ndarray, item_tokens: Sequence[str]) -> None:
    if codes.ndim != 2 or len(codes) != len(item_tokens):
        raise ValueError(
            f"{len(item_tokens)} item tokens for codes of shape {codes.shape}; give [I, L] codes "
            "of I items."
        )
    if len(set(item_tokens)) != len(item_tokens):
        raise ValueError(
            "Item tokens must be distinct: two equal tokens in one bucket have no stable order."
        )


def _rows_with(codes: np.ndarray, wanted: np.ndarray) -> list[int]:
    """The rows of ``codes [I, L]`` that are equal to ``wanted [L]``."""
    return np.flatnonzero((codes == wanted).all(axis=1)).tolist()


def _ranks(bucket: np.ndarray, size: np.ndarray, item_tokens: Sequence[str]) -> np.ndarray:
    """The place ``[I]`` of each item in its bucket, by the hash of its token, then by the token.

    Args:
        bucket: ``[I]`` the bucket of each item.
        size: ``[B]`` number of items of each bucket.
        item_tokens: I raw item ids.
    """
    rank = np.zeros(len(bucket), dtype=np.int64)
    shared = np.flatnonzero(size[bucket] > 1)  # an item alone need not be hashed
    if len(shared) == 0:
        return rank
    named = list(item_tokens)
    order = np.array(
        sorted(shared, key=lambda row: (bucket[row], _stable_hash(named[row]), named[row])),
        dtype=np.int64,
    )
    sorted_bucket = bucket[order]
    starts = np.flatnonzero(np.r_[True, sorted_bucket[1:] != sorted_bucket[:-1]])
    lengths = np.diff(np.r_[starts, len(order)])
    rank[order] = np.arange(len(order)) - np.repeat(starts, lengths)
    return rank


def resolve_collisions(
    codes: np.ndarray,
    item_tokens: Sequence[str],
    capacity: int | None = None,
    published: np.ndarray | None = None,
    texts: Sequence[str] | None = None,
) -> np.ndarray:
    """Number the items of each bucket 0, 1, ... in the order of a stable hash of their tokens.

    The numbers depend only on the bucket's items, not on the order of rows. An item alone in its
    bucket gets 0. Numbers continue after those of published IDs, so that no ID is given twice.

    Args:
        codes: ``[I, L]`` codes of the quantiser; equal rows form a bucket.
        item_tokens: I distinct raw item ids.
        capacity: how many items a bucket may hold (the size of the last codebook); None for no
            limit.
        published: ``[P, L + 1]`` full IDs of other items, which do not change.
        texts: texts of the published and then of the I other items, only for the error; None if
            vectors do not come from texts.

    Returns:
        ``[I]`` int64.

    Raises:
        ValueError: lengths differ, a token is listed twice, or a bucket holds more items than
            ``capacity``.
    """
    codes = np.asarray(codes)
    _check_items(codes, item_tokens)
    if len(codes) == 0:
        return np.zeros(0, dtype=np.int64)
    _, bucket, size = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    bucket = bucket.reshape(-1)
    first_free = (
        np.zeros(len(codes), dtype=np.int64) if published is None else _first_free(codes, published)
    )
    needed = size[bucket] + first_free
    if capacity is not None and needed.max() > capacity:
        crowded = codes[needed.argmax()]
        first = [str(item_tokens[row]) for row in _rows_with(codes, crowded)[:3]]
        everyone = codes if published is None else np.concatenate([published[:, :-1], codes])
        their_texts = [] if texts is None else [texts[row] for row in _rows_with(everyone, crowded)]
        raise ValueError(
            f"{needed.max()} items share the codes {crowded.tolist()}, but the collision "
            f"level holds {capacity} (first items: {first}). "
            f"{_remedy(needed.max(), capacity, their_texts)}"
        )
    return _ranks(bucket, size, item_tokens) + first_free
