"""Shared sequences are read as copies would be; a causal prefix has states of its own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_genci.model.genci import memory
from recbole_genci.model.genci.intent import IntentGenerator
from recbole_genci.model.genci.memory import Memory


@settings(deadline=None, max_examples=60)
@given(
    sequences=st.integers(1, 5),
    readers=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    queries=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_readers_side_by_side_read_what_copies_would(sequences, readers, queries, seed):
    source = torch.Generator().manual_seed(seed)
    sequence = torch.tensor(readers) % sequences  # some sequences may have no reader
    states = torch.randn(sequences, 6, 4, generator=source, dtype=torch.float64)
    length = torch.randint(1, 7, (len(sequence), 1), generator=source)
    mask = torch.arange(6) < length
    seeking = torch.randn(len(sequence), queries, 4, generator=source, dtype=torch.float64)
    found, grads = [], []
    for shared in (Memory.of(states, mask, sequence), None):
        own, asked = states.clone().requires_grad_(), seeking.clone().requires_grad_()
        of = (own, mask, sequence) if shared else (own[sequence], mask)
        context = Memory.of(*of).read(asked, 0.0, False)
        context.square().sum().backward()
        found.append(context.detach())
        grads.append((own.grad, asked.grad))
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(grads[0], grads[1])
    for row, (which, seen) in enumerate(zip(sequence.tolist(), length.flatten().tolist())):
        keys = states[which, :seen]
        expected = (seeking[row] @ keys.T).softmax(-1) @ keys
        torch.testing.assert_close(found[0][row], expected)


def test_few_places_stay_empty_and_few_copies_are_made():
    sequence = torch.arange(40).repeat_interleave(torch.tensor([1, 1, 16, 2] * 10))
    owner, slots, place = memory._side_by_side(sequence, 40)
    assert len(owner) <= 2 * 40 and len(slots) < 2 * len(sequence)
    assert torch.equal(slots[place], torch.arange(200)) and torch.equal(
        owner[place // (len(slots) // len(owner))], sequence
    )


@pytest.mark.parametrize("tokens", ["item", "code"])
@pytest.mark.parametrize("on_cpu", [True, False])
def test_a_prefix_of_a_causal_encoding_is_the_prefix_encoded_alone(tokens, on_cpu, monkeypatch):
    monkeypatch.setattr(memory, "on_cpu", lambda x: on_cpu)
    torch.manual_seed(0)
    sizes = [4, 5, 3]
    model = IntentGenerator(
        sizes, width=16, num_heads=2, max_history=9, history_tokens=tokens, causal=True
    ).eval()
    codes = torch.stack([torch.randint(size, (3, 9)) for size in sizes], -1)
    whole = model.encode(codes, torch.tensor([0, 6, 9]))
    segment, length = torch.tensor([2, 1, 2, 0, 1, 2]), torch.tensor([9, 6, 1, 0, 3, 4])
    part = model.prefixes(whole, segment, length)
    targets = torch.stack([torch.randint(size, (6,)) for size in sizes], -1)
    losses = model.ntp_loss(part, torch.arange(6), targets, reduction="none")
    for row, (which, items) in enumerate(zip(segment.tolist(), length.tolist(), strict=True)):
        alone = model.encode(codes[which : which + 1, : max(items, 1)], length[row : row + 1])
        torch.testing.assert_close(part.last[row], alone.last[0])
        states = part.states[which][part.mask[row]]
        torch.testing.assert_close(states, alone.states[0])
        loss = model.ntp_loss(alone, torch.tensor([0]), targets[row : row + 1], reduction="none")
        torch.testing.assert_close(losses[row], loss[0], atol=1e-5, rtol=1e-5)


def test_a_bidirectional_encoding_is_not_its_prefixes():
    torch.manual_seed(0)
    model = IntentGenerator([4, 5], width=16, max_history=9).eval()
    codes = torch.stack([torch.randint(size, (1, 9)) for size in (4, 5)], -1)
    whole = model.encode(codes, torch.tensor([9])).states[0, :4]
    assert (whole - model.encode(codes[:, :4], torch.tensor([4])).states[0]).abs().max() > 1e-3
