"""Is one model better than another? Two questions, of which neither answers the other.

Over seeds: would the difference show again if both were trained anew? A paired t-test of the seeds'
    differences. Over users:
would it show on other users of the same kind? A paired bootstrap that draws whole users, since a
user's rows are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

_ROUNDING = 1e-9  # differences that spread less are one difference
_LEAST_SEEDS = 3
_CHUNK = 4_000_000  # weights of rows held at a time


@dataclass(frozen=True)
class Bootstrap:
    """A difference of AUC, and what a bootstrap over users says of it.

    Attributes:
        difference: of the mean AUC over seeds, on the test rows as they are.
        standard_error: of the difference.
        low, high: 95 % percentile interval.
        p_value: two-sided; how often a draw's difference has the other sign, doubled, never below 2
            / (draws + 1).
        draws: that held both classes.
    """

    difference: float
    standard_error: float
    low: float
    high: float
    p_value: float
    draws: int


def paired_t_test(first: np.ndarray, second: np.ndarray) -> float | None:
    """Two-sided p-value of a paired t-test of ``[seeds]`` against ``[seeds]``; None below 3 seeds
    or without any variation.
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
    """AUC ``[D]`` under row weights ``[D, R]``; tied scores count half, NaN where a class has no
    weight.

    Args:
        labels: ``[R]``, 0 or 1.
        scores: ``[R]``.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(
        np.concatenate([[True], ordered[1:] != ordered[:-1]])
    )  # of each group of equal scores
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
    """Bootstrap the difference of two models' mean AUC over seeds, drawing as many users as there
    are, with repetition.

    All seeds of both models see the same draw, so that the differences are paired.

    Args:
        users, labels: ``[R]``, of the test rows.
        first, second: scores ``[seeds, R]``.
        draws: how many times users are drawn.
        seed: of the draws.

    Returns:
        None where AUC is undefined, as the rows are all of one class.
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
