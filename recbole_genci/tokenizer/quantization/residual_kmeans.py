"""Residual quantisation (Eq. 3), and residual k-means, which initialises its codebooks."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from recbole_genci.tokenizer.progress import NO_STEPS, SILENT, BuildProgress, Steps
from recbole_genci.tokenizer.scale import SAMPLE, is_large

_logger = logging.getLogger(__name__)

_CHUNK = 1 << 16  # rows per distance matrix, so that memory does not grow with the catalogue
_CACHED = 1 << 11  # rows whose distances to a few hundred codes the processor's cache holds
_BALANCE_ROUNDS = 10
_BALANCE_ROWS = 1 << 15  # rows that balance a codebook: enough for thousands of codes
_SINKHORN_EPSILON = 0.02  # sharpness of the transport plan, in units of the mean excess distance
_SINKHORN_ITERATIONS = 8
_LLOYD_ROUNDS = 50
# Time of a round in units of drawing one centre, only to estimate the time left.
_LLOYD_STEPS, _BALANCE_STEPS = 20, 40
# Wider vectors are clustered with the matrix-product distance, which is many times faster.
_EXACT_WIDTH = 64
# For large catalogues: rows that draw the first centres, and the share of the squared error by
# which a round must improve.
_SEED_ROWS = 1 << 14
_LEAST_GAIN = 1e-4


def _distances(rows: Tensor, codebook: Tensor, exact: bool) -> Tensor:
    """Euclidean distances ``[I, K]``. With ``exact``, equal codes have exactly equal distances."""
    mode = "donot_use_mm_for_euclid_dist" if exact else "use_mm_for_euclid_dist"
    return torch.cdist(rows, codebook, compute_mode=mode)


def nearest_code(residual: Tensor, codebook: Tensor, exact: bool = True) -> tuple[Tensor, Tensor]:
    """Index of the nearest code and the squared distance to it; ties go to the lowest index.

    Args:
        residual: ``[I, D]``.
        codebook: ``[K, D]``.
        exact: whether equal distances are exactly equal. Otherwise rounding decides near-ties.

    Returns:
        ``(codes [I] int64, squared_distance [I])``.
    """
    codes, distances = [], []
    for rows in residual.split(_CHUNK):
        index, distance = (_nearest_exact if exact else _nearest)(rows, codebook)
        codes.append(index)
        distances.append(distance.square())
    return torch.cat(codes), torch.cat(distances)


def _nearest(rows: Tensor, codebook: Tensor, exact: bool = False) -> tuple[Tensor, Tensor]:
    """The nearest codes ``[I]`` by all distances, and these distances ``[I]``."""
    distance = _distances(rows, codebook, exact)
    # argmin returns the first of several minima on every device; min does not promise it.
    codes = distance.argmin(dim=1)
    return codes, distance.gather(1, codes.unsqueeze(1)).squeeze(1)


def _nearest_exact(rows: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """What `_nearest` finds by exact distances, to the last bit and several times as fast.

    Matrix products tell which code is nearest, unless the second is as near as rounding could hide.
    Exact distances decide such rows.
    """
    if len(codebook) == 1 or torch.get_float32_matmul_precision() != "highest":
        return _nearest(rows, codebook, exact=True)
    length = codebook.square().sum(dim=1)
    # A sum of D products is off by at most D roundings of their sizes. Two scores and two exact
    # distances are compared, none larger than (|row| + |code|)^2.
    largest = (rows.square().sum(dim=1).sqrt() + length.max().sqrt()).square()
    margin = 4 * (rows.shape[1] + 8) * torch.finfo(rows.dtype).eps * largest
    codes, unclear = [], []
    for part, much in zip(rows.split(_CACHED), margin.split(_CACHED), strict=True):
        score = torch.addmm(length, part, codebook.T, alpha=-2)  # |row - code|^2 - |row|^2
        smallest, index = score.min(dim=1)
        second = score.scatter_(1, index.unsqueeze(1), torch.inf).amin(dim=1)
        codes.append(index)
        unclear.append(~(second > smallest + much))  # so are rows that are not finite
    found, doubtful = torch.cat(codes), torch.cat(unclear).nonzero().squeeze(1)
    found[doubtful] = _nearest(rows[doubtful], codebook, exact=True)[0]
    pairs = _distances(rows.unsqueeze(1), codebook[found].unsqueeze(1), exact=True)
    return found, pairs.flatten()


def cluster_sums(
    rows: Tensor, codes: Tensor, num_codes: int, fast: bool = False
) -> tuple[Tensor, Tensor]:
    """Number of rows per code and their sum: ``(count [K], sum [K, D])``.

    Matrix products make the result reproducible bit for bit. So does sorting, with ``fast``, in the
    same time for any number of codes, but with other rounding.
    """
    if fast:
        return _segment_sums(rows, codes, num_codes)
    count = rows.new_zeros(num_codes)
    total = rows.new_zeros(num_codes, rows.shape[1])
    for part, index in zip(rows.split(_CHUNK), codes.split(_CHUNK), strict=True):
        one_hot = torch.nn.functional.one_hot(index, num_codes).to(rows.dtype)
        count += one_hot.sum(dim=0)
        total += one_hot.T @ part
    return count, total


def _nearest_fast(rows: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """As `nearest_code`, by a matrix product alone: rounding decides near-ties."""
    score = torch.addmm(codebook.square().sum(dim=1), rows, codebook.T, alpha=-2)
    smallest, codes = score.min(dim=1)
    return codes, (smallest + rows.square().sum(dim=1)).clamp_min(0)


def _segment_sums(rows: Tensor, codes: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """As `cluster_sums`, by sorting."""
    count = torch.bincount(codes, minlength=num_codes)
    order = codes.argsort(stable=True)
    total = torch.nn.functional.embedding_bag(order, rows, count.cumsum(0) - count, mode="sum")
    return count.to(rows.dtype), total


def sampled_rows(z: Tensor, number: int = SAMPLE) -> Tensor:
    """``number`` of the rows ``[I, D]``, or all: the same ones in the same order, however the rows
    are ordered. A row that is there often is drawn often.
    """
    generator = torch.Generator().manual_seed(0)
    factor = torch.randint(-(1 << 63), (1 << 63) - 1, (z.shape[1],), generator=generator)
    factor = factor.to(z.device)
    bits = z.float().contiguous().view(torch.int32)
    hashes = torch.cat([(part.long() * factor).sum(dim=1) for part in bits.split(_CHUNK)])
    position = torch.arange(min(number, len(z)), device=z.device) * len(z) // min(number, len(z))
    return z[hashes.argsort(stable=True)[position]]


def draw_rows(weight: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Indices of at most ``number`` distinct rows, drawn with probability proportional to ``weight
    [I]``.

    Rows of weight 0 are never drawn, so there may be fewer. The CPU draws, so that any device gets
    the same rows.
    """
    uniform = torch.rand(len(weight), generator=generator, dtype=torch.float64)
    # Efraimidis and Spirakis: the largest log(u) / w are a weighted sample without replacement.
    weight = weight.detach().double().cpu()
    key = torch.where(weight > 0, uniform.clamp_min(1e-300).log() / weight, -torch.inf)
    return key.topk(min(number, int((weight > 0).sum()))).indices


