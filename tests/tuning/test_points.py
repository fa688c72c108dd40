"""Which points are tried, and in which order."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_genci.tuning.points import grid_points, grid_size, random_points
from recbole_genci.tuning.settings import Settings
from recbole_genci.tuning.space import Choice, LogUniform, Uniform, canonical

CHOICES = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 4).map(lambda n: Choice(tuple(range(n)))), min_size=1)
MIXED = {"rate": LogUniform(-8, -3), "drop": Uniform(0, 0.5), "sizes": Choice(([64], [64, 32]))}


@settings(deadline=None)
@given(CHOICES, st.integers(0, 9))
def test_a_grid_is_the_product_of_its_choices(space, seed):
    points = list(grid_points(space, seed))
    product = [dict(zip(space, values)) for values in itertools.product(*(p.values for p in space.values()))]
    assert sorted(map(canonical, points)) == sorted(map(canonical, product)) and grid_size(space) == len(points)
    assert all(list(point) == list(space) for point in points)


@settings(max_examples=30, deadline=None)
@given(CHOICES, st.integers(0, 9), st.integers(1, 10))
def test_random_points_of_choices_are_different_and_of_the_grid(space, seed, number):
    points = list(map(canonical, random_points(space, number, seed)))
    assert len(points) == len(set(points)) == min(number, grid_size(space))
    assert set(points) <= set(map(canonical, grid_points(space, 0)))


@pytest.mark.parametrize("space", [MIXED, {"a": Choice((1, 2, 3)), "b": Choice((1, 2, 3))}])
def test_same_seed_same_points_and_more_points_begin_with_the_fewer(space):
    first, again, other = (list(random_points(space, 8, seed)) for seed in (1, 1, 2))
    assert first == again != other and list(random_points(space, 5, 1)) == first[:5]
    if grid_size(space):
        assert list(grid_points(space, 1)) == list(grid_points(space, 1)) != list(grid_points(space, 2))


def test_the_number_of_trials_follows_from_algorithm_and_max_evals():
    grid = {"a": Choice((1, 2, 3)), "b": Choice((1, 2))}
    assert Settings("exhaustive").num_trials(grid) == Settings("random").num_trials(grid) == 6
    assert Settings("exhaustive", 4).num_trials(grid) == 4
    assert Settings("random").num_trials(MIXED) == 100 and Settings("bayes", 7).num_trials(MIXED) == 7
    assert len(list(Settings("exhaustive", 4).points(grid, 0))) == 4 and len(list(Settings("exhaustive").points(grid, 0))) == 6


def test_exhaustive_search_of_a_range_or_of_too_much_is_refused():
    with pytest.raises(ValueError, match="'rate' is log-uniform from e"):
        grid_points(MIXED, 0)
    with pytest.raises(ValueError, match="1,048,576 combinations"):
        grid_points({name: Choice(tuple(range(16))) for name in "abcde"}, 0)
