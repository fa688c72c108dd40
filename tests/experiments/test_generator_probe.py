"""Whether the generator tells more about a label than another model: the probe's columns."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL_GENCI, tiny_rows, write_dataset

from recbole_genci import load, run
from recbole_genci.model.genci.genci import GenCI


@pytest.fixture
def probe(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import generator_probe

    yield generator_probe
    sys.modules.pop("generator_probe", None)


class Sure(torch.nn.Module):
    def predict(self, batch):
        return (batch["label"] > 0).float()


def test_the_generator_and_the_clicks_stand_beside_a_model(probe, tmp_path, capsys):
    keys = write_dataset(tmp_path, tiny_rows(num_users=30, rows_per_user=20)) | {"epochs": 1}
    genci = run("GenCI", "tiny", config_dict=keys | SMALL_GENCI)[0].folder
    other = run("DeepFM", "tiny", config_dict=keys)[0].folder
    found = probe.rows(load(genci), load(other), "test")
    one = load(genci)
    assert isinstance(one.model, GenCI)
    batch = next(iter(one.loader("test")))[0]
    encoded, history = one.model.encode_histories(batch)
    codes = one.model.codes[batch["item_id"]]
    with torch.no_grad():
        losses = one.model.intent.ntp_loss(encoded, history, codes, reduction="none")
    sizes = np.log(one.model.intent.level_sizes)
    np.testing.assert_allclose(
        found.columns["generator"][: len(codes)], sizes - losses.numpy(), rtol=1e-4, atol=1e-5
    )
    train, test = one.parts[0].inter_feat, one.parts[2].inter_feat
    clicks = [
        ((train["item_id"] == item) & (train["label"] > 0)).sum().item() for item in test["item_id"]
    ]
    np.testing.assert_allclose(np.expm1(found.columns["clicks"][:, 0]), clicks, rtol=1e-6)
    probability = load(other).predict("test")[0].numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-found.columns["model"][:, 0])), probability)
    sure = replace(one, model=Sure())  # single precision makes 1 of a high probability
    assert np.isfinite(probe.rows(one, sure, "test").columns["model"]).all()
    capsys.readouterr()
    probe.main(genci, other)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| the generator alone",
        "| the item's clicks alone",
        "| the model",
        "| the model and the clicks",
        "| the model and the generator",
        "| all three",
    ]
    with pytest.raises(ValueError, match="has no generator of next items; give GenCI's"):
        probe.main(other, genci)
    one.model.mu = 0  # its generator then knows nothing
    with pytest.raises(ValueError, match="give GenCI's, with mu > 0"):
        probe.item_log_probs(one, "test")
    fewer = keys | {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}}}
    with pytest.raises(ValueError, match="have different rows; give runs of the same"):
        probe.main(genci, run("DeepFM", "tiny", config_dict=fewer)[0].folder)
