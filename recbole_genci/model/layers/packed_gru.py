"""Faster GRUs over packed sequences on a CPU: torch's GRU, and DIEN's AGRU and AUGRU.

torch's GRU and RecBole's ``DynamicRNN`` slice their packed input at every step (dien.py:517), so
that the backward pass of each step makes a gradient as large as all steps together. Here the input
is projected and split once: the time grows with the clicks, not with clicks times steps. Results
are the same up to the order of sums.

Shapes: ``clicks`` is the number of all steps of all sequences, E the width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from recbole.model.sequential_recommender.dien import AGRUCell, AUGRUCell, DynamicRNN
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from recbole_genci.model.layers.mended import Mended
from recbole_genci.model.layers.precision import widened

#: (hidden state, update gate, candidate state, number of the step) -> next hidden state, all
#: ``[sequences, E]``.
Combine = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def states_of(
    data: Tensor,
    sizes: list[int],
    weights: tuple[Tensor, Tensor, Tensor, Tensor],
    combine: Combine,
) -> list[Tensor]:
    """The hidden states after each step, from 0 before the first: tensors ``[sequences that have
    this step, E]``, in mixed precision float32.

    Args:
        data: ``[clicks, input width]``, step after step.
        sizes: the number of sequences that have each step; they come first.
        weights: ``W_input [3 E, input width], W_hidden [3 E, E], b_input [3 E], b_hidden [3 E]``,
            the gates in torch's order: reset, update, candidate.
        combine: what a step does with its gate.
    """
    weight_input, weight_hidden, bias_input, bias_hidden = weights
    width = weight_hidden.shape[1]
    hidden = widened(data).new_zeros(sizes[0], width)
    states = []
    projected = widened(F.linear(data, weight_input, bias_input))
    for number, inputs in enumerate(projected.split(sizes)):
        hidden = hidden[: inputs.shape[0]]
        input_gates, input_candidate = inputs.split([2 * width, width], dim=1)
        gates = widened(F.linear(hidden, weight_hidden, bias_hidden))
        hidden_gates, hidden_candidate = gates.split([2 * width, width], dim=1)
        reset, update = (input_gates + hidden_gates).sigmoid().chunk(2, dim=1)
        candidate = torch.addcmul(input_candidate, reset, hidden_candidate).tanh()
        hidden = combine(hidden, update, candidate, number)
        states.append(hidden)
    return states


def padded_states(gru: nn.GRU, inputs: Tensor, length: Tensor) -> Tensor:
    """The states ``[B, H, E]`` of torch's GRU over padded sequences, 0 behind their ``length``.

    For programs that are exported: to pack the sequences would look at their lengths.
    """
    states = nn.GRU.forward(gru, inputs)[0]
    is_real = torch.arange(inputs.shape[1], device=inputs.device) < length.unsqueeze(1)
    return states * is_real.unsqueeze(2)


class PackedGRU(Mended, nn.GRU):
    """``torch.nn.GRU`` of one layer, in one direction."""

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """As ``torch.nn.GRU``; whatever is not packed or not on a CPU is left to it."""
        if (
            hx is not None
            or not isinstance(input, PackedSequence)
            or input.data.device.type != "cpu"
        ):
            return super().forward(input, hx)
        weights = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
        states = states_of(
            input.data,
            input.batch_sizes.tolist(),
            weights,
            lambda hidden, update, candidate, _: torch.lerp(candidate, hidden, update),
        )
        # Sequences are sorted by length, longest first: those that end at a step are the last of
        # its states.
        following = [len(state) for state in states[1:]] + [0]
        last = torch.cat(
            [state[number:] for state, number in zip(reversed(states), reversed(following))]
        )
        if input.unsorted_indices is not None:
            last = last.index_select(0, input.unsorted_indices)
        return input._replace(data=torch.cat(states)), last.unsqueeze(0)


class PackedAttentionGRU(Mended, DynamicRNN):
    """RecBole's AGRU, whose update gate is the attention, and AUGRU, whose update gate the
    attention scales.
    """

    rnn: AGRUCell | AUGRUCell

    def forward(
        self,
        input: PackedSequence,
        att_scores: PackedSequence,
        hidden_output: Tensor | None = None,
    ) -> PackedSequence:
        """States after all steps from packed interests ``[clicks, E]`` and their packed attention
        ``[clicks]``.
        """
        sizes = input.batch_sizes.tolist()
        return input._replace(data=torch.cat(self._states(input.data, att_scores.data, sizes)))

    def padded(self, inputs: Tensor, attention: Tensor) -> Tensor:
        """States ``[B, H, E]`` after all positions of inputs ``[B, H, E]``.

        ``attention`` is ``[B, H]``. What follows a sequence does not change the states before.
        """
        batch, positions, _ = inputs.shape
        flat = inputs.transpose(0, 1).flatten(0, 1)
        scores = attention.transpose(0, 1).flatten()
        return torch.stack(self._states(flat, scores, [batch] * positions), dim=1)

    def _states(self, inputs: Tensor, scores: Tensor, sizes: list[int]) -> list[Tensor]:
        """States after each step of inputs ``[clicks, E]`` with attention ``[clicks]``."""
        attention = scores.unsqueeze(1).split(sizes)
        scaled = isinstance(self.rnn, AUGRUCell)

        def combine(hidden: Tensor, update: Tensor, candidate: Tensor, number: int) -> Tensor:
            update = attention[number] * update if scaled else attention[number]
            return torch.lerp(hidden, candidate, update.to(hidden.dtype))

        weights = (self.rnn.weight_ih, self.rnn.weight_hh, self.rnn.bias_ih, self.rnn.bias_hh)
        return states_of(inputs, sizes, weights, combine)
