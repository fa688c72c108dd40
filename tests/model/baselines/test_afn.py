"""AFN against products of powers in NumPy, and AFN+ against its two branches."""

import numpy as np
import torch
from conftest import make_model
from references import embedded, linear, perceptron, randomise, weights

from recbole_genci.model.baselines.afn import LogarithmicTransformation


def normalise(norm, x, channel):
    """BatchNorm in evaluation mode, for one channel."""
    own = weights(norm)
    scale = own["weight"][channel] / np.sqrt(own["running_var"][channel] + norm.eps)
    return (x - own["running_mean"][channel]) * scale + own["bias"][channel]


def crossed_by_definition(layer, fields):
    """One row's cross features ``[K, d]``: per neuron and dimension, the product over fields of |e|
    to a power.
    """
    orders = weights(layer.orders)["weight"]
    result = np.zeros((orders.shape[0], fields.shape[1]))
    for k, powers in enumerate(orders):
        for c in range(fields.shape[1]):
            product = 1.0
            for i, power in enumerate(powers):
                product *= (
                    np.exp(normalise(layer.log_norm, np.log(max(abs(fields[i, c]), 1e-5)), i))
                    ** power
                )
            result[k, c] = normalise(layer.exp_norm, product, k)
    return result


def trained(name, tiny_parts, **keys):
    """A model with random weights and batch norms that remember something; a batch."""
    parts, base = tiny_parts
    model, (train, _, _) = make_model(name, parts, base | keys)
    randomise(model)
    model.train().calculate_loss(train[np.arange(100)])
    return model.double().eval(), train[np.arange(9)]


def test_a_logarithmic_neuron_is_a_product_of_powers():
    layer = LogarithmicTransformation(num_fields=3, num_neurons=2).double().eval()
    for norm in (layer.log_norm, layer.exp_norm):
        norm.eps = 0.0  # freshly made, the norms then do nothing
    with torch.no_grad():
        layer.orders.weight.copy_(torch.tensor([[1.0, 2.0, 0.0], [-1.0, 0.5, 3.0]]))
    fields = torch.tensor([[[2.0, -1.0], [3.0, 4.0], [-1.0, 2.0]]], dtype=torch.float64)
    expected = torch.tensor([[[2.0 * 9, 1.0 * 16], [3**0.5 / 2, 2.0 * 8]]], dtype=torch.float64)
    torch.testing.assert_close(layer(fields), expected)


def test_zeros_give_finite_values_and_gradients():
    layer = LogarithmicTransformation(num_fields=3, num_neurons=2)
    fields = torch.zeros(4, 3, 5, requires_grad=True)
    out = layer(fields)
    out.sum().backward()
    assert torch.isfinite(out).all() and torch.isfinite(fields.grad).all()


def test_afn_equals_its_definition(tiny_parts):
    model, batch = trained("AFN", tiny_parts)
    logits = model.forward(batch).detach().numpy()
    for row, fields in enumerate(embedded(model, batch)):
        crossed = crossed_by_definition(model.transformation, fields)
        expected = linear(model.predict_layer, perceptron(model.mlp, crossed.reshape(-1)))
        np.testing.assert_allclose(logits[row], expected[0], rtol=1e-8)
    assert logits.std() > 0.01


def test_afn_plus_joins_a_dnn_with_its_own_embeddings(tiny_parts):
    model, batch = trained("AFN+", tiny_parts)
    logits = model.forward(batch).detach().numpy()
    own = embedded(model.dnn_embedding, batch)
    assert not np.allclose(own, embedded(model, batch))
    for row, fields in enumerate(embedded(model, batch)):
        crossed = crossed_by_definition(model.transformation, fields)
        afn = linear(model.predict_layer, perceptron(model.mlp, crossed.reshape(-1)))
        dnn = linear(model.dnn_predict_layer, perceptron(model.dnn, own[row].reshape(-1)))
        np.testing.assert_allclose(
            logits[row], linear(model.ensemble, np.concatenate([afn, dnn]))[0], rtol=1e-8
        )


def test_afn_has_no_branch_and_orders_start_small(tiny_parts):
    parts, base = tiny_parts
    model, _ = make_model("AFN", parts, base | {"logarithmic_neurons": 400})
    assert model.dnn is None and not any(
        "dnn" in name or "first_order" in name for name in model.state_dict()
    )
    assert abs(model.transformation.orders.weight.std() - 0.1) < 0.01
