"""A layer of ours takes the place of RecBole's and torch's: the same weights, nothing drawn."""

import pytest
import torch
from torch import nn

from recbole_genci.model.layers.packed_gru import PackedGRU


def test_a_mended_layer_holds_what_the_layer_held():
    theirs = nn.GRU(5, 3, batch_first=True).eval()
    theirs.register_buffer("seen", torch.tensor(7))
    calls = []
    theirs.register_forward_pre_hook(lambda *_: calls.append(1))
    before = torch.get_rng_state()
    ours = PackedGRU.from_layer(theirs)
    assert torch.get_rng_state().equal(before)
    assert type(ours) is PackedGRU and type(theirs) is nn.GRU
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters()):
        assert one is other, name
    assert ours.seen is theirs.seen and not ours.training and ours.batch_first
    ours(torch.zeros(2, 4, 5))
    assert calls == [1]


def test_a_layer_of_another_class_is_refused():
    with pytest.raises(TypeError, match="PackedGRU cannot take the place of a Linear"):
        PackedGRU.from_layer(nn.Linear(5, 3))
