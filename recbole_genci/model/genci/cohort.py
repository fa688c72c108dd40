"""Interest cohorts and their refinement, HCAIM (Eq. 7-9).

Symbols: V rows of the item table (row 0 padding), d item embedding size, N levels, K_n codes, U
distinct histories, k beams, S encoder positions, m encoder width, B rows to score.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_genci.model.genci.codes import check_codes
from recbole_genci.model.genci.memory import Memory
from recbole_genci.model.genci.numerics import EPS, rms_normalize
from recbole_genci.model.genci.numerics import dropout as drop
from recbole_genci.model.layers.device import on_cpu

VARIANTS = ("hierarchical", "mean", "target", "literal")
# Up to so many items, the means of all cohorts cost less than finding those that are needed.
_FEW_ITEMS = 1 << 16


class _CohortMean(torch.autograd.Function):
    """The mean over each code's items as one fused gather; its gradient is a gather too.

    Every item is in exactly N-1 cohorts, so its gradient is a sum of N-1 rows, in fixed order and
    without atomic additions.
    """

    @staticmethod
    def forward(
        ctx: Any,
        items: Tensor,
        members: Tensor,
        starts: Tensor,
        weight: Tensor,
        cohorts: Tensor,
        chosen: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(weight, cohorts, chosen)
        return F.embedding_bag(members, items, starts, mode="mean")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, None, None]:
        weight, cohorts, chosen = ctx.saved_tensors
        if chosen is not None:  # the other cohorts have no gradient
            grad = grad.new_zeros(len(weight), grad.shape[1]).index_copy_(0, chosen, grad)
        # A gather for every item: to fill the table with zeros alone takes two thirds of its time.
        grad_items = F.embedding_bag(cohorts, F.pad(grad * weight, (0, 0, 0, 1)), mode="sum")
        return grad_items, None, None, None, None, None


class CohortTable(nn.Module):
    """Which items share a code, for every code of levels 1..N-1 (the collision digit carries no
    cohort).

    Args:
        codes: ``[V, N]`` int64, aligned with the item embedding table; row 0 is padding, and any
            row of -1 is in no cohort.
        level_sizes: K_n of all N levels.
    Raises:
        ValueError: wrong shape or type, a non-padding row 0, a partly padded row, or a code out of
            range.
    """

    offsets: Tensor
    counts: Tensor
    means: Tensor | None
    _cohorts: Tensor
    _members: Tensor
    _starts: Tensor

    def __init__(self, codes: Tensor, level_sizes: Sequence[int]):
        super().__init__()
        sizes = check_codes(codes, level_sizes, padded=True)
        if len(sizes) < 2:
            raise ValueError(f"cohorts need N = len(level_sizes) >= 2, got level_sizes {sizes}")
        padding = (codes == -1).all(1)
        offsets = torch.tensor(
            [sum(sizes[:level]) for level in range(len(sizes) - 1)], device=codes.device
        )
        self.num_cohorts, self.num_items = sum(sizes[:-1]), len(codes)
        cohorts = torch.where(
            padding.unsqueeze(1), self.num_cohorts, codes[:, :-1] + offsets
        )  # [V, N-1]
        flat = cohorts[~padding].flatten()
        counts = torch.bincount(flat, minlength=self.num_cohorts)
        rows = (~padding).nonzero().expand(-1, len(sizes) - 1).flatten()
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("_cohorts", cohorts, persistent=False)
        self.register_buffer("_members", rows[torch.argsort(flat, stable=True)], persistent=False)
        self.register_buffer("_starts", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("means", None, persistent=False)

    @torch.no_grad()
    def precompute(self, item_embeddings: Tensor) -> None:
        """Keep the means of item embeddings ``[V, d]`` that no longer change."""
        self.means = self(item_embeddings)

    def forward(self, item_embeddings: Tensor) -> Tensor:
        """Eq. 7 for every code: ``[V, d] -> [K_1 + ... + K_{N-1}, d]``; a code without items gives
        zeros.

        Raises:
            ValueError: an item table of another length than the codes.
        """
        return self._means(item_embeddings, self._members, self._starts, None)

    def _means(
        self, item_embeddings: Tensor, members: Tensor, starts: Tensor, chosen: Tensor | None
    ) -> Tensor:
        """The means of the ``chosen`` cohorts, or of all, whose items ``members`` lists."""
        if item_embeddings.dim() != 2 or len(item_embeddings) != self.num_items:
            raise ValueError(
                f"expected item embeddings [{self.num_items}, d], got "
                f"{tuple(item_embeddings.shape)}"
            )
        weight = self.counts.clamp(min=1).to(item_embeddings.dtype).reciprocal().unsqueeze(1)
        return _CohortMean.apply(item_embeddings, members, starts, weight, self._cohorts, chosen)

    def of_codes(self, item_embeddings: Tensor, codes: Tensor) -> Tensor:
        """E_C of generated codes (Eq. 7): ``[V, d]``, ``[..., N] -> [..., N-1, d]``.

        As `forward` and `gather` together, bit for bit. On a CPU with many items only the cohorts
        that the codes name are computed: the few of one user's request, or a batch's. A GPU would
        have to be waited for, to count them.
        """
        if self.means is not None:
            return self.gather(self.means, codes)
        if self.num_items > _FEW_ITEMS and on_cpu(codes):
            index = codes[..., :-1] + self.offsets
            chosen = index[codes[..., :-1] >= 0].unique()
            count = self.counts[chosen]
            total = int(count.sum())
            if 2 * total < len(self._members):  # else skipping the others saves nothing
                starts = count.cumsum(0) - count
                place = torch.arange(total, device=codes.device)
                place += torch.repeat_interleave(self._starts[chosen] - starts, count)
                means = self._means(item_embeddings, self._members[place], starts, chosen)
                all_means = means.new_zeros(self.num_cohorts, means.shape[1])
                return self.gather(all_means.index_copy(0, chosen, means), codes)
        return self.gather(self(item_embeddings), codes)

    def epsilon(self, variance: float) -> float:
        """The epsilon for normalising cohort means, if item embeddings are drawn with ``variance``.

        It is T5's epsilon, but at most a tenth of the mean square of an initial cohort mean.
        Xavier's variance falls with the number of rows of the table, and a mean's with the number
        of items in its cohort. On catalogues larger than ml-1m, T5's epsilon would exceed the mean
        square that it is added to: cohorts would stay tiny, and attention over them uniform.
        """
        cohorts = int((self.counts > 0).sum())
        return min(EPS, variance * cohorts / int(self.counts.sum()) / 10) if cohorts else EPS

    def gather(self, cohort_means: Tensor, codes: Tensor) -> Tensor:
        """E_C of generated codes: ``[..., N] -> [..., N-1, d]``; code -1 (no beam) gives zeros."""
        index = codes[..., :-1]
        index = torch.where(index < 0, self.num_cohorts, index + self.offsets)
        return F.embedding(index, F.pad(cohort_means, (0, 0, 0, 1)))


class CohortAttention(nn.Module):
    """Hierarchical candidate-aware intent modelling: cohorts read the history, the target reads the
    cohorts.

    The paper gives only the attention; two things are added here, as in a T5 block. **Cohorts and
    target are normalised** first, to the root mean square ``scale``. After Xavier's initialisation
    an item embedding is a fortieth of the history states that it is compared with, and the mean
    over a cohort is smaller still, so that the softmax of Eq. 8 would be almost uniform for any
    cohorts.
    **A cohort keeps its own embedding** beside what it reads (``residual``). By Eq. 8 alone a
    refined cohort consists of history states, which are nearly the same for all cohorts of a
    history, so that the target of Eq. 9 has nothing to choose from. Only with both does the
    short-term intent have an effect (benchmarks/parts.md).

    There is no output projection after the heads: H_STI is an input of the prediction MLP (Eq. 10),
    whose first matrix would absorb it. Several beams are weighted by their probability: the
    log-softmax of ``beam_log_probs`` over a history's valid beams is added to the scores of Eq. 9,
    which adds 0 for a single beam. The variant ``literal`` with one head, one beam and no dropout
    is Eq. 8 and 9.

    Args:
        item_size: d, which ``num_heads`` must divide.
        history_size: m.
        dropout: on the attention weights.
        variant: ``hierarchical`` (Eq. 8 and 9), ``target`` (Eq. 9 on the unrefined cohorts),
            ``mean`` (the probability-weighted mean of the unrefined cohorts), or ``literal`` (Eq. 8
            and 9 as printed, without normalisation or residual). A variant has only the parameters
            that it uses.
        residual: for ``hierarchical``: refined cohorts are ``E_C + Attention(E_C, H_enc)``; False
            is Eq. 8 as printed, with normalised cohorts.
        eps: added to the mean squares that cohorts and target are normalised by
            (``CohortTable.epsilon``).
        by_level: one intent for each level, from the beams' cohorts of that level alone, instead of
            one over all levels. H_STI is then their concatenation, ``[B, (N-1) d]``.
        scale: root mean square of normalised cohorts and targets. With less, the attentions of
            Eq. 8 and 9 are flatter, and what cohorts pass on is smaller.
    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(
        self,
        item_size: int,
        history_size: int,
        num_heads: int = 2,
        dropout: float = 0.1,
        variant: str = "hierarchical",
        residual: bool = True,
        eps: float = EPS,
        by_level: bool = False,
        scale: float = 1.0,
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {VARIANTS}, got {variant!r}")
        if num_heads < 1 or item_size % num_heads:
            raise ValueError(
                f"num_heads must divide item_size, got num_heads={num_heads} and "
                f"item_size={item_size}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be above 0 and finite, got {scale}")
        self.num_heads, self.p, self.variant, self.eps = num_heads, dropout, variant, eps
        self.scale = scale
        self.residual, self.by_level = residual and variant == "hierarchical", by_level
        self.refines, self.normalises = variant in ("hierarchical", "literal"), variant != "literal"
        d = item_size
        if self.refines:
            self.refine_query, self.refine_key, self.refine_value = (
                nn.Linear(size, d, bias=False) for size in (d, history_size, history_size)
            )
        if variant != "mean":
            self.target_query, self.target_key, self.target_value = (
                nn.Linear(d, d, bias=False) for _ in range(3)
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier."""
        for weight in self.parameters():
            nn.init.xavier_uniform_(weight)

    def forward(
        self,
        cohorts: Tensor,
        beam_log_probs: Tensor,
        beam_valid: Tensor,
        history: Memory,
        target: Tensor,
        history_index: Tensor,
    ) -> Tensor:
        """H_STI of every row.

        Args:
            cohorts: ``[U, k, N-1, d]`` E_C.
            beam_log_probs: ``[U, k]``; taken as constants.
            beam_valid: ``[U, k]`` bool.
            history: H_enc of the U histories.
            target: ``[B, d]`` embeddings of the target items.
            history_index: ``[B]`` int64, the history of each row.
        Returns:
            ``[B, d]``, or ``[B, (N-1) d]`` by level; zeros for a row whose history has no valid
            beam.
        """
        weight = _beam_log_weights(beam_log_probs, beam_valid, cohorts.dtype)  # [U, k]
        levels = cohorts.shape[2]
        if self.normalises:
            cohorts, target = self._normalized(cohorts), self._normalized(target)
        if self.variant == "mean":
            mean = cohorts.flatten(2) if self.by_level else cohorts.mean(2)
            intent = torch.einsum("uk,ukd->ud", weight.exp(), mean)
            return (intent * beam_valid.any(1, keepdim=True)).index_select(0, history_index)
        cohorts = cohorts.flatten(1, 2)  # [U, C, d], C = k (N-1)
        if self.refines:
            read = self.refine(cohorts, history)
            cohorts = cohorts + read if self.residual else read
        groups = levels if self.by_level else 1
        return self._extract(
            cohorts,
            weight.repeat_interleave(levels, 1),
            beam_valid.any(1),
            target,
            history_index,
            groups,
        )

    def _normalized(self, x: Tensor) -> Tensor:
        x = rms_normalize(x, self.eps)
        return x if self.scale == 1 else x * self.scale

    def refine(self, cohorts: Tensor, history: Memory) -> Tensor:
        """Attention of Eq. 8, once per distinct history: ``[U, C, d]`` cohorts attend to H_enc of
        width m; ``[U, C, d]``.

        Query and key projections are composed per head, so that S keys and values per history need
        not be made for the few cohorts that read them.
        """
        (rows, count, d), h = cohorts.shape, self.num_heads
        m = history.states.shape[2]
        query, key = (
            self.refine_query.weight.view(h, d // h, d),
            self.refine_key.weight.view(h, d // h, m),
        )
        score = torch.bmm(key.transpose(1, 2), query).reshape(h * m, d) / math.sqrt(d // h)
        seeking = F.linear(cohorts, score).view(rows, count * h, m)
        context = history.read(seeking, self.p, self.training).view(rows, count, h, m)
        return torch.einsum(
            "uchm,hem->uche", context, self.refine_value.weight.view(h, d // h, m)
        ).flatten(2)

    def _extract(
        self,
        refined: Tensor,
        weight: Tensor,
        known: Tensor,
        target: Tensor,
        index: Tensor,
        groups: int,
    ) -> Tensor:
        """H_STI (Eq. 9): ``target [B, d]`` attends to its history's ``refined [U, C, d]``,
        log-weighted ``[U, C]``.

        With ``groups`` > 1 cohort c belongs to group c mod ``groups``, its level. The target then
        attends to each group by itself, and the results stand side by side, ``[B, groups * d]``.
        """
        rows, count, h = target.shape[0], refined.shape[1], self.num_heads
        if refined.shape[0] == 1 and groups == 1 and not self.training:
            return self._extract_for_one(refined[0], weight[0], known[0], target)
        projections = torch.cat([self.target_key.weight, self.target_value.weight])
        both = F.linear(refined, projections).index_select(0, index)  # [B, C, 2d]
        key, value = both.view(rows, count, 2, h, -1).unbind(2)  # [B, C, h, d/h]
        query = self.target_query(target).view(rows, 1, h, -1) / math.sqrt(key.shape[-1])
        scores = (query * key).sum(-1) + weight.index_select(0, index).unsqueeze(-1)  # [B, C, h]
        scores, value = (each.unflatten(1, (-1, groups)) for each in (scores, value))
        weights = drop(scores.softmax(1), self.p, self.training)  # [B, C / groups, groups, h]
        intent = (weights.unsqueeze(-1) * value).sum(1).flatten(1)
        return intent * known.index_select(0, index).unsqueeze(1)

    def _extract_for_one(
        self, refined: Tensor, weight: Tensor, known: Tensor, target: Tensor
    ) -> Tensor:
        """The same if all rows have one history, as when a user's items are ranked: ``refined
        [C, d]`` is then read by matrix products, without a copy for each row.

        Rows are the last dimension, along which a softmax over few cohorts is 20 times as fast.
        """
        h = self.num_heads
        key, value, query = (
            projection(x).view(len(x), h, -1)
            for projection, x in (
                (self.target_key, refined),
                (self.target_value, refined),
                (self.target_query, target),
            )
        )  # [C or B, h, d/h]
        query = query.permute(1, 2, 0) / math.sqrt(key.shape[-1])
        # Added apart: autocast would round the lowest weight to -inf, and 0 beams give NaN.
        scores = torch.bmm(key.transpose(0, 1), query) + weight[:, None]  # [h, C, B]
        intent = torch.bmm(value.permute(1, 2, 0), scores.softmax(1))  # [h, d/h, B]
        return intent.permute(2, 0, 1).flatten(1) * known


def _beam_log_weights(log_probs: Tensor, valid: Tensor, dtype: torch.dtype) -> Tensor:
    """Log-softmax ``[U, k]`` over each row's valid beams; invalid ones get the most negative finite
    number.

    Finite, so that a row without any valid beam stays free of NaN (its intent is set to zero
    afterwards).
    """
    lowest = torch.finfo(dtype).min
    return (
        log_probs.detach()
        .to(dtype)
        .masked_fill(~valid, lowest)
        .log_softmax(1)
        .masked_fill(~valid, lowest)
    )
