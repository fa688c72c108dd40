"""DIN and DIEN are RecBole's: the same scores, losses and gradients from the same weights, but for
what they mend.
"""

import numpy as np
import pytest
import torch
from conftest import make_model, tiny_rows, write_dataset
from recbole.model.sequential_recommender import DIEN, DIN
from recbole.utils import init_seed
from torch import nn

from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.model.layers import click_attention
from recbole_genci.model.layers.dice import Dice

RECBOLE = {"DIN": DIN, "DIEN": DIEN}
CASES = [("DIN", {}), *(("DIEN", {"gru_type": kind}) for kind in ("GRU", "AIGRU", "AGRU", "AUGRU"))]


@pytest.fixture
def ours(tmp_path):
    """Makes a model of ours, and all training rows as it reads them."""

    def make(name, more=None):
        keys = write_dataset(tmp_path, tiny_rows()) | (more or {})
        model, views = make_model(
            name, create_dataset(Config(name, "tiny", config_dict=keys)).build(), keys
        )
        return model, views[0][np.arange(len(views[0]))]

    return make


@pytest.fixture
def pair(tmp_path):
    """Makes a model of ours, RecBole's with the same weights, and all training rows as both read
    them.
    """

    def make(name, more=None):
        keys = write_dataset(tmp_path, tiny_rows()) | (more or {})
        if name == "DIN":
            keys["use_user_features"] = False  # RecBole's has none
        config = Config(name, "tiny", config_dict=keys)
        model, views = make_model(name, create_dataset(config).build(), keys)
        reference = RECBOLE[name](config, views[0]).eval()
        reference.load_state_dict(model.state_dict())
        return model, reference, views[0][np.arange(len(views[0]))]

    return make


@pytest.mark.parametrize(("name", "more"), CASES)
@pytest.mark.parametrize("group", [pytest.param(1, marks=pytest.mark.slow), 7, 8192])
def test_scores_losses_and_gradients_are_recboles(pair, monkeypatch, name, more, group):
    monkeypatch.setattr(click_attention, "GROUP", group)
    model, reference, batch = pair(name, more | {"dropout_prob": 0.3})
    assert set(batch["item_length"].tolist()) >= {1, 2, 5}
    assert torch.allclose(model.predict(batch), reference.predict(batch), atol=1e-6)
    losses = []
    for each in (model.train(), reference.train()):
        torch.manual_seed(0)
        losses.append(each.calculate_loss(batch))
        losses[-1].backward()
    assert torch.allclose(*losses, atol=1e-6)
    expected = dict(reference.named_parameters())
    for parameter_name, parameter in model.named_parameters():
        wanted = expected[parameter_name].grad
        assert (parameter.grad is None) == (wanted is None), parameter_name
        assert wanted is None or torch.allclose(parameter.grad, wanted, rtol=1e-4, atol=2e-6), (
            parameter_name
        )
    assert sum(p.grad.abs().sum() for p in model.parameters() if p.grad is not None) > 0


def test_dien_trains_on_a_batch_without_two_clicks_in_any_history(pair):
    model, reference, batch = pair("DIEN")
    short = batch[batch["item_length"] <= 1]
    assert torch.isnan(reference.train().calculate_loss(short))  # what is mended
    loss = model.train().calculate_loss(short)
    loss.backward()
    assert torch.isfinite(loss) and all(
        torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None
    )


@pytest.mark.parametrize("name", RECBOLE)
def test_what_lies_in_the_padding_reaches_nothing(pair, name):
    model, _, batch = pair(name)
    before = model.predict(batch)
    padding = torch.arange(batch["item_id_list"].shape[1]) >= batch["item_length"].clamp(
        min=1
    ).unsqueeze(1)
    assert padding.any()
    batch["item_id_list"][padding] = 7
    assert torch.equal(model.predict(batch), before)


FORMS = [
    {"attention_mlp_hidden_size": [6, 5], "attention_activation": "dice"},
    {"attention_mlp_hidden_size": [7]},
    {"attention_activation": "relu"},
]


