"""The settings of a search: algorithm, number of trials, and where they run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from recbole_genci.config.kind import Kind
from recbole_genci.tuning.points import grid_points, grid_size, random_points
from recbole_genci.tuning.space import Space

_KINDS = {
    name: Kind.of(words)
    for name, words in {
        "algo": "str: exhaustive | random | bayes",
        "tool": "str: Hyperopt | Ray",
        "max_evals": "int >= 1 or ~",
        "early_stop": "int >= 1 or ~",
        "ray_address": "str or ~",
        "cpus_per_trial": "float >= 0.01 or ~",
        "gpus_per_trial": "float >= 0 or ~",
        "grace_epochs": "int >= 1 or ~",
    }.items()
}
_OF_RAY = ("ray_address", "cpus_per_trial", "gpus_per_trial", "grace_epochs")
_DEFAULT_TRIALS = 100  # as RecBole's


@dataclass(frozen=True)
class Settings:
    """The settings of a search.

    Attributes:
        algo: ``exhaustive``: every combination of choices once; ``random``: random points, none
            twice; ``bayes``: hyperopt's TPE.
        max_evals: largest number of different points; by default all for ``exhaustive``, else 100.
        early_stop: end after this many trials in a row without a better validation score; None
            means never.
        tool: ``Hyperopt``: one trial after another; ``Ray``: trials side by side, with hopeless
            trials stopped by ASHA.
        ray_address: address of a Ray cluster; None starts one on this machine. This and the
            following are for Ray only.
        cpus_per_trial: cores and threads of a trial; by default 1.
        gpus_per_trial: GPUs of a trial; by default 1 if the configuration trains on a GPU, else 0.
        grace_epochs: epochs that every trial may train before ASHA compares it; by default 3.

    Raises:
        ValueError: names the setting and what it may be.
    """

    algo: str = "exhaustive"
    max_evals: int | None = None
    early_stop: int | None = None
    tool: str = "Hyperopt"
    ray_address: str | None = None
    cpus_per_trial: float | None = None
    gpus_per_trial: float | None = None
    grace_epochs: int | None = None

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            kind.check(name, getattr(self, name))
        for name in _OF_RAY:
            if self.tool != "Ray" and getattr(self, name) is not None:
                raise ValueError(f"{name}: only --tool=Ray reads it.")
        for name in ("cpus_per_trial", "gpus_per_trial"):
            value = getattr(self, name)
            if value is not None and value > 1 and value != int(value):
                raise ValueError(
                    f"{name}: {value!r} is above 1 and not whole, which Ray cannot give."
                )
        if self.tool == "Ray" and self.algo == "bayes":
            raise ValueError(
                "algo: bayes learns from each trial before it proposes the next, one after "
                "another; with --tool=Ray use exhaustive or random."
            )
        if self.tool == "Ray" and self.early_stop is not None:
            raise ValueError(
                "early_stop: with --tool=Ray hopeless trials are stopped one by one, after "
                "--grace_epochs. Leave it out."
            )

    def num_trials(self, space: Space) -> int:
        """The largest number of trials, each with another point."""
        size = grid_size(space)
        if size is None:  # not exhaustive: a parameter has no list of values
            return self.max_evals or _DEFAULT_TRIALS
        return min(self.max_evals or (size if self.algo == "exhaustive" else _DEFAULT_TRIALS), size)

    def points(self, space: Space, seed: int) -> Iterator[dict]:
        """The points of an ``exhaustive`` or ``random`` search, in order."""
        number = self.num_trials(space)
        points = (
            grid_points(space, seed)
            if self.algo == "exhaustive"
            else random_points(space, number, seed)
        )
        return islice(points, number)
