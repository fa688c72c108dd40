"""SFG by hand, against its formulas as loops over pairs, and against the models that it makes
generative.
"""

import numpy as np
import pytest
import torch
from conftest import make_model
from recbole.model.layers import BaseFactorizationMachine
from references import embedded, linear, perceptron, randomise, weights

from recbole_genci.model.baselines.sfg import (
    FeatureGenerator,
    GenerativeCrossLayer,
    generated_pairs,
)


def generated_by_definition(generator, fields):
    """What each field generates, ``[F, d]``: a matrix of its own over all fields, ReLU, scale."""
    matrix, size = weights(generator.linear)["weight"], fields.shape[1]
    result = np.zeros_like(fields)
    for i in range(len(fields)):
        for j, field in enumerate(fields):
            result[i] += matrix[i * size : (i + 1) * size, j * size : (j + 1) * size] @ field
    result = generator.scale * np.maximum(result, 0)
    return result + fields if generator.residual else result


def logit_by_definition(model, fields, first_order):
    deep = perceptron(model.mlp, fields.reshape(-1))
    if model.base == "deepfm":
        generated = generated_by_definition(model.generator, fields)
        pairs = sum(
            generated[i] @ fields[j] for i in range(len(fields)) for j in range(i + 1, len(fields))
        )
        return first_order + pairs + linear(model.predict_layer, deep)[0]
    crossed = fields
    for layer in model.cross_network:
        matrix, size = weights(layer.linear)["weight"], fields.shape[1]
        generated, new = generated_by_definition(layer.generator, crossed), np.zeros_like(crossed)
        for i in range(len(fields)):
            for j, field in enumerate(crossed):
                new[i] += generated[i] * (
                    matrix[i * size : (i + 1) * size, j * size : (j + 1) * size] @ field
                )
        crossed = crossed + new
    return linear(model.predict_layer, np.concatenate([crossed.reshape(-1), deep]))[0]


@pytest.mark.parametrize(
    "keys", [{}, {"generation_scale": 0.3, "cross_layer_num": 1}, {"sfg_base": "deepfm"}], ids=str
)
def test_sfg_equals_its_definition(tiny_parts, keys):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("SFG", parts, base | keys)
    randomise(model, scale=0.2)
    model.double()
    batch = train[np.arange(9)]
    logits = model.forward(batch).detach().numpy()
    first_order = np.zeros(9)
    if model.base == "deepfm":
        first_order = model.first_order_linear(batch).squeeze(1).detach().numpy()
    expected = [
        logit_by_definition(model, *row) for row in zip(embedded(model, batch), first_order)
    ]
    np.testing.assert_allclose(logits, expected, rtol=1e-8)
    assert logits.std() > 0.01


def test_two_fields_of_two_dimensions_by_hand():
    generator = FeatureGenerator(4, scale=0.5, residual=False)
    with torch.no_grad():
        generator.linear.weight.copy_(
            torch.tensor([[1.0, 0, 0, 1], [0, 1, -1, 0], [0, 0, 0, 0], [2, 0, 0, 0]])
        )
    fields = torch.tensor([[[1.0, 2], [3, 4]]])
    generated = generator(fields.flatten(1)).view_as(fields)
    # W x = [1 + 4, 2 - 3, 0, 2], ReLU = [5, 0, 0, 2], halved; only field 0 generates a later one:
    # <[2.5, 0], [3, 4]> = 7.5.
    assert generated.tolist() == [[[2.5, 0], [0, 1]]]
    assert generated_pairs(generated, fields).tolist() == [[7.5]]


def test_generating_itself_gives_the_factorization_machine_back():
    fields = torch.randn(5, 7, 4)
    torch.testing.assert_close(
        generated_pairs(fields, fields), BaseFactorizationMachine()(fields), atol=1e-5, rtol=1e-5
    )


def test_over_deepfm_an_identity_generator_gives_recboles_deepfm_back(tiny_parts):
    parts, base = tiny_parts
    model, (train, _, _) = make_model(
        "SFG", parts, base | {"sfg_base": "deepfm", "generation_scale": 1}
    )
    deepfm, _ = make_model("DeepFM", parts, base, seed=1)
    own = {
        name.replace("deep_predict_layer", "predict_layer").replace(
            "mlp_layers.mlp_layers", "mlp.mlp_layers"
        ): tensor
        for name, tensor in deepfm.state_dict().items()
    }
    missing = model.load_state_dict(own, strict=False)
    assert missing.missing_keys == ["generator.linear.weight"] and not missing.unexpected_keys
    with torch.no_grad():
        for each in (model, deepfm):  # ReLU is the identity where embeddings are positive
            each.token_embedding_table.embedding.weight.abs_()
            each.token_seq_embedding_table[0].weight.abs_()
        model.generator.linear.weight.copy_(torch.eye(len(model.generator.linear.weight)))
    batch = train[np.arange(50)]
    torch.testing.assert_close(model.forward(batch), deepfm.forward(batch))


def test_a_cross_layer_that_generates_nothing_is_recboles_dcnv2_layer(tiny_parts):
    parts, base = tiny_parts
    dcnv2, _ = make_model("DCNV2", parts, base | {"cross_layer_num": 1, "structure": "parallel"})
    size = dcnv2.in_feature_num
    layer = GenerativeCrossLayer(size, scale=0.0, dropout=0.0)
    with torch.no_grad():
        layer.linear.weight.copy_(dcnv2.cross_layer_w[0])
    fields = torch.randn(6, size)
    torch.testing.assert_close(layer(fields), dcnv2.cross_network(fields), atol=1e-4, rtol=1e-4)
