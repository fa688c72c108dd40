import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_genci.tokenizer.quantization.quality import level_quality
from recbole_genci.tokenizer.quantization.residual_kmeans import (
    kmeans,
    nearest_code,
    residual_kmeans,
    residual_quantize,
)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _eq3(z, codebooks):
    """Eq. 3 item by item and level by level, in plain NumPy."""
    codes = np.zeros((len(z), len(codebooks)), dtype=np.int64)
    residual = z.copy()
    for i in range(len(z)):
        for n, book in enumerate(codebooks):
            codes[i, n] = np.argmin(((residual[i] - book) ** 2).sum(axis=1))
            residual[i] = residual[i] - book[codes[i, n]]
    return codes, z - residual, residual


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    items=st.integers(1, 12),
    dim=st.integers(1, 5),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4),
)
def test_residual_quantisation_is_equation_3(seed, items, dim, sizes):
    rng = np.random.default_rng(seed)
    # Small integers: exact arithmetic, and many real ties, which must go to the lowest index.
    z = rng.integers(-3, 4, (items, dim)).astype(np.float64)
    books = [rng.integers(-3, 4, (size, dim)).astype(np.float64) for size in sizes]
    codes, quantized, residual = residual_quantize(z, books)
    expected = _eq3(z, books)
    assert codes.dtype == torch.int64
    np.testing.assert_array_equal(codes.numpy(), expected[0])
    np.testing.assert_array_equal(quantized.numpy(), expected[1])
    np.testing.assert_array_equal(residual.numpy(), expected[2])


def test_equal_codes_resolve_to_the_lowest_index():
    book = torch.randn(40, 16, generator=_generator())
    codes, _ = nearest_code(torch.randn(500, 16, generator=_generator(1)), torch.cat([book, book]))
    assert int(codes.max()) < 40


@pytest.mark.parametrize("books", [[], [np.zeros((0, 2))], [np.zeros((3, 4))]])
def test_unusable_codebooks_are_refused(books):
    with pytest.raises(ValueError, match="codebook"):
        residual_quantize(np.zeros((2, 2)), books)


def test_kmeans_with_fewer_distinct_rows_than_codes_returns_those_rows(caplog):
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 5.0]])
    with caplog.at_level("INFO"):
        centres = kmeans(rows.repeat(4, 1), 8, _generator())
    assert sorted(centres.tolist()) == sorted(rows.tolist())
    assert "capped at 3" in caplog.text


def test_kmeans_finds_separated_groups_and_leaves_no_cluster_empty():
    corners = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    rows = (corners[:, None] + 0.1 * torch.randn(4, 50, 2, generator=_generator())).reshape(-1, 2)
    for seed in range(5):
        codes, _ = nearest_code(rows, kmeans(rows, 4, _generator(seed)))
        assert sorted(torch.bincount(codes, minlength=4).tolist()) == [50] * 4
        assert all(len(set(group.tolist())) == 1 for group in codes.reshape(4, 50))


def test_kmeans_repeats_bit_for_bit_from_the_same_generator_state():
    rows = torch.randn(300, 8, generator=_generator(3))
    assert torch.equal(kmeans(rows, 20, _generator(1)), kmeans(rows, 20, _generator(1)))
    assert not torch.equal(kmeans(rows, 20, _generator(1)), kmeans(rows, 20, _generator(2)))


def test_kmeans_refuses_rows_that_are_not_finite():
    with pytest.raises(ValueError, match="finite"):
        kmeans(torch.tensor([[0.0], [float("nan")]]), 2, _generator())


def test_every_level_of_residual_kmeans_is_balanced_on_a_dense_middle_with_outliers():
    # Plain k-means gives the outliers their own codes and the dense middle to one code.
    generator = _generator(5)
    middle = 0.05 * torch.randn(600, 16, generator=generator)
    outliers = torch.randn(200, 16, generator=generator)
    z = torch.cat([middle, outliers])
    plain = kmeans(z, 32, _generator())
    assert level_quality(nearest_code(z, plain)[0].numpy(), 32)["largest_share"] > 0.5
    codes, _, _ = residual_quantize(z, residual_kmeans(z, 3, 32, _generator()))
    for level in range(3):
        assert level_quality(codes[:, level].numpy(), 32)["largest_share"] < 0.35


def test_a_planted_hierarchy_of_three_levels_is_recovered():
    generator = _generator(7)
    # Level directions are orthogonal and each is a tenth of the one above.
    basis = torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q
    grid = torch.cartesian_prod(torch.arange(4), torch.arange(4), torch.arange(4)).repeat(3, 1)
    z = sum(0.1**n * basis[4 * n + grid[:, n]] for n in range(3))
    codes, _, residual = residual_quantize(z, residual_kmeans(z, 3, 4, _generator()))
    for level in range(3):
        pairs = {(int(a), int(b)) for a, b in zip(grid[:, level], codes[:, level], strict=True)}
        assert len(pairs) == 4, f"level {level + 1} is not a renaming of the planted one"
    assert float(residual.abs().max()) < 1e-5
