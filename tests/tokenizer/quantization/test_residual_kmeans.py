import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import residual_quantize

from recbole_genci.tokenizer import scale
from recbole_genci.tokenizer.quantization import residual_kmeans as module
from recbole_genci.tokenizer.quantization.codebook import ResidualQuantizer
from recbole_genci.tokenizer.quantization.quality import level_quality
from recbole_genci.tokenizer.quantization.residual_kmeans import (
    balanced_codes,
    cluster_sums,
    kmeans,
    nearest_code,
    residual_kmeans,
    sampled_rows,
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
    expected = _eq3(z, books)
    quantiser = ResidualQuantizer(dim, sizes, dim)
    quantiser.init_codebooks([torch.from_numpy(book).float() for book in books])
    found = quantiser.quantize(torch.from_numpy(z).float())
    assert found.codes.dtype == torch.int64
    np.testing.assert_array_equal(found.codes.numpy(), expected[0])
    np.testing.assert_array_equal(found.quantized.detach().numpy(), expected[1])
    for mine, other in zip(residual_quantize(z, books), expected, strict=True):  # the reference
        np.testing.assert_array_equal(mine.numpy(), other)


def test_equal_codes_resolve_to_the_lowest_index():
    book = torch.randn(40, 16, generator=_generator())
    codes, _ = nearest_code(torch.randn(500, 16, generator=_generator(1)), torch.cat([book, book]))
    assert int(codes.max()) < 40


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


# ---------------------------------------------------------------- large catalogues


def _clusters(rows, seed=0):
    """Rows around 64 places, as wide as the places are apart."""
    generator = _generator(seed)
    places = torch.randn(64, 8, generator=generator)
    which = torch.randint(64, (rows,), generator=generator)
    return places[which] + 0.3 * torch.randn(rows, 8, generator=generator)


def _reference_kmeans(z, num_codes, generator):
    """k-means as it was when the published IDs were made, for rows that are all distinct."""
    chosen = [int(torch.randint(len(z), (1,), generator=generator))]
    distance = (z - z[chosen[0]]).square().sum(dim=1)
    for _ in range(num_codes - 1):
        uniform = torch.rand(len(z), generator=generator, dtype=torch.float64).clamp_min(1e-300)
        key = torch.where(distance > 0, uniform.log() / distance.double(), -torch.inf)
        chosen.append(int(key.topk(1).indices[0]))
        distance = torch.minimum(distance, (z - z[chosen[-1]]).square().sum(dim=1))
    centres, codes = z[chosen].clone(), None
    for _ in range(50):
        distances = torch.cdist(z, centres, compute_mode="donot_use_mm_for_euclid_dist")
        new_codes = distances.argmin(dim=1)
        if codes is not None and torch.equal(new_codes, codes):
            break
        codes = new_codes
        one_hot = torch.nn.functional.one_hot(codes, num_codes).to(z.dtype)
        count, total = one_hot.sum(dim=0), one_hot.T @ z
        centres = torch.where((count > 0)[:, None], total / count.clamp_min(1)[:, None], centres)
        empty = torch.nonzero(count == 0).flatten()
        centres[empty] = z[distances.amin(dim=1).square().topk(len(empty)).indices]
    return centres


def test_a_small_catalogue_has_the_codes_it_always_had():
    z = _clusters(2_000)
    plain = residual_kmeans(z, 1, 32, _generator(4), balance=False)[0]
    assert torch.equal(plain, _reference_kmeans(z, 32, _generator(4)))


def test_fast_kmeans_serves_the_rows_as_well_as_the_exact_one():
    z = _clusters(4_000)

    def error(fast, seed):
        centres = kmeans(z, 32, _generator(seed), fast=fast)
        return float(nearest_code(z, centres)[1].mean())

    exact, fast = ([error(each, seed) for seed in range(5)] for each in (False, True))
    assert np.mean(fast) < 1.01 * np.mean(exact)


def test_fast_kmeans_restarts_empty_clusters_and_knows_how_many_rows_are_distinct():
    rows = torch.eye(8).repeat(100, 1)
    assert sorted(kmeans(rows, 20, _generator(), fast=True).tolist()) == sorted(
        torch.eye(8).tolist()
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 200),
    codes=st.integers(1, 300),
    dim=st.integers(1, 70),
    scale_exponent=st.integers(-6, 6),
    step=st.sampled_from([0.0, 0.25, 1.0]),
)
def test_the_nearest_code_is_that_of_exact_distances_to_the_last_bit(
    seed, rows, codes, dim, scale_exponent, step
):
    generator = _generator(seed)
    z = torch.randn(rows, dim, generator=generator)
    book = torch.randn(codes, dim, generator=generator)
    if step:  # a grid, on which many distances are equal
        z, book = (z / step).round() * step, (book / step).round() * step
    book[codes // 2] = book[0]
    z[: rows // 3] = book[-1] + 1e-7 * torch.randn(rows // 3, dim, generator=generator)
    z, book = z * 10.0**scale_exponent, book * 10.0**scale_exponent
    found, distance = module._nearest_exact(z, book)
    expected, exact = module._nearest(z, book, exact=True)
    assert torch.equal(found, expected) and torch.equal(distance, exact)


def test_in_lower_precision_matrix_products_do_not_tell_the_nearest_code(monkeypatch):
    z, book = _clusters(50), _clusters(9, seed=1)
    expected = nearest_code(z, book)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    monkeypatch.setattr(torch, "addmm", None)  # not used
    assert all(map(torch.equal, nearest_code(z, book), expected))


@pytest.mark.parametrize("seed", range(4))
def test_the_fast_balanced_assignment_is_the_exact_one(seed):
    z = torch.randn(1_000, 16, generator=_generator(seed))
    centres = z[:100] + 0.2 * torch.randn(100, 16, generator=_generator(seed + 9))
    for far in (1.0, 5.0, 10.0):  # then the kernel of float32 would be 0
        centres[0] *= far
        exact, fast = balanced_codes(z, centres), balanced_codes(z, centres, fast=True)
        assert float((exact != fast).float().mean()) <= 0.002  # near-ties


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 60), num_codes=st.integers(1, 12))
def test_each_empty_code_gets_half_of_the_rows_of_a_large_one(seed, rows, num_codes):
    codes = torch.randint((num_codes + 1) // 2, (rows,), generator=_generator(seed))
    count = torch.bincount(codes, minlength=num_codes)
    filled = module._with_no_empty_code(codes, num_codes)
    moved = filled != codes
    assert (count[filled[moved]] == 0).all()  # only empty codes get rows
    now, empty = torch.bincount(filled, minlength=num_codes), int((count == 0).sum())
    halved = sorted(count.tolist(), reverse=True)[:empty]
    assert sorted(now[count == 0].tolist(), reverse=True) == [size // 2 for size in halved]


def test_a_centre_that_the_balanced_assignment_leaves_out_moves(monkeypatch):
    """It would stay in the middle of all rows, the nearest code of many of them."""
    z = torch.randn(800, 64, generator=_generator())
    centres = torch.cat([torch.zeros(1, 64), z[:7]])

    def all_but_the_first(rows, centres, fast):
        return 1 + balanced_codes(rows, centres[1:], fast)

    monkeypatch.setattr(module, "balanced_codes", all_but_the_first)

    kept, moved = (module.balance_centres(z, centres, _generator(), fast=fast) for fast in (0, 1))
    assert not kept[0].any() and moved[0].any()
    assert int((nearest_code(z, moved)[0] == 0).sum()) >= 40  # an eighth would be 100


def test_fast_distances_and_sums_are_those_of_the_exact_ones():
    z, centres = _clusters(500), _clusters(20, seed=1)
    codes, squared = nearest_code(z, centres)
    fast_codes, fast_squared = module._nearest_fast(z, centres)
    assert torch.equal(codes, fast_codes)
    torch.testing.assert_close(fast_squared, squared, atol=1e-4, rtol=1e-4)
    codes[codes == 3] = 4  # a code without rows
    count, total = cluster_sums(z, codes, 20)
    fast_count, fast_total = cluster_sums(z, codes, 20, fast=True)
    assert torch.equal(count, fast_count)
    torch.testing.assert_close(fast_total, total, atol=1e-4, rtol=1e-4)


def test_a_sample_is_the_same_in_any_order_and_keeps_the_share_of_repeated_rows():
    z = torch.cat([_clusters(1_500), torch.ones(500, 8)])
    sample = sampled_rows(z, 400)
    assert torch.equal(sample, sampled_rows(z[torch.randperm(2_000, generator=_generator())], 400))
    assert 99 <= int((sample == 1).all(dim=1).sum()) <= 101
    distinct = torch.unique(sample, dim=0)
    assert len(distinct) >= 299  # every other row once
    assert float((sample[(sample != 1).any(dim=1)].mean(dim=0) - z[:1_500].mean(dim=0)).norm()) < (
        0.3
    )
    rows = sampled_rows(z, 5_000)
    assert sorted(rows.tolist()) == sorted(z.tolist())


def _as_large_catalogue(monkeypatch, sample):
    monkeypatch.setattr(scale, "LARGE_CATALOGUE", 0)
    monkeypatch.setattr(module, "SAMPLE", sample)


def test_codebooks_of_a_large_catalogue_do_not_depend_on_the_order_of_its_rows(monkeypatch):
    _as_large_catalogue(monkeypatch, 1_000)
    z = _clusters(2_000)
    shuffled = z[torch.randperm(2_000, generator=_generator(1))]
    books, others = (residual_kmeans(rows, 2, 16, _generator()) for rows in (z, shuffled))
    assert all(map(torch.equal, books, others))


def test_codebooks_of_a_large_catalogue_serve_it_as_well(monkeypatch):
    z = _clusters(4_000)

    def error():
        return np.mean(
            [
                float(residual_quantize(z, residual_kmeans(z, 2, 8, _generator(seed)))[2].norm())
                for seed in range(4)
            ]
        )

    exact = error()
    _as_large_catalogue(monkeypatch, 4_000)
    assert error() < 1.01 * exact
    _as_large_catalogue(monkeypatch, 2_000)  # 250 a code, as by default
    assert error() < 1.03 * exact
