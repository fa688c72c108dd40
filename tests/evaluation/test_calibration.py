"""Calibration: what is put in by hand must come out."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import log_loss

from recbole_genci.evaluation.calibration import calibration


def _sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


@pytest.fixture
def rows():
    generator = np.random.default_rng(0)
    logits = generator.normal(0.5, 1.5, 20_000)
    return logits, (generator.random(20_000) < _sigmoid(logits)).astype(int)


def test_true_probabilities_have_ratio_one_and_cannot_be_recalibrated(rows):
    logits, labels = rows
    found = calibration(labels, _sigmoid(logits))
    assert found.ratio == pytest.approx(1, abs=0.02)
    assert found.log_loss == pytest.approx(log_loss(labels, _sigmoid(logits)), abs=2e-4)


def test_a_shift_and_a_stretch_are_taken_out_exactly(rows):
    logits, labels = rows
    before, after = (
        calibration(labels, _sigmoid(logits)),
        calibration(labels, _sigmoid(2.0 * logits + 0.7)),
    )
    assert after.log_loss == pytest.approx(before.log_loss, abs=1e-8)
    assert (
        after.ratio > 1.05
        and log_loss(labels, _sigmoid(2.0 * logits + 0.7)) > after.log_loss + 0.02
    )


def test_the_fit_is_the_maximum_likelihood(rows):
    logits, labels = rows[0][:500], rows[1][:500]
    direct = minimize(lambda ab: log_loss(labels, _sigmoid(ab[0] + ab[1] * logits)), [0.0, 1.0])
    assert calibration(labels, _sigmoid(logits)).log_loss == pytest.approx(direct.fun, abs=1e-7)


def test_scores_of_exactly_zero_and_one_and_equal_scores():
    assert np.isfinite(calibration([0, 1, 1, 0], np.float32([0.0, 1.0, 0.0, 1.0])).log_loss)
    same = calibration([0, 1, 1, 1], [0.5] * 4)
    assert same.log_loss == pytest.approx(log_loss([0, 1, 1, 1], [0.75] * 4), abs=1e-6)
    assert same.ratio == pytest.approx(2 / 3)


def test_one_class_is_undefined():
    assert np.isnan(calibration([1, 1], [0.5, 0.6]).log_loss)
