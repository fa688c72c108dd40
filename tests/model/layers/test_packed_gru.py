"""The recurrences against torch's GRU and RecBole's DynamicRNN."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.model.sequential_recommender.dien import DynamicRNN
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from recbole_genci.model.layers.packed_gru import PackedAttentionGRU, PackedGRU

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=9)


def _pack(rows, lengths, is_sorted):
    lengths = torch.tensor(sorted(lengths, reverse=True) if is_sorted else lengths)
    return pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=is_sorted)


def _same_gradients(ours, theirs):
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters()):
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-5), name


@settings(max_examples=25)
@given(LENGTHS, st.booleans())
def test_gru(lengths, is_sorted):
    torch.manual_seed(0)
    theirs = nn.GRU(5, 3, batch_first=True)
    ours = PackedGRU.from_layer(copy.deepcopy(theirs))
    packed = _pack(torch.randn(len(lengths), 7, 5), lengths, is_sorted)
    outcomes = [network(packed) for network in (ours, theirs)]
    for (states, last), network in zip(outcomes, (ours, theirs)):
        (states.data.square().sum() + last.sin().sum()).backward()
        assert last.shape == (1, len(lengths), 3), network
    (ours_states, ours_last), (their_states, their_last) = outcomes
    assert torch.allclose(ours_states.data, their_states.data, atol=1e-6)
    assert torch.allclose(ours_last, their_last, atol=1e-6)
    assert ours_states.batch_sizes.equal(their_states.batch_sizes)
    _same_gradients(ours, theirs)


@pytest.mark.parametrize("kind", ["AGRU", "AUGRU"])
@settings(max_examples=20)
@given(lengths=LENGTHS)
def test_attention_gru(kind, lengths):
    torch.manual_seed(0)
    theirs = DynamicRNN(5, 3, gru=kind)
    ours = PackedAttentionGRU.from_layer(copy.deepcopy(theirs))
    packed = _pack(torch.randn(len(lengths), 7, 5), lengths, False)
    attention = _pack(torch.rand(len(lengths), 7), lengths, False)
    outcomes = [network(packed, attention).data for network in (ours, theirs)]
    for states in outcomes:
        states.square().sum().backward()
    assert torch.allclose(*outcomes, atol=1e-6)
    _same_gradients(ours, theirs)


def test_what_is_not_packed_is_left_to_torch():
    theirs = nn.GRU(5, 3, batch_first=True)
    ours = PackedGRU.from_layer(copy.deepcopy(theirs))
    rows = torch.randn(4, 7, 5)
    assert torch.equal(ours(rows)[0], theirs(rows)[0])