@pytest.mark.parametrize("name", RECBOLE)
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_another_attention_mlp_is_that_of_recboles_layer_with_it(ours, name, form, training):
    model, batch = ours(name, form)
    attention = model.attention if name == "DIN" else model.interest_evolution.attention_layer
    widths = form.get("attention_mlp_hidden_size", [16])
    linear = [each for each in attention.att_mlp_layers.modules() if isinstance(each, nn.Linear)]
    assert [each.out_features for each in linear] == widths
    assert attention.dense.in_features == widths[-1]
    assert [each.in_features for each in linear[1:]] == widths[:-1]
    kind = {"dice": Dice, "relu": nn.ReLU}.get(form.get("attention_activation"), nn.Sigmoid)
    assert sum(type(each) is kind for each in attention.att_mlp_layers.modules()) == len(widths)
    # One click of one row at a time, by the formula of the layer.
    batch = batch[:20]
    length = batch["item_length"].clamp(min=1)
    torch.manual_seed(0)
    width = linear[0].in_features // 4
    query, keys = torch.randn(20, width), torch.randn(20, 5, width)
    clicks = [(row, at) for row in range(20) for at in range(int(length[row]))]
    pairs = [
        torch.cat([query[r], keys[r, t], query[r] - keys[r, t], query[r] * keys[r, t]])
        for r, t in clicks
    ]
    attention.train(training)
    state = {key: each.clone() for key, each in attention.state_dict().items()}
    scores = attention.dense(attention.att_mlp_layers(torch.stack(pairs))).squeeze(1)
    attention.load_state_dict(state)
    expected = torch.full((20, 5), float("-inf") if attention.softmax_stag else 0.0)
    for (row, at), score in zip(clicks, scores):
        expected[row, at] = score
    expected = expected / width**0.5
    if attention.softmax_stag:
        expected = expected.softmax(1)
    expected = expected.unsqueeze(1)
    expected = expected if attention.return_seq_weight else expected @ keys
    torch.testing.assert_close(attention(query, keys, length), expected)


@pytest.mark.parametrize("users", [True, False])
def test_without_the_product_the_mlp_reads_the_rest_alone(ours, users):
    form = {"use_user_features": users, "interest_product": False}
    model, batch = ours("DIN", form)
    whole, _ = ours("DIN", {"use_user_features": users})
    width = model.embedding_size * model.embedding_layer.num_feature_field["item"]
    assert whole.dnn_list[0] - model.dnn_list[0] == width
    # The whole model with weights of 0 for the product, which stands last, gives the same scores.
    weights, first = model.state_dict(), "dnn_mlp_layers.mlp_layers.1.weight"
    weights[first] = torch.cat([weights[first], torch.zeros(16, width)], dim=1)
    whole.load_state_dict(weights)
    torch.testing.assert_close(model.predict(batch), whole.predict(batch))


def test_dice_normalises_over_all_clicks_of_a_training_batch(ours, monkeypatch):
    results = []
    for group in (7, 8192):
        monkeypatch.setattr(click_attention, "GROUP", group)
        model, batch = ours("DIN", FORMS[0])
        results.append(model.train().calculate_loss(batch))
    assert torch.equal(*results)


@pytest.mark.parametrize("name", RECBOLE)
def test_the_default_attention_is_drawn_bit_for_bit_as_recboles(tmp_path, name):
    keys = write_dataset(tmp_path, tiny_rows()) | {"mlp_hidden_size": [16, 8]}
    keys |= {"use_user_features": False} if name == "DIN" else {}
    config = Config(name, "tiny", config_dict=keys)
    model, views = make_model(name, create_dataset(config).build(), keys, seed=3)
    init_seed(3, True)
    reference = RECBOLE[name](config, views[0])
    expected = reference.state_dict()
    assert model.state_dict().keys() == expected.keys()
    for key, weight in model.state_dict().items():
        assert torch.equal(weight, expected[key]), key
