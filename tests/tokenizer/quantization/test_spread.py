import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_genci.tokenizer.quantization.residual_kmeans import nearest_code
from recbole_genci.tokenizer.quantization.spread import spread_codes


def _case(seed, items, size, prefixes=2, dim=3):
    rng = np.random.default_rng(seed)
    # Small integers: many equal residuals, and many ties.
    residual = torch.from_numpy(rng.integers(-2, 3, (items, dim)).astype(np.float64))
    book = torch.from_numpy(rng.normal(size=(size, dim)))
    codes = np.column_stack(
        [rng.integers(0, prefixes, items), nearest_code(residual, book)[0].numpy()]
    )
    return codes, residual, book


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31), items=st.integers(1, 30), size=st.integers(1, 12))
def test_different_items_get_different_codes_while_there_are_free_ones(seed, items, size):
    codes, residual, book = _case(seed, items, size)
    result = spread_codes(codes, residual, book)
    np.testing.assert_array_equal(result[:, :-1], codes[:, :-1])
    for prefix in np.unique(codes[:, 0]):
        inside = codes[:, 0] == prefix
        distinct = len(np.unique(residual[inside].numpy(), axis=0))
        assert len(np.unique(result[inside, 1])) == min(distinct, size)
        # A code that was wanted is still held, by the nearest of those who wanted it.
        for code in np.unique(codes[inside, 1]):
            wanted = np.flatnonzero(inside & (codes[:, 1] == code))
            holders = np.flatnonzero(inside & (result[:, 1] == code) & (codes[:, 1] == code))
            distance = (residual - book[code]).square().sum(dim=1).numpy()
            assert distance[holders].min() == distance[wanted].min()


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), items=st.integers(1, 30))
def test_equal_items_stay_together_and_the_order_of_rows_does_not_matter(seed, items):
    codes, residual, book = _case(seed, items, 6)
    result = spread_codes(codes, residual, book)
    rows = np.column_stack([codes[:, 0], residual.numpy()])
    assert len(np.unique(np.column_stack([rows, result[:, 1]]), axis=0)) == len(
        np.unique(rows, axis=0)
    )
    order = np.random.default_rng(seed).permutation(items)
    np.testing.assert_array_equal(spread_codes(codes[order], residual[order], book), result[order])


def test_items_without_a_rival_keep_their_nearest_code_and_published_codes_are_taken():
    book = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    codes, residual = np.array([[0, 0], [0, 1], [1, 1]]), torch.tensor([[0.0], [1.1], [1.0]])
    np.testing.assert_array_equal(spread_codes(codes, residual, book), codes)
    moved = spread_codes(codes, residual, book, published=np.array([[0, 1], [3, 3]]))
    assert moved.tolist() == [[0, 0], [0, 2], [1, 1]]


def test_one_level_is_spread_too():
    book = torch.tensor([[0.0], [1.0], [5.0]])
    moved = spread_codes(np.array([[0], [0]]), torch.tensor([[0.1], [0.2]]), book)
    assert moved.tolist() == [[0], [1]]
