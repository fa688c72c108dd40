"""GAUC: the AUC within each user's rows, averaged over users."""

from __future__ import annotations

import numpy as np


def gauc(users: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean of the users' AUC, each weighted by the user's number of rows (impressions).

    ``sum_u n_u * AUC_u / sum_u n_u`` over the users that have both a click and a row without one;
    AUC_u is undefined for the others. GAUC judges the order within a user, which is what a ranker
    decides. Users who click more or less than others change the AUC over all rows, but not GAUC.
    It was introduced by Zhu et al., "Optimized Cost per Click in Taobao Display Advertising" (KDD
    2017); DIN's paper uses it with these weights (Zhou et al., KDD 2018, section 6.3).

    RecBole's own ``gauc`` does not fit here: it is a ranking metric, computed from ranks among all
    or sampled items, so that labelled rows have none, and it weights users by their clicks.

    Args:
        users: ``[R]`` any numbers or strings that tell users apart.
        labels: ``[R]`` 0 or 1.
        scores: ``[R]`` finite; equal scores share the mean of their ranks.

    Returns:
        float: between 0 and 1; nan if no user has rows of both classes.

    Raises:
        ValueError: the arrays have different lengths, labels are not 0 or 1, or scores are not
            finite.
    """
    users, labels, scores = np.asarray(users), np.asarray(labels), np.asarray(scores)
    if not users.shape == labels.shape == scores.shape == (len(users),):
        raise ValueError(
            f"gauc: users {users.shape}, labels {labels.shape} and scores {scores.shape} are not "
            "one number a row."
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"gauc: labels hold {labels[~np.isin(labels, (0, 1))][0]!r}; they must be 0 or 1."
        )
    if not np.isfinite(scores).all():
        raise ValueError(
            f"gauc: {(~np.isfinite(scores)).sum()} of {len(scores)} scores are not finite."
        )
    if len(users) == 0:
        return float("nan")
    user = np.unique(users, return_inverse=True)[1].reshape(-1)
    aucs, rows = user_aucs(user, labels, scores)
    both = ~np.isnan(aucs)
    return float(np.average(aucs[both], weights=rows[both])) if both.any() else float("nan")


def user_aucs(
    user: np.ndarray, labels: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The AUC of each user's rows ``[U]``, NaN if they have one class, and their number ``[U]``.

    Args:
        user: ``[R]`` whole numbers from 0 to U - 1, each of which occurs.
        labels: ``[R]`` 0 or 1.
        scores: ``[R]`` finite.
    """
    order = np.lexsort((scores, user))
    user, clicked, scores = user[order], labels[order] == 1, scores[order]
    rows = np.bincount(user)
    clicks = np.bincount(user[clicked], minlength=len(rows))
    # Ranks from 1 within each user. A group of equal scores starts where the user or the score
    # changes.
    starts = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (scores[1:] != scores[:-1])])
    length = np.diff(np.r_[starts, len(user)])
    middle = np.repeat(starts + (length + 1) / 2, length)
    ranks = middle - (np.cumsum(rows) - rows)[user]
    # Mann and Whitney: the sum of the clicks' ranks gives the number of pairs in the right order; a
    # tie counts half.
    pairs = (
        np.bincount(user[clicked], weights=ranks[clicked], minlength=len(rows))
        - clicks * (clicks + 1) / 2
    )
    possible = clicks * (rows - clicks)
    with np.errstate(invalid="ignore"):
        return np.where(possible > 0, pairs / np.maximum(possible, 1), np.nan), rows
