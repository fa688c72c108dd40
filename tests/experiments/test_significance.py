"""Both tests against references that take every draw and every pair one by one."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.evaluator.metrics import LogLoss
from sklearn.metrics import log_loss, roc_auc_score

from recbole_genci.evaluation.gauc import gauc
from recbole_genci.experiments.reports import volatility
from recbole_genci.experiments.reports.differences import reading
from recbole_genci.experiments.significance import (
    METRICS,
    Difference,
    UserBootstrap,
    _digests,
    holm,
    paired_t_test,
    weighted_auc,
)


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
    """Users, labels, and the scores of two models, the first of which knows the labels a little."""
    random = np.random.default_rng(5)
    user = np.repeat(random.permutation(100)[:users], each)
    labels = random.integers(0, 2, len(user))
    noise = random.normal(size=(2, seeds, len(user)))
    return user, labels, 1 / (1 + np.exp(-noise[0] - gain * labels)), 1 / (1 + np.exp(-noise[1]))


def compare(user, labels, first, second, **options):
    return UserBootstrap(user, labels, first, **options).differences(second)


MEASURES = {
    "auc": lambda users, labels, scores: roc_auc_score(labels, scores),
    "logloss": lambda users, labels, scores: log_loss(labels, scores),
    "gauc": gauc,
}


def test_the_bootstrap_is_that_of_whole_users_drawn_one_by_one():
    user, labels, first, second = rows()
    found = compare(user, labels, first, second, draws=60, seed=3)
    names = np.unique(user)
    number = np.unique(user, return_inverse=True)[1]
    keys = [
        _digests(number, len(names), columns)
        for columns in ([labels.astype(float), *first], list(second))
    ]
    order = sorted(range(len(names)), key=lambda n: (keys[0][n], keys[1][n]))
    counts = np.random.default_rng(3).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=60
    )
    drawn = {name: [] for name in METRICS}
    for count in counts:
        chosen, apart = [], []
        for place, times in zip(order, count):
            for _ in range(times):
                own = np.flatnonzero(user == names[place])
                apart += [len(apart) + 1000 * len(chosen)] * len(own)  # a user drawn twice is two
                chosen.append(own)
        chosen = np.concatenate(chosen)
        for name, measure in MEASURES.items():
            of = [
                np.mean([measure(np.array(apart), labels[chosen], each[chosen]) for each in model])
                for model in (first, second)
            ]
            drawn[name].append(of[0] - of[1])
    for name, measure in MEASURES.items():
        observed = [
            np.mean([measure(user, labels, scores) for scores in model])
            for model in (first, second)
        ]
        difference, values = found[name], np.array(drawn[name])
        assert difference.value == pytest.approx(observed[0] - observed[1], abs=1e-12)
        assert difference.draws == 60
        assert difference.standard_error == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        assert (difference.low, difference.high) == pytest.approx(
            tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12
        )
        assert difference.p_value == pytest.approx(
            2 * (min(np.sum(values <= 0), np.sum(values >= 0)) + 1) / 61
        )


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 12), st.booleans())
def test_the_intervals_do_not_depend_on_how_users_are_numbered(seed, users, coarse):
    """Nor, but for rounding, on the order of the rows; users of equal rows may be exchanged."""
    random = np.random.default_rng(seed)
    user = np.sort(random.integers(0, users, 40))
    labels = random.integers(0, 2, 40)
    scores = random.random((2, 2, 40))
    if coarse:  # several users then have the same rows in one model, or in both
        scores = np.round(scores)
    found = compare(user, labels, *scores, draws=50)
    other_names = random.permutation(10 * users)[:users]
    assert compare(other_names[user], labels, *scores, draws=50) == found
    order = random.permutation(40)
    moved = compare(user[order], labels[order], *scores[:, :, order], draws=50)
    for name, difference in found.items():
        if difference is None:
            assert moved[name] is None
        else:
            assert vars(moved[name]) == pytest.approx(vars(difference), abs=1e-12)


def test_two_rivals_see_the_same_draws():
    user, labels, first, second = rows()
    bootstrap = UserBootstrap(user, labels, first, draws=40)
    calls, original = [], bootstrap._values
    bootstrap._values = lambda order, model: calls.append(1) or original(order, model)
    one, same = bootstrap.differences(second), bootstrap.differences(second)
    assert one == same and len(calls) == 3  # the reference's once
    assert bootstrap.differences(first)["auc"].value == 0


def test_a_real_difference_is_found_and_none_is_not():
    user, labels, first, second = rows(users=60, gain=1.5)
    found = compare(user, labels, first, second, draws=200)
    assert found["auc"].low > 0.1 and found["auc"].p_value < 0.02 and found["gauc"].low > 0.1
    assert found["logloss"].high < 0
    turned = found["auc"].negated()
    assert (turned.value, turned.low, turned.high) == (
        -found["auc"].value,
        -found["auc"].high,
        -found["auc"].low,
    )
    same = compare(user, labels, first, first, draws=50)["auc"]
    assert (same.value, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_chunks_of_draws_come_to_the_same(monkeypatch):
    whole = compare(*rows(), draws=20)
    monkeypatch.setattr("recbole_genci.experiments.significance._CHUNK", 400)
    assert compare(*rows(), draws=20) == whole


def test_rows_of_one_class_have_no_auc_and_no_rows_nothing():
    user, _, first, second = rows()
    found = compare(user, np.ones(len(user)), first, second, draws=20)
    assert found["auc"] is None and found["gauc"] is None and found["logloss"].draws == 20
    nothing = compare(user[:0], np.ones(0), first[:, :0], second[:, :0])
    assert nothing == dict.fromkeys(METRICS)


def test_one_user_has_a_difference_but_neither_an_interval_nor_a_p():
    _, labels, first, second = rows()
    found = compare(np.zeros(len(labels)), labels, first, second, draws=20)
    auc = np.mean(
        [roc_auc_score(labels, a) - roc_auc_score(labels, b) for a, b in zip(first, second)]
    )
    assert found["auc"] == Difference(pytest.approx(auc), None, None, None, None, 0)
    assert (
        found["auc"].negated().value == -found["auc"].value and found["auc"].negated().low is None
    )
    two = compare(np.arange(len(labels)) % 2, labels, first, second, draws=20)["auc"]
    assert two.draws == 20 and two.low < two.high and two.p_value > 0


def test_few_users_are_said_of_all_and_of_each_group():
    def said(users, groups=None, has_users=True):
        return reading(SimpleNamespace(test_users=np.array(users), has_users=has_users), groups)

    assert said(range(30)).endswith("find only large differences.")
    assert "number of pairs that are compared here." in said(range(30))
    assert said([1, 1, 2]).endswith(" Intervals and p are rough with only 2 users.")
    assert said([1, 1]).endswith(" There is 1 user alone, and so neither an interval nor a p.")
    assert said(range(3), has_users=False).endswith("are rough with only 3 rows.")
    group = np.arange(50) < 10
    words = said(
        range(50), {"fast-changing": group, "slow-changing": ~group, "none": group & False}
    )
    assert words.endswith("rough with only 10 fast-changing users.") and words.count("rough") == 1
    assert "the number of pairs within each group." in words


def test_logloss_of_a_saturated_score_is_that_of_recbole():
    labels, scores = np.array([0, 0, 1.0, 1.0]), np.array([[1.0, 0.3, 0.0, 1.0]])
    found = UserBootstrap(np.arange(4), labels, scores, draws=20).differences(np.full((1, 4), 0.5))
    recboles = LogLoss({"metric_decimal_place": 6}).metric_info(scores[0], labels)
    # RecBole rounds 1 - 1e-15, which is 8e-4 of the loss of such a row.
    assert found["logloss"].value == pytest.approx(recboles - np.log(2), abs=1e-3)
    assert volatility.measure(np.arange(4), labels, scores[0])[1] == pytest.approx(
        recboles, abs=1e-12
    )


def test_holms_correction_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]  # never above 1, never falling
    assert holm([0.02]) == [0.02] and holm([None]) == [None] and holm([]) == []


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
