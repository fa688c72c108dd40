"""Calibration: the part of a LogLoss that comes from probabilities too high or too confident."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

# Float32 scores can be exactly 0 or 1, whose logit is infinite. Cut at LogLoss's 1e-15 it would be
# 35, which outweighs the other seeds' in a mean. Up to 1 float32 knows none above 17; near 0 it
# does (a few scores of AFN+), and they are cut alike.
_SMALLEST = 1e-7
_FREE = 1e10  # scikit-learn's C: no penalty, by whatever name its versions call that

DEFINITION = (
    "LogLoss depends on calibration as well as on order. 'predicted / observed clicks' is the sum "
    "of the predicted probabilities over the number of clicks. 'LogLoss recalibrated' is the "
    "LogLoss with the best intercept and slope of the logits (Platt), fitted on these very test "
    "rows: a diagnosis, not a figure to credit a model with."
)


@dataclass(frozen=True)
class Calibration:
    """The calibration of probabilities on labelled rows.

    Attributes:
        ratio: sum of the probabilities over the number of clicks; above 1 too many clicks are
            predicted.
        log_loss: LogLoss with the best intercept and slope, fitted on the same rows; never above
            the LogLoss itself.
    """

    ratio: float
    log_loss: float


def logits_of(scores: np.ndarray) -> np.ndarray:
    """The logits of probabilities of any shape; those of 0 and 1 are taken as of 1e-7 from them."""
    clipped = np.clip(np.asarray(scores, dtype=np.float64), _SMALLEST, 1 - _SMALLEST)
    return np.log(clipped / (1 - clipped))


def calibration(labels: np.ndarray, scores: np.ndarray) -> Calibration:
    """Fit ``P(click) = sigmoid(intercept + slope * logit(score))`` (Platt scaling) by maximum
    likelihood.

    Args:
        labels: ``[R]`` 0 or 1.
        scores: ``[R]`` probabilities.

    Returns:
        Calibration: nan everywhere if all rows have one class, as the fit then diverges.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if len(np.unique(labels)) < 2:
        return Calibration(float("nan"), float("nan"))
    logits = logits_of(scores)[:, None]
    fit = LogisticRegression(C=_FREE, tol=1e-8, max_iter=1000).fit(logits, labels)
    recalibrated = log_loss(labels, fit.predict_proba(logits)[:, 1])
    return Calibration(float(scores.sum() / labels.sum()), float(recalibrated))
