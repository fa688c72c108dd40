"""GAUC against scikit-learn's AUC, user by user."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from recbole_genci.evaluation.gauc import gauc

ROW = st.tuples(st.integers(0, 5), st.booleans(), st.integers(-3, 3))


@settings(max_examples=100)
@given(st.lists(ROW, max_size=40))
def test_gauc_equals_the_weighted_mean_of_scikit_learns_auc(rows):
    users, labels, scores = (
        (np.array(column) for column in zip(*rows, strict=True)) if rows else [np.array([])] * 3
    )
    users, labels, scores = (
        users * 7 - 3,
        labels.astype(np.float32),
        scores / np.float32(3),
    )  # any ids, and ties
    total = weights = 0
    for user in np.unique(users):
        own = users == user
        if len(np.unique(labels[own])) == 2:
            total += own.sum() * roc_auc_score(labels[own], scores[own])
            weights += own.sum()
    found = gauc(users, labels, scores)
    assert found == pytest.approx(total / weights, abs=1e-12) if weights else np.isnan(found)


def test_gauc_by_hand():
    # a: one of two pairs right, one tied: 0.75 over 3 rows. b: its only pair is wrong, over 2 rows.
    # c has no click.
    users = np.array(["a", "b", "a", "c", "b", "a"])
    labels = np.array([1, 1, 0, 0, 0, 0])
    scores = np.array([0.5, 0.1, 0.5, 0.9, 0.2, 0.4])
    assert gauc(users, labels, scores) == pytest.approx((3 * 0.75 + 2 * 0) / 5)


def test_gauc_is_exact_where_user_and_score_differ_by_little_and_rows_are_many():
    rng = np.random.default_rng(0)
    users, labels = rng.integers(0, 300, 20_000), rng.integers(0, 2, 20_000)
    scores = rng.integers(0, 50, 20_000) * 1e-12 + 0.5
    by_user = [
        (own.sum(), roc_auc_score(labels[own], scores[own]))
        for own in (users == user for user in range(300))
    ]
    weights, aucs = np.array(by_user).T
    assert gauc(users, labels, scores) == pytest.approx(
        np.average(aucs, weights=weights), abs=1e-12
    )


@pytest.mark.parametrize(
    ("users", "labels", "scores", "message"),
    [
        ([1, 2], [0, 1], [0.5], "not one number a row"),
        ([1, 1], [0, 2], [0.5, 0.6], "labels hold .*2.*; they must be 0 or 1"),
        ([1, 1], [0, 1], [0.5, float("nan")], "1 of 2 scores are not finite"),
    ],
)
def test_what_has_no_gauc_is_refused(users, labels, scores, message):
    with pytest.raises(ValueError, match=message):
        gauc(np.array(users), np.array(labels), np.array(scores))
