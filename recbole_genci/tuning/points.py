"""The points of exhaustive and random search, drawn by scikit-learn before the first trial."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from sklearn.model_selection import ParameterGrid, ParameterSampler

from recbole_genci.tuning.space import Choice, Space, canonical

_LARGEST_GRID = 1_000_000
# RecBole's own search without repeats gives up after as many draws (hyper_tuning.py:117).
DRAWS_PER_POINT = 1000


def grid_size(space: Space) -> int | None:
    """Number of combinations; None if a parameter is not a ``choice``."""
    choices = _choices(space)
    return None if choices is None else math.prod(map(len, choices.values()))


def _choices(space: Space) -> dict[str, list] | None:
    """The values of every parameter; None where one is not a ``choice``."""
    choices = {
        name: list(parameter.values)
        for name, parameter in space.items()
        if isinstance(parameter, Choice)
    }
    return choices if len(choices) == len(space) else None


def grid_points(space: Space, seed: int) -> Iterator[dict]:
    """Every combination of the choices once, in a random order drawn by ``seed``.

    A search that is cut short has therefore tried a fair sample. RecBole's `exhaustive` draws at
    random without repeats too.

    Raises:
        ValueError: a parameter is not a choice, or there are too many combinations to try.
    """
    choices = _choices(space)
    if choices is None:
        name = next(name for name, parameter in space.items() if not isinstance(parameter, Choice))
        raise ValueError(
            f"algo: exhaustive search tries every value, but '{name}' is {space[name]}. Use "
            "--algo=random or bayes."
        )
    size = math.prod(map(len, choices.values()))
    if size > _LARGEST_GRID:
        raise ValueError(
            f"algo: exhaustive search would have {size:,} combinations to try. Use --algo=random "
            "or bayes."
        )
    grid = ParameterGrid(choices)
    order = np.random.RandomState(seed).permutation(size)
    return ({name: grid[int(i)][name] for name in space} for i in order)


def random_points(space: Space, number: int, seed: int) -> Iterator[dict]:
    """Up to ``number`` different random points; a larger ``number`` only adds points at the end."""
    seen: set[str] = set()
    size = grid_size(space)
    for drawn in ParameterSampler(space, DRAWS_PER_POINT * number, random_state=seed):
        point = {name: drawn[name] for name in space}
        if canonical(point) not in seen:
            seen.add(canonical(point))
            yield point
        if len(seen) in (number, size):
            return
