import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_genci.tokenizer.artifact.collisions import resolve_collisions

_codes = st.integers(1, 40).flatmap(
    lambda items: st.tuples(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=items, max_size=items),
        st.lists(st.text(min_size=1), min_size=items, max_size=items, unique=True),
        st.permutations(range(items)),
    )
)


@settings(max_examples=100)
@given(_codes)
def test_full_ids_are_unique_and_do_not_depend_on_the_order_of_rows(case):
    codes, tokens, order = np.array(case[0]), case[1], case[2]
    digit = resolve_collisions(codes, tokens)
    assert len(np.unique(np.column_stack([codes, digit]), axis=0)) == len(tokens)
    shuffled = resolve_collisions(codes[list(order)], [tokens[i] for i in order])
    np.testing.assert_array_equal(shuffled, digit[list(order)])
    for bucket in np.unique(codes, axis=0):
        inside = np.sort(digit[(codes == bucket).all(axis=1)])
        np.testing.assert_array_equal(inside, np.arange(len(inside)))


def test_the_digit_is_pinned_across_processes_and_versions():
    tokens = [str(i) for i in range(6)]
    digits = resolve_collisions(np.array([[0, 0]] * 5 + [[1, 0]]), tokens)
    assert digits.dtype == np.int64 and digits[5] == 0
    assert digits.tolist() == [2, 4, 0, 3, 1, 0]


def test_a_bucket_beyond_the_last_codebook_names_the_number_and_the_key():
    codes, tokens = np.array([[3, 1]] * 5 + [[0, 0]]), list("abcdef")
    assert resolve_collisions(codes, tokens, capacity=5).max() == 4
    with pytest.raises(
        ValueError, match=r"5 items share the codes \[3, 1\].*holds 4.*collision_codebook_size"
    ):
        resolve_collisions(codes, tokens, capacity=4)


def test_repeated_tokens_and_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match="distinct"):
        resolve_collisions(np.zeros((2, 2), dtype=int), ["a", "a"])
    with pytest.raises(ValueError, match="3 item tokens"):
        resolve_collisions(np.zeros((2, 2), dtype=int), ["a", "b", "c"])


@settings(max_examples=60)
@given(_codes, st.data())
def test_numbers_go_on_from_published_ones_which_stay(case, data):
    codes, tokens, order = np.array(case[0]), case[1], case[2]
    first = data.draw(st.integers(0, len(tokens)))
    digit = resolve_collisions(codes[:first], tokens[:first])
    published = np.column_stack([codes[:first], digit])
    added = resolve_collisions(codes[first:], tokens[first:], published=published)
    full = np.concatenate([published, np.column_stack([codes[first:], added])])
    assert len(np.unique(full, axis=0)) == len(tokens)
    order = np.array([i for i in order if i >= first], dtype=int)
    again = resolve_collisions(codes[order], [tokens[i] for i in order], published=published)
    np.testing.assert_array_equal(again, added[order - first])


def test_published_items_count_towards_the_capacity():
    published = np.array([[3, 1, 0], [3, 1, 1]])
    assert resolve_collisions(np.array([[3, 1]]), ["a"], 3, published).tolist() == [2]
    with pytest.raises(ValueError, match=r"4 items share the codes \[3, 1\].*holds 3"):
        resolve_collisions(np.array([[3, 1], [3, 1], [0, 0]]), ["a", "b", "c"], 3, published)


def test_equal_texts_beyond_the_capacity_are_told_as_such():
    codes, tokens = np.array([[3, 1]] * 5 + [[0, 0]]), list("abcdef")
    with pytest.raises(
        ValueError,
        match=r"4 of them have equal texts \('same'\), which no codebooks can part.*at least 5",
    ) as told:
        resolve_collisions(codes, tokens, 3, texts=["same"] * 4 + ["other", "same"])
    assert "spread_collisions" not in str(told.value)
    with pytest.raises(ValueError, match="spread_collisions"):
        resolve_collisions(codes, tokens, 4, texts=["same"] * 4 + ["other", "same"])
