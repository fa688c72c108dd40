"""How good a set of codes is: collisions, use and balance of every level, and how much of the text
they keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Of the items in one code, or what four codes of an even level hold where there are few codes
_BALANCED_SHARE = 0.1
_NEIGHBOUR_SAMPLE = (
    2000  # items whose neighbours are compared: enough for two digits, quick for any catalogue
)


def collision_rate(codes: np.ndarray) -> float:
    """``1 - distinct rows / rows`` of codes ``[I, L]``, before the collision digit."""
    return 1.0 - len(np.unique(codes, axis=0)) / len(codes)


def level_quality(codes: np.ndarray, level_size: int) -> dict[str, float]:
    """Use and balance of one level: codes ``[I]``, each below ``level_size``.

    ``perplexity`` is the exponential of the entropy: how many equally large cohorts would be as
    diverse. ``gini`` is 0 where all codes serve as many items, and near 1 where one code serves
    them all.
    """
    count = np.bincount(codes, minlength=level_size)
    share = count[count > 0] / len(codes)
    rank = np.arange(1, level_size + 1)
    return {
        "codes": level_size,
        "used": int(np.count_nonzero(count)),
        "perplexity": float(np.exp(-(share * np.log(share)).sum())),
        "largest_share": float(share.max()),
        "gini": float(
            2 * (rank * np.sort(count)).sum() / (level_size * len(codes))
            - (level_size + 1) / level_size
        ),
    }


def is_balanced(level: Mapping[str, float]) -> bool:
    """Whether a level's cohorts say something: a perplexity of half its codes, and no code with a
    large share of items.
    """
    largest = max(_BALANCED_SHARE, 4 / level["codes"])
    return level["perplexity"] >= level["codes"] / 2 and level["largest_share"] <= largest


def codes_quality(codes: np.ndarray, level_sizes: Sequence[int]) -> dict[str, Any]:
    """Collisions of codes ``[I, L]`` before the digit, and the quality of every level."""
    _, size = np.unique(codes, axis=0, return_counts=True)
    return {
        "items": len(codes),
        "collision_rate": collision_rate(codes),
        "items_alone": float(np.count_nonzero(size == 1) / len(codes)),
        "largest_bucket": int(size.max()),
        "levels": [
            level_quality(codes[:, level], level_sizes[level]) for level in range(codes.shape[1])
        ],
    }


def neighbor_recall(embeddings: np.ndarray, reconstruction: np.ndarray, k: int = 10) -> float:
    """Share of each item's ``k`` nearest items by embedding that are also nearest by
    reconstruction, both ``[I, D]``.

    Large catalogues are thinned to evenly spaced items. NaN where there are too few items to have
    neighbours.
    """
    step = max(1, len(embeddings) // _NEIGHBOUR_SAMPLE)
    nearest = []
    for rows in (embeddings[::step], reconstruction[::step]):
        rows = rows.astype(np.float64)
        if len(rows) <= k + 1:
            return float("nan")
        square = (rows**2).sum(axis=1)
        distance = square[:, None] - 2 * rows @ rows.T + square
        np.fill_diagonal(distance, np.inf)
        mark = np.zeros(distance.shape, dtype=bool)
        np.put_along_axis(mark, np.argpartition(distance, k, axis=1)[:, :k], True, axis=1)
        nearest.append(mark)
    return float((nearest[0] & nearest[1]).sum() / (k * len(nearest[0])))


def describe_quality(quality: Mapping[str, Any]) -> str:
    """The figures as a few lines for the log."""
    lines = [
        f"{quality['items']} items, collision rate before the digit "
        f"{quality['collision_rate']:.2%}, "
        f"{quality['items_alone']:.1%} of items alone, largest bucket {quality['largest_bucket']}"
    ]
    for number, level in enumerate(quality["levels"], start=1):
        lines.append(
            f"level {number}: {level['used']}/{level['codes']} codes used, perplexity "
            f"{level['perplexity']:.1f}, "
            f"largest cohort {level['largest_share']:.1%} of items, gini {level['gini']:.2f}"
            + ("" if is_balanced(level) else " (unbalanced)")
        )
    lines.append(
        f"reconstruction error {quality['reconstruction_error']:.4f} of the embeddings' variance, "
        f"neighbor recall@10 {quality['neighbor_recall']:.3f}"
    )
    return "\n".join(lines)
