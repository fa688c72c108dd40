"""What attention reads: encoded sequences, of which each reader sees the first positions.

Symbols: G sequences, S positions, m width, U readers, q queries of a reader.

A reader may have a sequence of its own, or share one with others that see more or less of it. On a
CPU a few readers of a sequence stand side by side and read one copy of it: a copy for each reader,
and its gradient, would be most of the work. On a GPU, where a copy costs little and counting
readers would wait for it, each reader gets its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recbole_genci.model.genci.numerics import dropout, padding_bias
from recbole_genci.model.layers.device import on_cpu


class Memory(NamedTuple):
    """Encoded sequences, and what each reader sees of them, to attend by `read`.

    `of` makes it of sequences and a mask. A decoder's self-attention, in which each reader has a
    sequence of its own, gives ``states`` and ``bias`` itself.
    """

    states: Tensor  # [G, S, m]
    # [G, Q, S], for the Q readers that a copy has room for: 0, or the lowest number. Also [q, S],
    # any bias of all readers' queries, where each reader has a sequence of its own.
    bias: Tensor
    slots: Tensor | None = None  # [G * Q] the reader in each slot, any in a slot without one
    place: Tensor | None = None  # [U] the slot of each reader; None: reader u reads sequence u

    @property
    def readers(self) -> int:
        """U."""
        return (self.states if self.place is None else self.place).shape[0]

    @classmethod
    def of(cls, states: Tensor, mask: Tensor, sequence: Tensor | None = None) -> Memory:
        """Sequences ``[G, S, m]`` and what readers see of them.

        Args:
            mask: ``[U, S]`` bool, the positions that each reader sees, at least one.
            sequence: ``[U]`` int64, which sequence each reads; None if it is the one of its number.
        """
        bias = padding_bias(mask, states.dtype)
        if sequence is None:
            return cls(states, bias)
        if not on_cpu(states):
            return cls(states.index_select(0, sequence), bias)
        owner, slots, place = _side_by_side(sequence, len(states))
        bias = bias[slots].view(len(owner), -1, states.shape[1])
        return cls(states.index_select(0, owner), bias, slots, place)

    def read(self, seeking: Tensor, p: float, training: bool) -> Tensor:
        """Attention of queries ``[U, q, m]`` to the states themselves, ``[U, q, m]``.

        Args:
            p: dropout of the attention's weights.
        """
        readers, queries, width = seeking.shape
        bias = self.bias
        if self.slots is not None:
            seeking = seeking.index_select(0, self.slots).view(len(self.states), -1, width)
            bias = bias.unsqueeze(2).expand(-1, -1, queries, -1).flatten(1, 2)
        weights = torch.baddbmm(bias, seeking, self.states.transpose(1, 2)).softmax(-1)
        context = torch.bmm(dropout(weights, p, training), self.states)
        if self.place is None:
            return context
        return context.view(-1, queries, width).index_select(0, self.place)


def _side_by_side(sequence: Tensor, sequences: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places for readers: as many in a row as a sequence has on average, in as many rows as needed.

    Room for the most readers of any sequence would mostly stay empty.

    Returns:
        the sequence of each row ``[G']``, the reader in each slot ``[G' * Q]``, and the slot of
        each reader ``[U]``.
    """
    count = torch.bincount(sequence, minlength=sequences)
    room = max(1, round(len(sequence) / max(1, int((count > 0).sum()))))
    rows = -(-count // room)
    owner = torch.repeat_interleave(rows)
    order = torch.argsort(sequence, stable=True)
    number = torch.arange(len(sequence))
    nth = number - (count.cumsum(0) - count)[sequence[order]]  # reader of its sequence
    place = torch.empty_like(sequence)
    place[order] = (rows.cumsum(0) - rows)[sequence[order]] * room + nth
    slots = torch.zeros(len(owner) * room, dtype=torch.int64)
    slots[place] = number
    return owner, slots, place
