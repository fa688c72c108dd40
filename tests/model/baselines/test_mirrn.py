"""MIRRN against its formulas for one row at a time, retrieval by brute force, and what padding must
never change.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from references import embedded, layer_norm, linear, perceptron, randomise, softmax, weights

from recbole_genci.model.baselines.mirrn_layers import (
    FourierLayer,
    TargetAttention,
    masked_mean,
    retrieve,
)


def chosen_by_definition(query, history, hyperplanes, k):
    """The k nearest positions by Hamming distance, of equal ones the latest, by time."""

    def code(vector):
        return vector @ hyperplanes > 0

    distances = [
        (int((code(query) != code(vector)).sum()), -position)
        for position, vector in enumerate(history)
    ]
    return sorted(-position for _, position in sorted(distances)[:k])


def mixed_by_definition(layer, sequence):
    """The product in frequency as a circular convolution over time, block by block, ``[k, D]``."""
    own = weights(layer)["filter"]
    blocks = own[..., 0] + 1j * own[..., 1]
    k, size = sequence.shape
    width = size // layer.num_blocks
    result = np.zeros_like(sequence)
    for n, block in enumerate(blocks):
        block = np.diag(block) if block.ndim == 1 else block
        part = slice(n * width, (n + 1) * width)
        for t in range(k):
            for s in range(k):
                kernel = np.zeros((width, width))
                for f in range(k // 2 + 1):
                    # A real signal has every frequency twice, but the mean and, for even k, the
                    # highest one.
                    count = 1 if f == 0 or 2 * f == k else 2
                    kernel += count * (block * np.exp(2j * np.pi * f * (t - s) / k)).real / k
                result[t, part] += sequence[s, part] @ kernel
    return result


def attended_by_definition(attention, target, memory):
    """Head by head; zeros where there is nothing to attend to."""
    query, heads = linear(attention.query, target), attention.num_heads
    size, result = len(query) // heads, np.zeros(len(query))
    keys, values = (
        [linear(layer, row) for row in memory] for layer in (attention.key, attention.value)
    )
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        if len(memory):
            chance = softmax(np.array([query[part] @ key[part] for key in keys]) / np.sqrt(size))
            result[part] = sum(c * value[part] for c, value in zip(chance, values))
    return linear(attention.output, result)


def logit_by_definition(model, fields, history):
    """One row: its fields ``[F, d]`` and its real history vectors ``[length, D]``, most recent
    last.
    """
    own = weights(model)
    target, length, size = fields[model.item_columns].reshape(-1), len(history), history.shape[1]
    recent = history[-model.local_length :]
    queries = [
        target,
        recent.mean(0) if length else np.zeros(size),
        history.mean(0) if length else np.zeros(size),
    ]
    interests = []
    for query, layer in zip(queries, model.fourier_layers):
        positions = chosen_by_definition(query, history, own["hyperplanes"], model.k)
        chosen = np.zeros((model.k, size))  # fewer than k clicks leave zeros
        for place, position in enumerate(positions):
            chosen[place] = (
                history[position] + 0.02 * own["position_embedding.weight"][length - position]
            )
        mixed = mixed_by_definition(layer, chosen)
        refined = [
            layer_norm(layer.norm, mixed[place] + chosen[place]) for place in range(len(positions))
        ]
        interests.append(np.mean(refined, axis=0) if refined else np.zeros(size))
    parts = [
        fields.reshape(-1),
        attended_by_definition(model.long_attention, target, np.array(interests)),
    ]
    if model.short_attention is not None:
        parts.append(attended_by_definition(model.short_attention, target, history))
    return linear(model.predict_layer, perceptron(model.mlp, np.concatenate(parts)))[0]


KEYS = [
    {},
    {"fourier_mixing": "diagonal", "retrieval_topk": 4},
    {"short_interest": True, "retrieval_topk": 9},
    {"local_length": 1, "retrieval_topk": 1, "fourier_blocks": 1},
]


@pytest.mark.parametrize("keys", KEYS, ids=str)
def test_mirrn_equals_its_definition(tiny_parts, keys):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("MIRRN", parts, base | keys)
    randomise(model)
    model.double()
    batch = train[np.arange(60)]
    assert set(batch["item_length"].tolist()) >= {0, 1, 2, 3, 5}
    logits = model.forward(batch).detach().numpy()
    table = model.embed_items(torch.arange(train.item_num)).detach().numpy()
    for row, fields in enumerate(embedded(model, batch)):
        history = table[batch["item_id_list"][row, : batch["item_length"][row]].numpy()]
        np.testing.assert_allclose(
            logits[row], logit_by_definition(model, fields, history), rtol=1e-7, atol=1e-9
        )
    assert logits.std() > 0.01


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 9))
def test_retrieval_is_brute_force_hamming_search(seed, k, bits):
    draw = np.random.default_rng(seed)
    history = np.sign(draw.standard_normal((5, 8, bits)))
    query = np.sign(draw.standard_normal((5, bits)))
    length = draw.integers(0, 9, 5)
    mask = np.arange(8) < length[:, None]
    positions, real = retrieve(
        torch.from_numpy(query), torch.from_numpy(history), torch.from_numpy(mask), k
    )
    for row in range(5):
        expected = chosen_by_definition(query[row], history[row, : length[row]], np.eye(bits), k)
        assert positions[row][real[row]].tolist() == expected
        assert real[row].tolist() == [True] * len(expected) + [False] * (k - len(expected))


@pytest.mark.parametrize("mixing", ["block", "diagonal"])
@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_the_fourier_mix_is_a_circular_convolution(mixing, k):
    layer = FourierLayer(8, num_blocks=2, mixing=mixing, dropout=0.0)
    torch.nn.init.normal_(layer.filter)
    layer.double()
    sequence = torch.randn(3, k, 8, dtype=torch.float64)
    for row, actual in zip(sequence.numpy(), layer(sequence).detach().numpy()):
        expected = [
            layer_norm(layer.norm, vector) for vector in mixed_by_definition(layer, row) + row
        ]
        np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-10)


def test_a_diagonal_block_mixes_as_the_diagonal_variant():
    block, diagonal = FourierLayer(6, 2, "block", 0.0), FourierLayer(6, 2, "diagonal", 0.0)
    with torch.no_grad():
        block.filter.copy_(torch.diag_embed(diagonal.filter.movedim(-1, 0)).movedim(0, -1))
    sequence = torch.randn(2, 5, 6)
    torch.testing.assert_close(block(sequence), diagonal(sequence))


@pytest.mark.parametrize("keys", KEYS, ids=str)
def test_padding_never_changes_a_prediction(tiny_parts, keys):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("MIRRN", parts, base | keys)
    rows = np.arange(80)
    before = model.predict(train[rows])
    wider = train[rows]
    wider.interaction["item_id_list"] = F.pad(wider["item_id_list"], (0, 4), value=3)
    torch.testing.assert_close(model.predict(wider), before, atol=1e-6, rtol=0)
    other = train[rows]
    padding = torch.arange(5) >= other["item_length"].unsqueeze(1)
    other.interaction["item_id_list"] = other["item_id_list"].masked_fill(padding, 2)
    torch.testing.assert_close(model.predict(other), before, atol=1e-6, rtol=0)
    for row in rows[:20]:
        narrow = train[rows[row : row + 1]]
        narrow.interaction["item_id_list"] = narrow["item_id_list"][:, : narrow["item_length"][0]]
        torch.testing.assert_close(model.predict(narrow), before[row : row + 1], atol=1e-6, rtol=0)


def test_history_items_are_embedded_by_the_tables_of_the_target(tiny_parts):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("MIRRN", parts, base)
    batch = train[np.arange(40)]
    fields = model.concat_embed_input_fields(batch)
    assert len(model.item_columns) == 3  # item_id, year, genre
    torch.testing.assert_close(
        model.embed_items(batch["item_id"]), fields[:, model.item_columns].flatten(1)
    )
    assert (
        not any("feature_" in name for name in model.state_dict())
        and "hyperplanes" in model.state_dict()
    )


def test_attention_and_mean_over_nothing_are_zero():
    attention = TargetAttention(4, 8, 2, 0.0)
    memory = torch.randn(2, 3, 4, requires_grad=True)
    mask = torch.tensor([[False] * 3, [True, False, True]])
    out = attention(torch.randn(2, 4), memory, mask)
    out.sum().backward()
    assert (out[0] == 0).all() and (out[1] != 0).any() and torch.isfinite(memory.grad).all()
    assert (masked_mean(memory, mask)[0] == 0).all()
    torch.testing.assert_close(masked_mean(memory, mask)[1], (memory[1, 0] + memory[1, 2]) / 2)


def test_the_order_of_the_history_matters(tiny_parts):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("MIRRN", parts, base)
    batch = train[np.arange(len(train))]
    full = batch["item_length"] == 5
    turned = train[np.arange(len(train))]
    turned.interaction["item_id_list"] = torch.where(
        full.unsqueeze(1), batch["item_id_list"].flip(1), batch["item_id_list"]
    )
    assert not torch.allclose(model.predict(turned)[full], model.predict(batch)[full], atol=1e-7)
