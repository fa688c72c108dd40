"""The quality of codes: collisions, use and balance of each level, and how well they keep texts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_logger = logging.getLogger(__name__)

# The largest share of items in one code of a balanced level. With few codes, the share of four
# codes of an even level is allowed.
_BALANCED_SHARE = 0.1
# Number of items whose neighbours are compared: precise to two digits, and quick.
_NEIGHBOUR_SAMPLE = 2000
COLLAPSED_SHARE = 0.5  # of the items in one code: a level with a larger cohort has collapsed


def collision_rate(codes: np.ndarray) -> float:
    """``1 - distinct rows / rows`` of codes ``[I, L]``, before the collision digit."""
    return 1.0 - len(np.unique(codes, axis=0)) / len(codes)


def level_quality(codes: np.ndarray, level_size: int) -> dict[str, float]:
    """Use and balance of one level: codes ``[I]``, each below ``level_size``.

    ``perplexity`` is the exponential of the entropy: the number of equally large cohorts with the
    same diversity. ``gini`` is 0 if all codes serve the same number of items, and near 1 if one
    code serves them all.
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
    """Whether a level's cohorts carry information.

    Its perplexity is then at least half its codes, and no code has a large share of the items.
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


def warn_of_equal_codes(codes: np.ndarray) -> None:
    """Warn if most items have one and the same codes ``[I, L]``, before the digit."""
    _, size = np.unique(codes, axis=0, return_counts=True)
    if size.max() > max(1, COLLAPSED_SHARE * len(codes)):
        _logger.warning(
            f"{size.max()} of {len(codes)} items have the same codes, and only the digit tells "
            "them apart; cohorts will say little about them. Make semantic IDs of richer "
            "`item_text_fields`."
        )


def neighbor_step(items: int) -> int:
    """Each how manieth item `neighbor_recall` compares."""
    return max(1, items // _NEIGHBOUR_SAMPLE)


def neighbor_recall(embeddings: np.ndarray, reconstruction: np.ndarray, k: int = 10) -> float:
    """Share of each item's ``k`` nearest items by embedding that are nearest by reconstruction too.

    Both arrays are ``[I, D]``. A large catalogue is thinned to evenly spaced items. The value is
    NaN if there are too few items to have neighbours.
    """
    step = neighbor_step(len(embeddings))
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
    """The figures in a few lines for the log."""
    lines = [
        f"{quality['items']} items, collision rate before the digit "
        f"{quality['collision_rate']:.2%}, {quality['items_alone']:.1%} of items alone, largest "
        f"bucket {quality['largest_bucket']}"
    ]
    for number, level in enumerate(quality["levels"], start=1):
        lines.append(
            f"level {number}: {level['used']}/{level['codes']} codes used, perplexity "
            f"{level['perplexity']:.1f}, largest cohort {level['largest_share']:.1%} of items, "
            f"gini {level['gini']:.2f}" + ("" if is_balanced(level) else " (unbalanced)")
        )
    lines.append(
        f"reconstruction error {quality['reconstruction_error']:.4f} of the embeddings' variance, "
        f"neighbor recall@10 {quality['neighbor_recall']:.3f}"
    )
    return "\n".join(lines)
