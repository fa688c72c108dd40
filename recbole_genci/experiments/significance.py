"""Tests whether one model is better than another, by two independent questions.

Over seeds: would the difference show again if both models were trained again? A paired t-test of
the seeds' differences answers it. Over users: would the difference show for other users of the same
kind? A paired bootstrap that draws whole users answers it, since a user's rows are not independent.
If one model is compared with many, Holm's correction says which differences remain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from recbole_genci.evaluation.gauc import user_aucs
from recbole_genci.evaluation.metrics import LEAST_CHANCE

_ROUNDING = 1e-9  # differences within this range count as equal
_LEAST_SEEDS = 3
_CHUNK = 4_000_000  # how many row weights are in memory at a time
#: Below so many users, what is estimated over users is itself uncertain.
FEW_USERS = 30
#: What a comparison measures, by the names of a record's ``test``.
METRICS = ("auc", "logloss", "gauc")


@dataclass(frozen=True)
class Difference:
    """A difference of a metric between two models, and its bootstrap over users.

    Attributes:
        value: difference of the mean over seeds, on the test rows themselves.
        standard_error: standard error of the difference; None, as are the next three, with fewer
            than two users or draws: draws of one user are all the same and say nothing.
        low, high: 95 % percentile interval.
        p_value: two-sided: twice the share of draws whose difference has the other sign, and at
            least 2 / (draws + 1).
        draws: number of draws in which the metric is defined.
    """

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    p_value: float | None
    draws: int

    def negated(self) -> Difference:
        """The difference of the two models in the other order."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return replace(self, value=-self.value, low=low, high=high)


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


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's corrected p-values, in the order given; None stays None and does not count.

    With them, the chance that any difference at all is called real by mistake is at most the level.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[place] = largest
    return corrected


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


class UserBootstrap:
    """Compares one model with others by a paired bootstrap over users.

    Each draw takes as many users as there are, with replacement. All models and all seeds see the
    same draws, so that the differences are paired.

    The draws depend on the rows of each user, not on the user's number: users are ordered by a
    digest of their labels and scores, and users of equal rows may be exchanged. Numbered otherwise,
    the same users have the same intervals.

    Args:
        users, labels: of the test rows, ``[R]``.
        reference: scores of the model that is compared with the others, ``[seeds, R]``.
        draws: number of draws.
        seed: seed of the draws.
    """

    def __init__(
        self,
        users: np.ndarray,
        labels: np.ndarray,
        reference: np.ndarray,
        draws: int = 2000,
        seed: int = 0,
    ) -> None:
        self.labels = np.asarray(labels, dtype=float)
        self.user = np.unique(users, return_inverse=True)[1].reshape(-1)
        self.number = int(self.user.max()) + 1 if len(self.user) else 0
        self.reference, self.draws, self.seed = reference, draws, seed
        self._digests = _digests(self.user, self.number, [self.labels, *reference])
        # Of the reference under each order of the users. There is one order for all other models,
        # unless users with different scores there are equal here.
        self._known: dict[bytes, dict[str, np.ndarray]] = {}

    def differences(self, other: np.ndarray) -> dict[str, Difference | None]:
        """Reference minus ``other``, ``[seeds, R]``, by the names of ``METRICS``.

        None where the metric is undefined on the rows: AUC if all have one class, GAUC if each
        user's have.
        """
        if not self.number:
            return dict.fromkeys(METRICS)
        others = _digests(self.user, self.number, list(other))
        order = sorted(range(self.number), key=lambda user: (self._digests[user], others[user]))
        rank = np.empty(self.number, dtype=np.int64)
        rank[order] = np.arange(self.number)
        user, key = rank[self.user], rank.tobytes()
        if key not in self._known:
            self._known[key] = self._values(user, self.reference)
        first, second = self._known[key], self._values(user, other)
        return {name: _difference(first[name] - second[name]) for name in METRICS}

    def _values(self, user: np.ndarray, model: np.ndarray) -> dict[str, np.ndarray]:
        """Mean of each metric over seeds, ``[1 + draws]``: of the rows themselves, then of each
        draw.
        """
        by_user = [_UserSums.of(user, self.number, self.labels, scores) for scores in model]
        parts: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
        for counts in self._counts():
            weights = counts[:, user]
            aucs = [weighted_auc(self.labels, scores, weights) for scores in model]
            parts["auc"].append(np.mean(aucs, axis=0))
            parts["logloss"].append(np.mean([each.log_loss(counts) for each in by_user], axis=0))
            parts["gauc"].append(np.mean([each.gauc(counts) for each in by_user], axis=0))
        return {name: np.concatenate(values) for name, values in parts.items()}

    def _counts(self) -> Iterator[np.ndarray]:
        """How often each draw has each user, some draws at a time ``[., U]``; first, each once."""
        yield np.ones((1, self.number))
        if self.number < 2:
            return
        generator = np.random.default_rng(self.seed)
        chunk = max(1, _CHUNK // len(self.user))
        equal = np.full(self.number, 1 / self.number)
        for start in range(0, self.draws, chunk):
            size = min(chunk, self.draws - start)
            yield generator.multinomial(self.number, equal, size=size).astype(float)


@dataclass(frozen=True)
class _UserSums:
    """What LogLoss and GAUC of any draw of users need of each of the U users."""

    rows: np.ndarray  # [U]
    loss: np.ndarray  # [U] sum over the user's rows
    auc: np.ndarray  # [U] AUC times weight
    weight: np.ndarray  # [U] number of rows, 0 if they have one class

    @classmethod
    def of(cls, user: np.ndarray, number: int, labels: np.ndarray, scores: np.ndarray) -> _UserSums:
        # Not 1 - LEAST_CHANCE above: sums of 0 and of one value have no rounding, and ties stay.
        chance = np.clip(np.where(labels == 1, scores, 1 - scores), LEAST_CHANCE, 1)
        aucs, rows = user_aucs(user, labels, scores)
        weight = np.where(np.isnan(aucs), 0.0, rows)
        loss = np.bincount(user, weights=-np.log(chance), minlength=number)
        return cls(rows.astype(float), loss, np.nan_to_num(aucs) * weight, weight)

    def log_loss(self, counts: np.ndarray) -> np.ndarray:
        return (counts * self.loss).sum(axis=1) / (counts * self.rows).sum(axis=1)

    def gauc(self, counts: np.ndarray) -> np.ndarray:
        weight = (counts * self.weight).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(weight > 0, (counts * self.auc).sum(axis=1) / weight, np.nan)


def _digests(user: np.ndarray, number: int, columns: Sequence[np.ndarray]) -> list[bytes]:
    """A digest of each user's rows, which neither their order nor the user's number changes."""
    content = np.column_stack(columns).astype(np.float64) + 0.0  # -0.0 becomes 0.0
    order = np.lexsort((*content.T[::-1], user))
    ends = np.cumsum(np.bincount(user, minlength=number))[:-1]
    return [hashlib.sha256(rows.tobytes()).digest() for rows in np.split(content[order], ends)]


def _difference(values: np.ndarray) -> Difference | None:
    observed, drawn = values[0], values[1:][np.isfinite(values[1:])]
    if not np.isfinite(observed):
        return None
    if len(drawn) < 2:
        return Difference(float(observed), None, None, None, None, len(drawn))
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Difference(
        float(observed),
        float(drawn.std(ddof=1)),
        float(low),
        float(high),
        float(min(1.0, 2 * (tail + 1) / (len(drawn) + 1))),
        len(drawn),
    )
