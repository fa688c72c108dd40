"""Histories against a loop over all rows."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_genci.data.history import build_history, rounding_of, time_ranks


def loop_history(rows, user, time, width):
    """The definition, row by row: the user's earlier positives in time order, file order within one
    instant.
    """
    earlier = [
        (t, number, item)
        for number, (u, item, label, t) in enumerate(rows)
        if u == user and label and t < time
    ]
    return [item for _, _, item in sorted(earlier)][-width:]


rows_strategy = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.booleans(), st.integers(0, 8)),
    min_size=1,
    max_size=60,
)


@settings(max_examples=200)
@given(rows=rows_strategy, width=st.integers(1, 7))
def test_histories_equal_a_loop_over_rows_even_with_ties(rows, width):
    users, items, labels, times = (np.array(column) for column in zip(*rows))
    ranks = time_ranks(times * 10**9)
    keep = labels.astype(bool)
    history = build_history(
        users[keep], items[keep], ranks[keep], num_items=7, num_ranks=ranks.max() + 1, seed=1
    )
    start, end = history.pointers(users, ranks, width)
    got, length, negatives = history.gather(
        torch.from_numpy(start), torch.from_numpy(end), width, negatives=True
    )
    for row, (user, _, _, time) in enumerate(rows):
        expected = loop_history(rows, user, time, width)
        assert got[row].tolist() == expected + [0] * (width - len(expected))
        assert length[row] == len(expected)
        assert (negatives[row][: len(expected)] > 0).all() and (
            negatives[row][len(expected) :] == 0
        ).all()
        assert (negatives[row][: len(expected)] != got[row][: len(expected)]).all()


def test_few_users_are_looked_up_alone_and_many_once_each(monkeypatch):
    rng = np.random.default_rng(0)
    users = np.sort(rng.integers(1, 10**6, 500))
    ranks = rng.integers(0, 9, 500)
    history = build_history(users, rng.integers(1, 7, 500), ranks, 7, 9, seed=1)
    sought, search = [], np.searchsorted
    monkeypatch.setattr(
        np, "searchsorted", lambda *a, **k: sought.append(np.size(a[1])) or search(*a, **k)
    )
    some = np.array([users[400], 10**6, users[3], users[400], 0])
    expected = [np.flatnonzero(users == user).min(initial=500) for user in some]
    assert history.first_clicks(some)[[0, 2, 3]].tolist() == [expected[each] for each in (0, 2, 3)]
    assert history.first_clicks(some)[[1, 4]].tolist() == [500, 0]
    assert sought == [5, 5]
    few = np.array([2, 1, 2, 0, 1, 1])
    np.testing.assert_array_equal(history.first_clicks(few), search(users, few))
    assert sought[2:] == [3]


def test_negatives_are_uniform_over_the_other_items():
    items = np.full(60_000, 3)
    history = build_history(
        np.ones_like(items), items, np.arange(60_000), num_items=7, num_ranks=60_000, seed=0
    )
    counts = np.bincount(history.negatives.numpy(), minlength=7)
    assert counts[0] == counts[3] == 0
    np.testing.assert_allclose(counts[[1, 2, 4, 5, 6]], 12_000, rtol=0.05)


def test_time_ranks_keep_seconds_apart_that_float32_merges():
    times = np.array([1_700_000_001, 1_700_000_000, 1_700_000_001, 1_700_000_060], dtype=np.float64)
    assert np.unique(times.astype(np.float32)).size < 3
    assert time_ranks(times).tolist() == [1, 0, 1, 2]


def day(unit):
    return 1.6e9 // 86400 * 86400 * unit + np.arange(50.0) * 86400 * unit


@pytest.mark.parametrize(
    ("times", "found"),
    [
        ([f"{1.7e12 + 3.7e6 * n:g}" for n in range(50)], "7 digits"),
        ([f"{1.7e9 + 777 * n:.5e}" for n in range(50)], "7 digits"),
        (["1.7e+12"], "7 digits"),
        (np.float32(1.7e9 + 777 * np.arange(50.0)), "32 bits"),
        (np.float32(1.7e12 + 777e3 * np.arange(50.0)), "32 bits"),
        (1.7e9 + 777 * np.arange(50.0), None),
        (1.7e9 + np.arange(5000.0), None),
        ([1.7e9, 1700000001], None),
        ([1700000128.0], None),
        (np.arange(50.0), None),  # steps, or numbers of days
        (20240101.0 + np.arange(30.0), None),
        (day(1), None),
        (day(1e3), None),
        (day(1e9), None),
        (day(1) + 5.5 * 3600, None),
        (day(1)[:2], None),
        ([0.0], None),
        ([-3.0, -1.0], None),
        ([], None),
    ],
)
def test_rounded_times_are_found_and_days_are_none(times, found):
    assert rounding_of(np.unique(np.array(times, dtype=np.float64))) == found


def test_tied_clicks_are_those_of_one_user_and_time():
    generator = np.random.default_rng(3)
    for rows in (0, 1, 2, 40):
        users, ranks = generator.integers(1, 5, rows), generator.integers(0, 6, rows)
        history = build_history(users, np.ones(rows, dtype=np.int64), ranks, 3, 6, 0)
        pairs = pd.DataFrame({"user": users, "rank": ranks})
        assert history.num_tied() == pairs.duplicated(keep=False).sum()
