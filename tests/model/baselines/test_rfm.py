"""RFM against its formulas, written as loops over fields, heads and dimensions."""

import numpy as np
import pytest
import torch
from conftest import make_model
from references import embedded, layer_norm, linear, randomise, sigmoid, weights

from recbole_genci.model.baselines.rfm import SelfAttentiveRotation


def rotated_by_definition(layer, angles):
    """One row's new angles ``[F, out]``: cos of each difference of angles, gate by gate."""
    own = weights(layer)
    num_fields, size = len(angles), own["query"].shape[2]
    head_size = size // layer.num_heads
    result = np.zeros((num_fields, size))
    for i in range(num_fields):
        query = angles[i] @ own["query"][i]
        for j in range(num_fields):
            key, value = angles[j] @ own["key"][j], angles[j] @ own["value"][j]
            for head in range(layer.num_heads):
                part = slice(head * head_size, (head + 1) * head_size)
                score = 0.0
                for c, weight in enumerate(own["weight"][0]):
                    score += weight * np.cos(query[part][c] - key[part][c])
                result[i, part] += sigmoid(score) * value[part]
        result[i] = layer_norm(layer.norm, result[i] + linear(layer.linear, angles[i]))
    return result


def logit_by_definition(model, fields):
    angles = fields
    for layer in model.rotations:
        angles = rotated_by_definition(layer, angles)
    parts = []
    for function, norm in ((np.cos, "real_norm"), (np.sin, "imaginary_norm")):
        part = [function(angle) for angle in angles]
        if model.projection is not None:
            part = [
                layer_norm(getattr(model, norm), p + function(linear(model.projection, field)))
                for p, field in zip(part, fields)
            ]
        part = np.concatenate(part)
        for layer in model.amplifications:
            part = np.maximum(linear(layer.linear, part), 0).reshape(-1, layer.group_size)
            part = np.concatenate([layer_norm(getattr(layer, norm), group) for group in part])
        parts.append(linear(model.predict_layer, part))
    return (parts[0] + parts[1])[0]


@pytest.mark.parametrize(
    "keys",
    [{}, {"first_order_residual": False, "rotation_heads": 1, "rotation_layers": 1}],
    ids=str,
)
def test_rfm_equals_its_definition(tiny_parts, keys):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("RFM", parts, base | {"mlp_hidden_size": [16, 8]} | keys)
    randomise(model)
    model.double()
    batch = train[np.arange(9)]
    logits = model.forward(batch).detach().numpy()
    expected = [logit_by_definition(model, fields) for fields in embedded(model, batch)]
    np.testing.assert_allclose(logits, expected, rtol=1e-8)
    assert logits.std() > 0.01


def test_a_field_gathers_the_values_of_the_fields_it_attends_to():
    layer = SelfAttentiveRotation(num_fields=3, in_size=2, out_size=2, num_heads=1, dropout=0.0)
    layer.reset_parameters()
    angles = torch.randn(1, 3, 2)
    before = layer.gates(angles)
    assert before.shape == (1, 1, 3, 3)
    with torch.no_grad():
        layer.query[0] += 1.0  # only what field 0 asks for changes
    after = layer.gates(angles)
    assert torch.equal(after[0, 0, 1:], before[0, 0, 1:]) and not torch.allclose(
        after[0, 0, 0], before[0, 0, 0]
    )


def test_turning_queries_and_keys_by_one_angle_changes_nothing():
    layer = SelfAttentiveRotation(
        num_fields=4, in_size=3, out_size=6, num_heads=2, dropout=0.0
    ).double()
    layer.reset_parameters()
    angles = torch.cat(
        [torch.randn(5, 4, 2), torch.ones(5, 4, 1)], dim=-1
    ).double()  # a constant input, so a bias
    before = layer.gates(angles)
    with torch.no_grad():
        for matrices in (layer.query, layer.key):
            matrices[:, 2] += 0.7
    torch.testing.assert_close(layer.gates(angles), before)


def test_parts_share_the_linear_maps_but_not_the_norms(tiny_parts):
    parts, base = tiny_parts
    model, _ = make_model("RFM", parts, base)
    names = set(dict(model.amplifications[0].named_parameters()))
    assert names == {
        "linear.weight",
        "linear.bias",
        "real_norm.weight",
        "real_norm.bias",
        "imaginary_norm.weight",
        "imaginary_norm.bias",
    }
