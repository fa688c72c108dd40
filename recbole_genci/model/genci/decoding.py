"""Trie-constrained beam search (Eq. 6): every valid beam is an item of the corpus.

Probabilities are normalised over the codes that the trie allows after a prefix. A beam's
probability is then exact for the model *restricted to the corpus*, and the probabilities of all
items sum to 1, so that they can weight beams. Normalising over all codes instead would give
probability to identifiers that no item has.

Symbols: U rows, k beams, N levels, K_n codes at level n, I items.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_genci.model.genci.codes import check_codes
from recbole_genci.utils.static import is_static


class Beams(NamedTuple):
    """Result of :func:`beam_search`, best beam first."""

    codes: Tensor  # [U, k, N] int64, -1 where invalid
    log_probs: Tensor  # [U, k], -inf where invalid
    valid: Tensor  # [U, k] bool
    items: Tensor  # [U, k] int64 row number in the table of codes, -1 where invalid


def decoded_levels(level_sizes: Sequence[int]) -> int:
    """Number of levels that need a decoder: the last ones that have a single code need none.

    Their log-probability is 0 whatever the scores. At least 1.
    """
    levels = len(level_sizes)
    while levels > 1 and level_sizes[levels - 1] == 1:
        levels -= 1
    return levels


def _number_prefixes(
    codes: Tensor, sizes: Sequence[int]
) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
    """Number the distinct prefixes of each length from 0 on, in lexicographic order.

    Args:
        codes: ``[I, N]`` int64.
        sizes: K_n per level.
    Returns:
        edges: for each level the prefixes that its codes extend, and these codes, in the order of
            the longer prefixes.
        prefixes: ``[I]`` the number of each row's prefix of 0, 1, ... N codes.
    """
    prefix = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
    edges, prefixes = [], [prefix]
    for level, size in enumerate(sizes):
        # unique sorts
        key, prefix = torch.unique(prefix * size + codes[:, level], return_inverse=True)
        edges.append((key // size, key % size))
        prefixes.append(prefix)
    return edges, prefixes


def _check_distinct(codes: Tensor, leaf: Tensor) -> None:
    """Refuse rows of ``codes [I, N]`` that are equal and so have one number in ``leaf [I]``."""
    count = torch.bincount(leaf)
    if len(count) == len(codes):
        return
    rows = (leaf == int((count > 1).nonzero()[0])).nonzero().flatten()[:2].tolist()
    raise ValueError(
        f"{len(codes) - len(count)} items repeat another item's codes, e.g. rows {rows}: "
        f"{codes[rows[0]].tolist()}"
    )


class Trie(nn.Module):
    """All prefixes of an item code table, in compressed sparse rows.

    State 0 is the root; the states of one depth are numbered consecutively *in lexicographic order
    of their prefix*, which is what makes ties in the search deterministic. The children of state s
    are the states ``first_child[s] .. first_child[s + 1] - 1``, and ``code_of [states]`` is the
    code that leads to each: memory grows with the number of prefixes, and a search compares the
    codes that the corpus has (in ml-1m 14 of 256 on the second level, 1 on the third). No buffer is
    saved: the semantic-ID artifact is their source.

    Args:
        codes: ``[I, N]`` int64, one unique row per item.
        level_sizes: K_n per level; by default the largest code of each level plus one.
    Raises:
        ValueError: wrong shape or type, no item, a code out of range, or two items with the same
            codes.
    """

    leaf_item: Tensor
    has_one_item: Tensor
    first_child: Tensor
    code_of: Tensor

    def __init__(self, codes: Tensor, level_sizes: Sequence[int] | None = None):
        super().__init__()
        sizes = check_codes(codes, level_sizes)
        edges, prefixes = _number_prefixes(codes, sizes)
        _check_distinct(codes, prefixes[-1])
        items, levels = codes.shape
        counts = [1, *(len(code) for _, code in edges)]
        starts = [sum(counts[:depth]) for depth in range(levels + 1)]
        inner = starts[-1]
        item = torch.empty(items, dtype=torch.int64, device=codes.device)
        item[prefixes[-1]] = torch.arange(items, device=codes.device)
        self.level_sizes, self.counts, self.starts = tuple(sizes), tuple(counts), tuple(starts)
        self.decoded_levels = decoded_levels(sizes)
        self.register_buffer("leaf_item", item, persistent=False)
        # Items below each state above the leaves: the rows' prefixes, counted depth by depth.
        walks = torch.cat([starts[depth] + prefixes[depth] for depth in range(levels)])
        below = torch.bincount(walks, minlength=inner)
        self.register_buffer("has_one_item", below == 1, persistent=False)
        # Numbered depth by depth and in lexicographic order, the edges are the states they lead to,
        # 1, 2, 3, ...
        parents = torch.cat([starts[level] + parent for level, (parent, _) in enumerate(edges)])
        code_of = torch.cat([codes.new_full((1,), -1), *(code for _, code in edges)])
        children = torch.bincount(parents, minlength=inner)
        self.most_children = [
            int(children[starts[depth] : starts[depth + 1]].max()) for depth in range(levels)
        ]
        first = 1 + torch.cat([children.new_zeros(1), children.cumsum(0)])
        self.register_buffer("first_child", first, persistent=False)
        self.register_buffer("code_of", code_of, persistent=False)

    def continuations(self, states: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """What may follow each of ``states [...]`` at depth ``level``.

        Returns:
            codes ``[..., C]`` and the states that they lead to, C the most children at this depth;
            behind a state's own children the code is 0 and the state -1.
        """
        child = self.first_child[states].unsqueeze(-1) + torch.arange(
            self.most_children[level], device=states.device
        )
        real = child < self.first_child[states + 1].unsqueeze(-1)
        codes = self.code_of[torch.where(real, child, 1)]
        return codes.where(real, 0), child.where(real, -1)

    def items(self, leaves: Tensor) -> Tensor:
        """Item row numbers of leaf states, same shape, int64."""
        return self.leaf_item[leaves - self.starts[-1]]


LogitsFn = Callable[[int, Tensor, Tensor | None, Tensor], Tensor]


def constrained_log_probs(logits: Tensor, allowed: Tensor) -> Tensor:
    """Log-softmax of ``logits [..., K]`` over ``allowed [..., K]`` codes; -inf elsewhere."""
    return logits.masked_fill(~allowed, -torch.inf).log_softmax(-1)


def _ranking_key(log_probs: Tensor, states: Tensor) -> Tensor:
    """Keys that order by log-probability, then by *smaller* state, so that no two different states
    compare equal: int64, or float64 in a program that is exported.

    The bits of a float, its sign apart, order like integers, and no log-probability is above 0.
    NaN, whose bits are above those of infinity, are moved to the front, and state -1, a code that
    is not allowed, behind all others: a NaN makes NaN beams, which somebody will see, rather than
    none.
    """
    if is_static():
        # ONNX cannot read a float's bits. Two float32 differ by more than 2 ** -24 of their size,
        # and 2 ** -52 of it still shows in float64: there is room for 2 ** 28 states.
        return log_probs.double() * (1 + states.double() * 2**-52)
    magnitude = (log_probs.view(torch.int32) & 0x7FFFFFFF).long()
    place = (
        magnitude + 0x7FFFFF
    ) & 0x7FFFFFFF  # infinity becomes the last place, and the NaN behind it the first ones
    return (states ^ 0x7FFFFFFF) - place * 2**32


@torch.no_grad()
def beam_search(
    logits_fn: LogitsFn,
    trie: Trie,
    num_rows: int,
    num_beams: int,
    device: torch.device | str | None = None,
) -> Beams:
    """The ``num_beams`` most probable items of each row, by level-wise beam search under ``trie``.

    With ``num_beams`` at least the number of items nothing is ever pruned and the ranking is exact.
    The last levels that have a single code are not scored (see :func:`decoded_levels`).
    Equal scores are ordered by their codes, smaller first. Where a row has fewer continuations than
    beams the rest is marked invalid; no item is invented.

    Args:
        logits_fn: called once per level as ``(level, prefix [U, k', level] int64, parent [U, k'] or
            None, undecided [U, k'])`` and returns float32 unnormalised scores ``[U, k',
            K_level]``. ``parent`` says which of the previous call's beams each prefix extends (None
            at level 0, where k' = 1). k' grows only as far as the corpus has prefixes; slots beyond
            a row's valid beams hold some legal prefix whose scores are ignored. Where ``undecided``
            is False one item is left, and any finite scores do; so for all that extends it.
        trie: the corpus.
        num_rows: U.
        num_beams: k >= 1; may exceed the codes of a level and the number of items.
    Raises:
        ValueError: ``num_beams`` < 1, or scores of the wrong shape or type.
    """
    if num_beams < 1:
        raise ValueError(f"num_beams must be at least 1, got {num_beams}")
    device = trie.leaf_item.device if device is None else torch.device(device)
    levels = len(trie.level_sizes)
    states = torch.zeros(num_rows, 1, dtype=torch.int64, device=device)
    scores = torch.zeros(num_rows, 1, device=device)
    prefix = torch.empty(num_rows, 1, 0, dtype=torch.int64, device=device)
    parent, valid = None, torch.ones_like(states, dtype=torch.bool)
    for level, size in enumerate(trie.level_sizes[: trie.decoded_levels]):
        logits = logits_fn(level, prefix, parent, valid & ~trie.has_one_item[states])
        if logits.shape != (num_rows, states.shape[1], size) or logits.dtype != torch.float32:
            expected = (num_rows, states.shape[1], size)
            raise ValueError(
                f"level {level}: expected float32 {expected}, got {logits.dtype} "
                f"{tuple(logits.shape)}"
            )
        codes, following = trie.continuations(states, level)  # [U, k', C]
        log_probs = constrained_log_probs(logits.gather(-1, codes), following >= 0)
        totals = (log_probs + scores.unsqueeze(-1)).flatten(1)
        following = following.flatten(1)
        width = min(num_beams, trie.counts[level + 1], totals.shape[1])
        chosen = _ranking_key(totals, following).topk(width, 1).indices  # [U, width], sorted
        parent, code = chosen // codes.shape[-1], codes.flatten(1).gather(1, chosen)
        reached = following.gather(1, chosen)
        valid = valid.gather(1, parent) & (reached >= 0)
        # An unused slot walks along the first prefix: a state with children, so that its softmax is
        # defined.
        states = torch.where(valid, reached, trie.starts[level + 1])
        scores = totals.gather(1, chosen).masked_fill(~valid, -torch.inf)
        prefix = torch.cat(
            [prefix.gather(1, parent.unsqueeze(-1).expand(-1, -1, level)), code.unsqueeze(-1)], -1
        )
    for _ in range(trie.decoded_levels, levels):  # every state has one child, by code 0
        states = trie.first_child[states]
    prefix = F.pad(prefix, (0, levels - trie.decoded_levels))
    missing = num_beams - states.shape[1]
    prefix = prefix.masked_fill(~valid.unsqueeze(-1), -1)
    items = torch.where(valid, trie.items(states), -1)
    if missing:
        prefix = torch.cat([prefix, prefix.new_full((num_rows, missing, levels), -1)], 1)
        items = torch.cat([items, items.new_full((num_rows, missing), -1)], 1)
        scores = torch.cat([scores, scores.new_full((num_rows, missing), -torch.inf)], 1)
        valid = torch.cat([valid, valid.new_zeros(num_rows, missing)], 1)
    return Beams(prefix, scores, valid, items)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """No dropout inside the block; every submodule gets its own mode back, also after an error."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes:
            child.training = mode
