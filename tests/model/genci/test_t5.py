"""Parity of the small T5 with transformers' T5Stack, and what its shortcuts must not change."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention, T5LayerNorm, T5Stack

from recbole_genci.model.genci import numerics, t5
from recbole_genci.model.genci.memory import Memory


def reference(is_decoder, layers, heads, width=32, hidden=48):
    config = T5Config(
        vocab_size=8,
        d_model=width,
        d_kv=width // heads,
        d_ff=hidden,
        num_layers=layers,
        num_heads=heads,
        dropout_rate=0.0,
        is_decoder=is_decoder,
        use_cache=False,
        is_encoder_decoder=False,
    )
    config._attn_implementation = "eager"
    stack = T5Stack(config).double().eval()
    for module in stack.modules():
        if isinstance(
            module, T5LayerNorm
        ):  # theirs takes the mean square in float32 even of doubles
            module.forward = partial(
                F.rms_norm, normalized_shape=(width,), weight=module.weight, eps=1e-6
            )
    with torch.no_grad():
        for name, parameter in stack.named_parameters():
            spread = 0.3 if "SelfAttention.q" in name or "EncDecAttention.q" in name else 0.5
            parameter.copy_(torch.randn_like(parameter) * spread + ("layer_norm" in name))
    return stack


def copy_attention(ours, theirs):
    for name in "qkvo":
        getattr(ours, name).weight.copy_(getattr(theirs, name).weight)


@torch.no_grad()
def copy_stack(ours, theirs):
    ours.position_bias.weight.copy_(
        theirs.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    )
    ours.final_norm.weight.copy_(theirs.final_layer_norm.weight)
    for layer, block in zip(ours.layers, theirs.block, strict=True):
        copy_attention(layer.attention, block.layer[0].SelfAttention)
        layer.attention_norm.weight.copy_(block.layer[0].layer_norm.weight)
        if hasattr(layer, "cross"):
            copy_attention(layer.cross, block.layer[1].EncDecAttention)
            layer.cross_norm.weight.copy_(block.layer[1].layer_norm.weight)
        layer.feed_forward_norm.weight.copy_(block.layer[-1].layer_norm.weight)
        layer.feed_forward.wi.weight.copy_(block.layer[-1].DenseReluDense.wi.weight)
        layer.feed_forward.wo.weight.copy_(block.layer[-1].DenseReluDense.wo.weight)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_equal_those_of_transformers_at_every_distance(bidirectional):
    relative = torch.arange(-300, 301)
    expected = T5Attention._relative_position_bucket(relative, bidirectional=bidirectional)
    assert torch.equal(t5.relative_position_bucket(relative, bidirectional=bidirectional), expected)


@pytest.mark.parametrize("layers, heads", [(1, 1), (3, 2), (2, 4)])
def test_encoder_equals_transformers_with_padding_forward_and_backward(layers, heads):
    torch.manual_seed(layers)
    theirs = reference(False, layers, heads)
    ours = t5.T5Encoder(32, layers, heads, 48, 0.0, 60).double()
    copy_stack(ours, theirs)
    x = torch.randn(5, 60, 32, dtype=torch.float64)
    mask = torch.arange(60) < torch.tensor([60, 1, 17, 42, 59])[:, None]
    expected = theirs(inputs_embeds=x, attention_mask=mask.long()).last_hidden_state
    actual = ours(x, mask)
    assert (actual - expected)[mask].abs().max() < 1e-5
    probe = torch.randn_like(x) * mask.unsqueeze(-1)
    (actual * probe).sum().backward()
    (expected * probe).sum().backward()
    table = theirs.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    assert table.grad.abs().max() > 1e-3
    close = {"atol": 1e-9, "rtol": 1e-7}
    torch.testing.assert_close(ours.position_bias.weight.grad, table.grad, **close)
    for layer, block in zip(ours.layers, theirs.block, strict=True):
        for name in "qkvo":
            expected_grad = getattr(block.layer[0].SelfAttention, name).weight.grad
            torch.testing.assert_close(
                getattr(layer.attention, name).weight.grad, expected_grad, **close
            )
        gain, expected_gain = layer.attention_norm.weight, block.layer[0].layer_norm.weight
        torch.testing.assert_close(gain.grad, expected_gain.grad, **close)


@pytest.mark.parametrize("layers, heads", [(1, 1), (3, 2), (2, 4)])
def test_decoder_equals_transformers_and_its_step_by_step_form(layers, heads):
    torch.manual_seed(layers)
    theirs = reference(True, layers, heads)
    ours = t5.T5Decoder(32, layers, heads, 48, 0.0, 6).double()
    copy_stack(ours, theirs)
    x, memory = (
        torch.randn(4, 6, 32, dtype=torch.float64),
        torch.randn(4, 9, 32, dtype=torch.float64),
    )
    mask = torch.arange(9) < torch.tensor([9, 1, 4, 7])[:, None]
    expected = theirs(
        inputs_embeds=x, encoder_hidden_states=memory, encoder_attention_mask=mask.long()
    ).last_hidden_state
    actual, _ = ours(x, Memory.of(memory, mask))
    assert (actual - expected).abs().max() < 1e-5
    past, steps = None, []
    for position in range(6):
        step, past = ours(x[:, position : position + 1], Memory.of(memory, mask), past)
        steps.append(step)
    assert (torch.cat(steps, 1) - expected).abs().max() < 1e-5


def test_float32_stays_within_1e5_of_transformers():
    torch.manual_seed(0)
    theirs = reference(False, 2, 2).float()
    for module in theirs.modules():
        if isinstance(module, T5LayerNorm):
            del module.forward
    ours = t5.T5Encoder(32, 2, 2, 48, 0.0, 50)
    copy_stack(ours, theirs)
    with torch.no_grad():  # the weights of a usual model, not the large ones of the other tests
        for ours_weight in ours.parameters():
            ours_weight.mul_(0.4)
        for their_weight in theirs.parameters():
            their_weight.mul_(0.4)
    x = torch.randn(8, 50, 32)
    mask = torch.arange(50) < torch.tensor([50, 1, 17, 42, 49, 3, 2, 50])[:, None]
    expected = theirs(inputs_embeds=x, attention_mask=mask.long()).last_hidden_state
    assert (ours(x, mask) - expected)[mask].abs().max() < 1e-5


def test_beams_that_share_a_history_decode_as_if_it_were_repeated():
    torch.manual_seed(0)
    decoder = t5.T5Decoder(16, 2, 2, 32, 0.0, 4)
    x, memory, mask = (
        torch.randn(6, 4, 16),
        torch.randn(2, 5, 16),
        torch.arange(5) < torch.tensor([[5], [2]]),
    )
    shared, _ = decoder(x, Memory.of(memory, mask))
    repeated, _ = decoder(
        x, Memory.of(memory.repeat_interleave(3, 0), mask.repeat_interleave(3, 0))
    )
    torch.testing.assert_close(shared, repeated)


def test_rms_normalize_has_the_right_gradient():
    torch.manual_seed(0)
    x = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(t5.rms_normalize(x), F.rms_norm(x, (6,), eps=1e-6))
    torch.testing.assert_close(t5.rms_normalize(x, 0.5), F.rms_norm(x, (6,), eps=0.5))
    assert torch.autograd.gradcheck(t5.rms_normalize, (x,))


def test_what_a_gpu_computes_equals_what_a_cpu_computes(monkeypatch):
    torch.manual_seed(0)
    encoder, x = t5.T5Encoder(16, 2, 2, 32, 0.0, 8), torch.randn(3, 8, 16)
    found = []
    for on_cpu in (True, False):
        monkeypatch.setattr(numerics, "on_cpu", lambda x, answer=on_cpu: answer)
        encoder.zero_grad()
        states = encoder(x)
        states.square().sum().backward()
        found.append([states, *(parameter.grad for parameter in encoder.parameters())])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("masked", [True, False])
def test_fused_attention_of_long_histories_predicts_what_matrix_products_do(monkeypatch, masked):
    torch.manual_seed(0)
    encoder, x = t5.T5Encoder(16, 2, 2, 32, 0.1, 150).eval(), torch.randn(5, 150, 16)
    mask = torch.arange(150) < torch.tensor([1, 20, 77, 149, 150])[:, None]
    called = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *args, **keys: called.append(1) or fused(*args, **keys),
    )
    found = []
    for positions in (10**9, t5.LONG):
        monkeypatch.setattr(t5, "LONG", positions)
        encoder.zero_grad()
        states = encoder(x, mask if masked else None)[mask]
        states.square().sum().backward()  # a model in evaluation mode has gradients too
        found.append([states, *(parameter.grad for parameter in encoder.parameters())])
        with torch.no_grad():
            found[-1].append(encoder(x, mask if masked else None)[mask])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    assert len(called) == 4
    encoder.train()(x)
    assert len(called) == 4  # it could draw no dropout of ours


def test_dropout_of_a_gpu_keeps_the_residual_and_the_expectation(monkeypatch):
    monkeypatch.setattr(numerics, "on_cpu", lambda x: False)
    torch.manual_seed(0)
    x = torch.ones(200, 1000)
    added = t5.dropout_add(x, x, 0.2, True)
    assert set(added.unique().tolist()) == {1.0, 2.25}
    assert abs(added.mean() - 2) < 0.01
    assert set(t5.dropout(x, 0.2, True).unique().tolist()) == {0.0, 1.25}


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_dropout_keeps_the_right_share_and_the_expectation(p):
    torch.manual_seed(0)
    x = torch.ones(401, 999, requires_grad=True)  # an odd number of elements
    y = t5.dropout(x, p, True)
    y.sum().backward()
    assert abs((y == 0).float().mean().item() - p) < 3e-3
    assert abs(y.mean().item() - 1) < 5e-3
    assert torch.equal(x.grad, y.detach())
    columns = (y.detach() == 0).float().mean(0)  # no position of the 64-bit words is special
    assert (columns - p).abs().max() < 5.5 * math.sqrt(p * (1 - p) / 401)
    assert not torch.equal(t5.dropout(x, p, True), y)
    assert t5.dropout(x, p, False) is x


def test_dropout_add_is_the_sum_of_residual_and_dropout():
    x, residual = torch.randn(7, 5), torch.randn(7, 5)
    torch.manual_seed(1)
    expected = residual + t5.dropout(x, 0.2, True)
    torch.manual_seed(1)
    torch.testing.assert_close(t5.dropout_add(residual, x, 0.2, True), expected)
    assert torch.equal(t5.dropout_add(residual, x, 0.2, False), residual + x)


def test_attention_is_not_saturated_at_the_start():
    torch.manual_seed(0)
    encoder = t5.T5Encoder(64, 2, 2, 128, 0.0, 50)
    attention = encoder.layers[0].attention
    x = t5.rms_normalize(torch.randn(20, 50, 64))
    heads = [
        (linear.weight.view(2, 32, 64) @ x.unsqueeze(1).mT).mT
        for linear in (attention.q, attention.k)
    ]
    scores = heads[0] @ heads[1].mT
    assert 0.3 < scores.std() < 2.0
    weights = scores.softmax(-1)
    entropy = -(weights * weights.log()).sum(-1).mean()
    assert entropy > 0.75 * math.log(50)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="num_heads=3 and width=16"):
        t5.T5Encoder(16, 1, 3, 32, 0.0, 4)


def test_buckets_grow_with_the_sequences_that_come(monkeypatch):
    whole = t5.RelativePositionBias(2, 70, bidirectional=True)
    monkeypatch.setattr("recbole_genci.model.genci.t5.FIRST_POSITIONS", 8)
    grown = t5.RelativePositionBias(2, 70, bidirectional=True)
    whole.reset_parameters()
    grown.load_state_dict(whole.state_dict())
    for start, stop in ((0, 5), (3, 9), (0, 30), (69, 70), (0, 12)):
        assert torch.equal(grown(start, stop), whole(start, stop))
    assert len(grown.buckets) == 70
    t5.RelativePositionBias(2, 10**9, bidirectional=True)  # all at once would need 10**18 numbers
