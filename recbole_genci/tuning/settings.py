"""The settings of a search: algorithm, number of trials, and where they run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from recbole_genci.tuning.points import grid_points, grid_size, random_points
from recbole_genci.tuning.space import Space
from recbole_genci.utils.validation import is_whole

ALGORITHMS = ("exhaustive", "random", "bayes")
TOOLS = ("Hyperopt", "Ray")
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

    def __post_init__(self):
        for name, choices in (("algo", ALGORITHMS), ("tool", TOOLS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name}: '{getattr(self, name)}' is not one of {', '.join(choices)}."
                )
        for name in ("ray_address", "cpus_per_trial", "gpus_per_trial", "grace_epochs"):
            if self.tool != "Ray" and getattr(self, name) is not None:
                raise ValueError(f"{name}: only --tool=Ray reads it.")
        for name, least in (("cpus_per_trial", 0.01), ("gpus_per_trial", 0)):
            value = getattr(self, name)
            if value is not None and (
                not isinstance(value, (int, float)) or isinstance(value, bool) or value < least
            ):
                raise ValueError(f"{name}: {value!r} is not a number of at least {least}.")
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
        for name in ("max_evals", "early_stop", "grace_epochs"):
            value = getattr(self, name)
            if value is not None and not is_whole(value):
                raise ValueError(f"{name}: {value!r} is not a whole number of at least 1.")

    def num_trials(self, space: Space) -> int:
        """The largest number of trials, each with another point."""
        size = grid_size(space)
        most = self.max_evals or (size if self.algo == "exhaustive" else _DEFAULT_TRIALS)
        return most if size is None else min(most, size)

    def points(self, space: Space, seed: int) -> Iterator[dict]:
        """The points of an ``exhaustive`` or ``random`` search, in order."""
        number = self.num_trials(space)
        points = (
            grid_points(space, seed)
            if self.algo == "exhaustive"
            else random_points(space, number, seed)
        )
        return islice(points, number)
