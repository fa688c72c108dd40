"""How to search: algorithm, number of trials, and when to give up."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from recbole_genci.tuning.points import grid_points, grid_size, random_points
from recbole_genci.tuning.space import Space

ALGORITHMS = ("exhaustive", "random", "bayes")
_DEFAULT_TRIALS = 100  # as RecBole's


@dataclass(frozen=True)
class Settings:
    """How to search.

    Attributes:
        algo: ``exhaustive``: every combination of choices once; ``random``; ``bayes``: hyperopt's TPE.
        max_evals: trials at most; by default all for ``exhaustive``, else 100.
        early_stop: end after so many trials in a row without a better validation score; None never.

    Raises:
        ValueError: names the setting and what it may be.
    """

    algo: str = "exhaustive"
    max_evals: int | None = None
    early_stop: int | None = None

    def __post_init__(self):
        if self.algo not in ALGORITHMS:
            raise ValueError(f"algo: '{self.algo}' is not one of {', '.join(ALGORITHMS)}.")
        for name in ("max_evals", "early_stop"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name}: {value!r} is not a whole number of at least 1.")

    def num_trials(self, space: Space) -> int:
        """Trials that the search has at most."""
        size = grid_size(space)
        most = self.max_evals or (size if self.algo == "exhaustive" else _DEFAULT_TRIALS)
        return most if size is None else min(most, size)

    def points(self, space: Space, seed: int) -> Iterator[dict]:
        """The points of ``exhaustive`` and ``random`` search, in their order."""
        number = self.num_trials(space)
        points = grid_points(space, seed) if self.algo == "exhaustive" else random_points(space, number, seed)
        return islice(points, number)

    def check(self, space: Space) -> None:
        """Refuse what cannot be searched in this way, or needs a library that is missing.

        Raises:
            ValueError: see ``grid_points``.
            ImportError: hyperopt is missing.
        """
        if self.algo == "bayes":
            if importlib.util.find_spec("hyperopt") is None:
                raise ImportError("--algo=bayes needs hyperopt, which is not installed: pip install 'recbole_genci[tuning]'. "
                                  "--algo=exhaustive and --algo=random do not need it.")  # fmt: skip
        if self.algo == "exhaustive":
            grid_points(space, seed=0)
