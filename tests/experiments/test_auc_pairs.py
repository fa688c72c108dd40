"""Pairs of models against the bootstrap over users and against derivatives taken one by one."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from recbole_genci.experiments.auc_pairs import pairwise_auc
from recbole_genci.experiments.html_report import _pairs
from recbole_genci.experiments.significance import UserBootstrap, weighted_auc


def rows(users=60, each=8, models=2, seeds=3):
    """Users, labels, and the scores of models, of which the first knows the labels a little."""
    random = np.random.default_rng(5)
    user = np.repeat(random.permutation(10 * users)[:users], each)
    labels = random.integers(0, 2, len(user))
    scores = random.normal(size=(models, seeds, len(user)))
    scores[0] += 0.7 * labels
    return user, labels, list(scores)


def test_the_standard_error_is_that_of_derivatives_by_each_user():
    user, labels, models = rows(users=12)
    models = [np.round(model) for model in models]  # with ties
    step, slopes = 1e-6, []
    for name in np.unique(user):
        weights = 1 + step * (np.array([[1.0], [-1.0]]) * (user == name))
        slope = 0.0
        for sign, model in zip((1, -1), models):
            for scores in model:
                up, down = weighted_auc(labels, scores, weights)
                slope += sign * (up - down) / (2 * step) / len(model)
        slopes.append(slope)
    found = pairwise_auc(user, labels, models)[0][1]
    error = np.sqrt(12 / 11 * np.sum(np.square(slopes)))
    assert found.standard_error == pytest.approx(error, rel=1e-5)
    value = np.subtract(*[np.mean([roc_auc_score(labels, s) for s in model]) for model in models])
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(value) / error, 11), rel=1e-4)
    reach = stats.t.ppf(0.975, 11) * error
    assert (found.low, found.high) == pytest.approx((value - reach, value + reach), rel=1e-4)


def test_it_agrees_with_the_bootstrap_over_users():
    user, labels, models = rows(models=3)
    models[2] = models[2] + 0.15 * labels
    drawn = UserBootstrap(user, labels, models[1], draws=4000).differences(models[2])["auc"]
    found = pairwise_auc(user, labels, models)[1][2]
    assert found.value == pytest.approx(drawn.value, abs=1e-12)
    assert found.standard_error == pytest.approx(drawn.standard_error, rel=0.06)
    assert 0.001 < drawn.p_value < 0.2 and found.p_value == pytest.approx(drawn.p_value, rel=0.5)


def test_neither_the_users_numbers_nor_the_order_of_rows_count():
    user, labels, models = rows()
    found = pairwise_auc(user, labels, models)[0][1]
    order = np.random.default_rng(1).permutation(len(user))
    other = pairwise_auc((7919 - user)[order], labels[order], [m[:, order] for m in models])[0][1]
    assert vars(other) == pytest.approx(vars(found), rel=1e-9)


def test_undefined_and_degenerate_pairs():
    user, labels, models = rows()
    assert pairwise_auc(user, labels, models)[1][1] is None
    assert pairwise_auc(user[:8], labels[:8], [m[:, :8] for m in models])[0][1] is None  # one user
    assert pairwise_auc(user, np.ones(len(user)), models)[0][1] is None
    assert pairwise_auc(user[:0], labels[:0], [m[:, :0] for m in models])[0][1] is None
    right, wrong = labels[None].astype(float), -labels[None].astype(float)
    (_, perfect), _ = pairwise_auc(user, labels, [right, wrong])
    assert perfect.value == 1 and perfect.standard_error == 0 and 0 < perfect.p_value < 1e-10


def outcome_of(user, labels, models, names=None):
    """As much of an outcome as the section reads."""
    names = names or [f"m{number}" for number in range(len(models))]
    variants = [SimpleNamespace(name=name) for name in names]
    scores = dict(zip(names, models))
    return SimpleNamespace(
        request=SimpleNamespace(variants=variants),
        complete_variants=lambda: variants,
        has_users=True,
        test_users=user,
        test_labels=labels,
        scores=lambda variant: scores[variant.name],
    )


def test_a_clear_pair_of_16_models_is_in_colour_and_an_equal_one_is_not():
    user, labels, models = rows(models=16)
    models[15] = models[14].copy()
    body = _pairs(outcome_of(user, labels, models)).body
    lines = body.split('<tr><th scope="row">')[1:]
    cells = [[cell.split('"')[0] for cell in line.split('<td class="')[1:]] for line in lines]
    assert len(cells) == 16 and {len(line) for line in cells} == {16}
    assert cells[0][1:] == ["better"] * 15  # it knows the labels; 120 pairs are corrected for
    assert [line[0] for line in cells[1:]] == ["worse"] * 15
    assert cells[14][15] == cells[15][14] == "" and "p 1 after Holm" in lines[14]
    assert "all 120 pairs" in body and "p is rough" not in body
    assert "p is that of a paired test over whole users" in body


def test_few_users_are_said():
    user, labels, models = rows(users=9)
    assert "with only 9 users" in _pairs(outcome_of(user, labels, models)).body
