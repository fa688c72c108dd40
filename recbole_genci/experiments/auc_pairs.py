"""AUC of each model minus that of each other one, with a p-value as small as the data make it.

A bootstrap of D draws gives no p below 2 / (D + 1), which a correction over the 120 pairs of 16
models takes above any level. Here the standard error of a difference has a closed form: the rows'
placement values of DeLong et al. (Biometrics 1988), summed over each user, as a user's rows are not
independent (Obuchowski, Biometrics 1997). Nothing is drawn, so nothing depends on how users are
numbered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

_ROUNDING = 1e-12  # a difference or standard error within this range is none


@dataclass(frozen=True)
class AUCDifference:
    """The AUC of one model minus that of another, means over seeds.

    Attributes:
        value: the difference.
        standard_error: its standard error over users.
        low, high: its 95 % interval.
        p_value: two-sided, of Student's t with one degree of freedom less than there are users; not
            corrected.
    """

    value: float
    standard_error: float
    low: float
    high: float
    p_value: float


def pairwise_auc(
    users: np.ndarray, labels: np.ndarray, models: Sequence[np.ndarray]
) -> list[list[AUCDifference | None]]:
    """The difference of each two models.

    Args:
        users, labels: of the test rows, ``[R]``.
        models: scores of each model, ``[seeds, R]``.

    Returns:
        list[list[AUCDifference | None]]: by the two models' places; None on the diagonal, where AUC
            is undefined, and with fewer than two users.
    """
    labels = np.asarray(labels)
    user = np.unique(users, return_inverse=True)[1].reshape(-1)
    number = int(user.max()) + 1 if len(user) else 0
    if number < 2 or len(np.unique(labels)) < 2:
        return [[None] * len(models) for _ in models]
    measured = [_auc_by_user(user, number, labels == 1, model) for model in models]
    aucs = np.array([auc for auc, _ in measured])
    influence = np.stack([by_user for _, by_user in measured])
    return [
        [
            None if i == j else _difference(aucs[i] - aucs[j], influence[i] - influence[j])
            for j in range(len(models))
        ]
        for i in range(len(models))
    ]


def _auc_by_user(
    user: np.ndarray, number: int, positive: np.ndarray, model: np.ndarray
) -> tuple[float, np.ndarray]:
    """Mean AUC over seeds, and how much it grows by each user ``[U]``, to first order."""
    aucs, influence = [], np.zeros(number)
    for scores in model:
        placement = np.empty(len(scores))  # share of rows of the other class on the right side
        ranks = stats.rankdata(scores)
        for own, sign in ((positive, 1), (~positive, -1)):
            below = (ranks[own] - stats.rankdata(scores[own])) / (~own).sum()
            placement[own] = below if sign > 0 else 1 - below
        auc = placement[positive].mean()
        share = np.where(positive, 1 / positive.sum(), 1 / (~positive).sum())
        aucs.append(auc)
        influence += np.bincount(user, weights=(placement - auc) * share, minlength=number)
    return float(np.mean(aucs)), influence / len(model)


def _difference(value: float, influence: np.ndarray) -> AUCDifference:
    number = len(influence)
    error = float(np.sqrt(number / (number - 1) * (influence**2).sum()))
    if abs(value) < _ROUNDING:
        p_value = 1.0
    elif error < _ROUNDING:  # all users agree: a sign test's p
        p_value = 0.5 ** (number - 1)
    else:
        p_value = float(2 * stats.t.sf(abs(value) / error, number - 1))
    reach = error * float(stats.t.ppf(0.975, number - 1))
    return AUCDifference(float(value), error, float(value - reach), float(value + reach), p_value)
