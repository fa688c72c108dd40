"""DIN and DIEN are RecBole's: the same scores, losses and gradients from the same weights, but for
what they mend.
"""

import numpy as np
import pytest
import torch
from conftest import make_model, tiny_rows, write_dataset

from recbole_genci import compat
from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.model.layers import click_attention

with compat.anomaly_detection_as_it_was():
    from recbole.model.sequential_recommender import DIEN, DIN

RECBOLE = {"DIN": DIN, "DIEN": DIEN}
CASES = [("DIN", {}), *(("DIEN", {"gru_type": kind}) for kind in ("GRU", "AIGRU", "AGRU", "AUGRU"))]


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
@pytest.mark.parametrize("group", [1, 7, 8192])
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