def _seed_centres(z: Tensor, num_codes: int, generator: torch.Generator, steps: Steps) -> Tensor:
    """k-means++: each further centre is a row drawn with probability proportional to its squared
    distance.
    """
    chosen = [int(torch.randint(len(z), (1,), generator=generator))]
    distance = (z - z[chosen[0]]).square().sum(dim=1)
    while len(chosen) < num_codes:
        drawn = draw_rows(distance, 1, generator)
        if len(drawn) == 0:  # every row is already a centre
            break
        chosen.append(int(drawn[0]))
        distance = torch.minimum(distance, (z - z[chosen[-1]]).square().sum(dim=1))
        steps.advance()
    return z[torch.tensor(chosen, device=z.device)].clone()


def _first_centres(
    z: Tensor, num_codes: int, generator: torch.Generator, steps: Steps, fast: bool
) -> Tensor:
    """`_seed_centres` of all rows, or with ``fast`` of some, if enough of these are distinct."""
    if fast:
        some = _seed_centres(z[:: max(1, len(z) // _SEED_ROWS)], num_codes, generator, steps)
        if len(some) == num_codes:
            return some
    return _seed_centres(z, num_codes, generator, steps)


def kmeans(
    z: Tensor,
    num_codes: int,
    generator: torch.Generator,
    max_iterations: int = _LLOYD_ROUNDS,
    steps: Steps = NO_STEPS,
    fast: bool = False,
) -> Tensor:
    """Lloyd's k-means with k-means++ seeding; an empty cluster restarts at one of the worst-served
    rows.

    Args:
        z: ``[I, D]``.
        num_codes: number of centres; at most the number of distinct rows, with a log line.
        generator: a CPU generator; the same state gives the same centres bit for bit.
        max_iterations: largest number of rounds.
        steps: counts every drawn centre and every round.
        fast: for many rows: matrix products give the distances, some rows draw the first centres,
            and rounds end when they gain little. Otherwise they end when no row moves.

    Returns:
        ``[K, D]`` centres, ``K <= num_codes``.

    Raises:
        ValueError: there are no rows, or they are not finite.
    """
    if z.ndim != 2 or len(z) == 0 or not bool(torch.isfinite(z).all()):
        raise ValueError(
            f"k-means needs finite rows [I, D] with I >= 1; it was given shape {tuple(z.shape)}."
        )
    distinct = len(torch.unique(z, dim=0))
    if distinct < num_codes:
        _logger.info(
            f"Codebook capped at {distinct} codes instead of {num_codes}: no more rows are "
            "distinct."
        )
        num_codes = distinct
    centres = _first_centres(z, num_codes, generator, steps, fast)
    codes, error = None, float("inf")
    for _ in range(max_iterations):
        if fast:
            new_codes, distance = _nearest_fast(z, centres)
        else:
            new_codes, distance = nearest_code(z, centres, exact=z.shape[1] <= _EXACT_WIDTH)
        if codes is not None and torch.equal(new_codes, codes):
            break
        codes, last_error = new_codes, error
        count, total = cluster_sums(z, codes, len(centres), fast)
        centres = torch.where((count > 0)[:, None], total / count.clamp_min(1)[:, None], centres)
        empty = torch.nonzero(count == 0).flatten()
        worst = distance.topk(len(empty)).indices
        centres[empty] = z[worst]
        steps.advance(_LLOYD_STEPS)
        if fast:
            error = float(distance.double().sum())
            if len(empty) == 0 and error > (1 - _LEAST_GAIN) * last_error:
                break
    return centres


def balanced_codes(z: Tensor, centres: Tensor, fast: bool = False) -> Tensor:
    """Assign rows ``[I, D]`` so that each centre ``[K, D]`` serves about I / K rows: ``[I]`` int64.

    This is Sinkhorn's algorithm. The cost is a row's distance beyond its nearest centre, divided by
    the mean, so that the kernel cannot overflow. With ``fast`` a matrix product gives the
    distances, with other rounding.
    """
    if fast:
        return _balanced_fast(z, centres)
    cost = _distances(z, centres, exact=z.shape[1] <= _EXACT_WIDTH).square().double()
    cost -= cost.min(dim=1, keepdim=True).values
    kernel = torch.exp(-cost / (cost.mean().clamp_min(1e-30) * _SINKHORN_EPSILON))
    by_row, by_code = kernel.new_ones(len(z)), kernel.new_ones(len(centres))
    for _ in range(_SINKHORN_ITERATIONS):
        by_code = 1.0 / (kernel.T @ by_row).clamp_min(1e-100)
        by_row = 1.0 / (kernel @ by_code).clamp_min(1e-100)
    return (kernel * by_code).argmax(dim=1)


def _balanced_fast(z: Tensor, centres: Tensor) -> Tensor:
    """As `balanced_codes`, in one array."""
    # In float32 a centre far from all rows would have a kernel of 0, and never get its share.
    kernel = torch.addmm(centres.square().sum(dim=1), z, centres.T, alpha=-2).double()
    kernel -= kernel.amin(dim=1, keepdim=True)
    kernel.div_(kernel.mean().clamp_min(1e-30) * -_SINKHORN_EPSILON).exp_()
    by_row = kernel.new_ones(len(z))
    for _ in range(_SINKHORN_ITERATIONS):
        by_code = (by_row @ kernel).clamp_min_(1e-100).reciprocal_()
        by_row = (kernel @ by_code).clamp_min_(1e-100).reciprocal_()
    return kernel.mul_(by_code).argmax(dim=1)


def _with_no_empty_code(codes: Tensor, num_codes: int) -> Tensor:
    """Give each code that serves no row half of the rows of one that serves many.

    A balanced assignment can leave out the centre in the dense middle of a residual. It would stay
    there, and the nearest-code rule would give it a quarter of the rows.

    Args:
        codes: ``[I]``, the code of each row.
        num_codes: K.
    """
    count = torch.bincount(codes, minlength=num_codes)
    empty = (count == 0).nonzero().squeeze(1)
    instead = codes.new_full((num_codes,), -1)
    instead[count.topk(len(empty)).indices] = empty
    order = codes.argsort(stable=True)
    chosen = codes[order]
    rank = torch.arange(len(codes), device=codes.device) - (count.cumsum(0) - count)[chosen]
    moving = order[(rank % 2 == 1) & (instead[chosen] >= 0)]
    return codes.index_copy(0, moving, instead[codes[moving]])


def balance_centres(
    z: Tensor,
    centres: Tensor,
    generator: torch.Generator,
    steps: Steps = NO_STEPS,
    fast: bool = False,
) -> Tensor:
    """Move k-means centres ``[K, D]`` to the means of a balanced assignment of the rows ``[I, D]``.

    Plain k-means spends its codes on outliers, and one code serves the dense middle of a residual:
    a fifth to two thirds of a real catalogue, which is no cohort. Balanced centres are as dense as
    the rows, so that the nearest-code rule of Eq. 3 gives cohorts of similar size.
    """
    if len(z) > _BALANCE_ROWS:
        z = z[torch.randperm(len(z), generator=generator)[:_BALANCE_ROWS].to(z.device)]
    for _ in range(_BALANCE_ROUNDS):
        codes = balanced_codes(z, centres, fast)
        if fast:  # small catalogues keep their IDs
            codes = _with_no_empty_code(codes, len(centres))
        count, total = cluster_sums(z, codes, len(centres), fast)
        centres = torch.where((count > 0)[:, None], total / count.clamp_min(1)[:, None], centres)
        steps.advance(_BALANCE_STEPS)
    return centres


def residual_kmeans(
    z: Tensor | np.ndarray,
    num_codebooks: int,
    codebook_size: int,
    generator: torch.Generator,
    balance: bool = True,
    progress: BuildProgress = SILENT,
) -> list[Tensor]:
    """Run one k-means per level over the rows, each on the residuals of the level before.

    It initialises the codebooks of Eq. 3. The rows of a large catalogue are thinned to a sample of
    `SAMPLE`, and clustered by the fast variants.

    Args:
        z: ``[I, D]``.
        num_codebooks: L.
        codebook_size: K.
        generator: see `kmeans`.
        balance: see `balance_centres`; False is plain residual k-means.
        progress: receives the steps of all levels.

    Returns:
        ``num_codebooks`` tensors ``[K_n, D]``, ``K_n <= codebook_size``.
    """
    residual = torch.as_tensor(z)
    large = is_large(len(residual))
    if large:
        residual = sampled_rows(residual, SAMPLE)
    codebooks = []
    level_steps = (
        codebook_size + _LLOYD_ROUNDS * _LLOYD_STEPS + balance * _BALANCE_ROUNDS * _BALANCE_STEPS
    )
    with progress.steps(num_codebooks * level_steps) as steps:
        for level in range(1, num_codebooks + 1):
            codebook = kmeans(residual, codebook_size, generator, steps=steps, fast=large)
            if balance:
                # k-means may have ended before its last round.
                steps.skip_to(level * level_steps - _BALANCE_ROUNDS * _BALANCE_STEPS)
                codebook = balance_centres(residual, codebook, generator, steps, large)
            codebooks.append(codebook)
            residual = residual - codebook[nearest_code(residual, codebook)[0]]
            steps.skip_to(level * level_steps)
    return codebooks
