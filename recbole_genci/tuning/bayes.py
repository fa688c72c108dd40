"""Bayesian search (TPE) by RecBole's HyperTuning and hyperopt, seeded, robust to failed trials."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from recbole.trainer import HyperTuning

from recbole_genci.tuning.points import DRAWS_PER_POINT
from recbole_genci.tuning.space import Choice, LogUniform, QUniform, Space, Uniform, canonical

_logger = logging.getLogger(__name__)


class BayesianSearch(HyperTuning):
    """RecBole's HyperTuning with the algorithm ``bayes``.

    RecBole's own ``run`` draws without a seed. Its ``trial`` ends the search when one trial fails,
    and reads a score of 0.0 as no score. Its early stopping reads the loss of a failed trial, which
    has none. TPE may propose a point again, which costs no training: the search ends after
    ``max_evals`` different points, or after so many repeats in a row that no new point is to be
    expected.

    Args:
        trial: runs one point and returns ``(score or None, whether the search is hopeless)``; a
            lower score is better.
        space: the parameters to search.
        max_evals: largest number of different points.
        seed: seed of the proposals.
    """

    def __init__(
        self,
        trial: Callable[[dict], tuple[float | None, bool]],
        space: Space,
        max_evals: int,
        seed: int,
    ):
        super().__init__(trial, space=_hyperopt_space(space), algo="bayes", max_evals=max_evals)
        self.parameters, self.seed, self.hopeless = space, seed, False
        self.seen: set[str] = set()
        self.repeats = 0
        self.early_stop_fn = lambda trials, *args: (self._is_over(), args)

    def trial(self, params: dict[str, Any]) -> dict[str, Any]:
        """Run the point that hyperopt proposes, and report its loss or failure to hyperopt."""
        from hyperopt import STATUS_FAIL, STATUS_OK

        point = _point(self.parameters, params)
        self.repeats = self.repeats + 1 if canonical(point) in self.seen else 0
        self.seen.add(canonical(point))
        score, self.hopeless = self.objective_function(point)
        return {"status": STATUS_FAIL} if score is None else {"status": STATUS_OK, "loss": score}

    def run(self) -> None:
        """Search; the same seed and scores give the same proposals."""
        from hyperopt import fmin

        fmin(
            self.trial,
            self.space,
            algo=self.algo,
            max_evals=DRAWS_PER_POINT * self.max_evals,
            early_stop_fn=self.early_stop_fn,
            rstate=np.random.default_rng(self.seed),
            show_progressbar=False,
            verbose=False,
            return_argmin=False,
        )

    def _is_over(self) -> bool:
        if self.repeats >= DRAWS_PER_POINT:
            _logger.info(
                f"The search ends with {len(self.seen)} of {self.max_evals} points: none of the "
                f"last {self.repeats} that TPE proposed was new."
            )
        return self.hopeless or len(self.seen) >= self.max_evals or self.repeats >= DRAWS_PER_POINT


def _hyperopt_space(space: Space) -> dict:
    from hyperopt import hp

    make = {
        # hyperopt chooses the number of a value, as it would take lists and dicts apart.
        Choice: lambda name, p: hp.choice(name, list(range(len(p.values)))),
        Uniform: lambda name, p: hp.uniform(name, p.low, p.high),
        LogUniform: lambda name, p: hp.loguniform(name, p.low, p.high),
        QUniform: lambda name, p: hp.quniform(name, p.low, p.high, p.q),
    }
    return {name: make[type(parameter)](name, parameter) for name, parameter in space.items()}


def _point(space: Space, proposed: dict) -> dict:
    read = {Choice: lambda p, value: p.values[value], QUniform: lambda p, value: p.rounded(value)}
    return {
        name: read.get(type(p), lambda p, value: float(value))(p, proposed[name])
        for name, p in space.items()
    }
