"""Both tests against references that take every draw and every pair one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from recbole_genci.experiments.significance import paired_t_test, user_bootstrap, weighted_auc


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(4, 40))
def test_weighted_auc_is_that_of_scikit_learn(seed, rows):
    random = np.random.default_rng(seed)
    labels = np.r_[0, 1, random.integers(0, 2, rows - 2)]
    scores = random.integers(0, 6, rows) / 5  # many ties
    weights = random.integers(0, 4, (3, rows)).astype(float)
    found = weighted_auc(labels, scores, weights)
    for value, weight in zip(found, weights):
        if (weight * labels).sum() and (weight * (1 - labels)).sum():
            assert value == pytest.approx(
                roc_auc_score(labels, scores, sample_weight=weight), abs=1e-12
            )
        else:
            assert np.isnan(value)


def rows(users=15, each=8, seeds=3, gain=0.7):
    random = np.random.default_rng(5)
    user = np.repeat(random.permutation(100)[:users], each)
    labels = random.integers(0, 2, len(user))
    noise = random.normal(size=(2, seeds, len(user)))
    return user, labels, noise[0] + gain * labels, noise[1]


def test_the_bootstrap_is_that_of_whole_users_drawn_one_by_one():
    user, labels, first, second = rows()
    found = user_bootstrap(user, labels, first, second, draws=60, seed=3)
    names = np.unique(user)
    counts = np.random.default_rng(3).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=60
    )
    drawn = []
    for count in counts:
        chosen = np.concatenate(
            [
                np.flatnonzero(user == name)
                for name, times in zip(names, count)
                for _ in range(times)
            ]
        )
        of = [
            np.mean([roc_auc_score(labels[chosen], scores[chosen]) for scores in model])
            for model in (first, second)
        ]
        drawn.append(of[0] - of[1])
    observed = [
        np.mean([roc_auc_score(labels, scores) for scores in model]) for model in (first, second)
    ]
    assert (
        found.difference == pytest.approx(observed[0] - observed[1], abs=1e-12)
        and found.draws == 60
    )
    assert found.standard_error == pytest.approx(np.std(drawn, ddof=1), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(
        tuple(np.quantile(drawn, [0.025, 0.975])), abs=1e-12
    )
    assert found.p_value == pytest.approx(
        2 * (min(np.sum(np.array(drawn) <= 0), np.sum(np.array(drawn) >= 0)) + 1) / 61
    )


def test_a_real_difference_is_found_and_none_is_not():
    user, labels, first, second = rows(users=60, gain=1.5)
    found = user_bootstrap(user, labels, first, second, draws=200)
    assert found.low > 0.1 and found.p_value < 0.02
    same = user_bootstrap(user, labels, first, first, draws=50)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_chunks_of_draws_come_to_the_same(monkeypatch):
    whole = user_bootstrap(*rows(), draws=20)
    monkeypatch.setattr("recbole_genci.experiments.significance._CHUNK", 400)
    assert user_bootstrap(*rows(), draws=20) == whole


def test_rows_of_one_class_have_no_difference():
    user, _, first, second = rows()
    assert user_bootstrap(user, np.ones(len(user)), first, second) is None


def test_the_t_test_by_hand():
    first, second = np.array([0.80, 0.83, 0.81, 0.82]), np.array([0.79, 0.80, 0.80, 0.80])
    difference = first - second
    t = difference.mean() / (difference.std(ddof=1) / 2)
    # Student's t with 3 degrees of freedom: F(t) = 1/2 + (x / (1 + x^2) + arctan x) / pi with x = t
    # / sqrt 3
    x = t / np.sqrt(3)
    assert paired_t_test(first, second) == pytest.approx(
        2 * (0.5 - (x / (1 + x * x) + np.arctan(x)) / np.pi)
    )
    assert paired_t_test(first[:2], second[:2]) is None  # two seeds
    assert paired_t_test(first, first - 0.5) is None  # no variation
    scores = np.array([0.85667, 0.852998, 0.85071])
    assert paired_t_test(scores, scores - 0.0003) is None  # none but rounding's
