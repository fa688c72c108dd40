"""Tests whether one model is better than another, by two independent questions.

Over seeds: would the difference show again if both models were trained again? A paired t-test of
the seeds' differences answers it. Over users: would the difference show for other users of the same
kind? A paired bootstrap that draws whole users answers it, since a user's rows are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

_ROUNDING = 1e-9  # differences within this range count as equal
_LEAST_SEEDS = 3
_CHUNK = 4_000_000  # how many row weights are in memory at a time


@dataclass(frozen=True)
class Bootstrap:
    """A difference of AUC and its bootstrap over users.

    Attributes:
        difference: difference of the mean AUC over seeds, on the test rows themselves.
        standard_error: standard error of the difference.
        low, high: 95 % percentile interval.
        p_value: two-sided: twice the share of draws whose difference has the other sign, and at
            least 2 / (draws + 1).
        draws: number of draws with rows of both classes.
    """

    difference: float
    standard_error: float
    low: float
    high: float
    p_value: float
    draws: int


def paired_t_test(first: np.ndarray, second: np.ndarray) -> float | None:
    """Two-sided p-value of a paired t-test of ``[seeds]`` against ``[seeds]``.

    None if there are fewer than 3 seeds or the differences do not vary.
    """
    difference = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    if (
        len(difference) < _LEAST_SEEDS
        or not np.isfinite(difference).all()
        or np.ptp(difference) < _ROUNDING
    ):
        return None
    return float(stats.ttest_rel(first, second).pvalue)


def weighted_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC ``[D]`` under row weights ``[D, R]``; tied scores count half, NaN if a class has no
    weight.

    Args:
        labels: ``[R]``, 0 or 1.
        scores: ``[R]``.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    # Where each group of equal scores begins.
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    weights = weights[:, order]
    positive = np.add.reduceat(weights * labels[order], starts, axis=1)
    negative = np.add.reduceat(weights * (1 - labels[order]), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, (positive * below).sum(axis=1) / pairs, np.nan)


def user_bootstrap(
    users: np.ndarray,
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    draws: int = 1000,
    seed: int = 0,
) -> Bootstrap | None:
    """Bootstrap the difference of two models' mean AUC over seeds.

    Each draw takes as many users as there are, with replacement. All seeds of both models see the
    same draw, so that the differences are paired.

    Args:
        users, labels: of the test rows, ``[R]``.
        first, second: scores of the two models, ``[seeds, R]``.
        draws: number of draws.
        seed: seed of the draws.

    Returns:
        None if all rows have one class, as AUC is then undefined.
    """
    labels = np.asarray(labels, dtype=float)
    _, user = np.unique(users, return_inverse=True)
    number = user.max() + 1 if len(user) else 0

    def difference(weights: np.ndarray) -> np.ndarray:
        of = [
            np.mean([weighted_auc(labels, scores, weights) for scores in model], axis=0)
            for model in (first, second)
        ]
        return of[0] - of[1]

    observed = difference(np.ones((1, len(labels))))[0] if number else np.nan
    if not np.isfinite(observed):
        return None
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // len(labels))
    chunks = []
    for start in range(0, draws, chunk):
        counts = generator.multinomial(
            number, np.full(number, 1 / number), size=min(chunk, draws - start)
        )
        chunks.append(difference(counts[:, user].astype(float)))
    drawn = np.concatenate(chunks)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 2:
        return None
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Bootstrap(
        float(observed),
        float(drawn.std(ddof=1)),
        float(low),
        float(high),
        float(min(1.0, 2 * (tail + 1) / (len(drawn) + 1))),
        len(drawn),
    )
