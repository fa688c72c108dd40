"""What holds for all of the plugin's baselines: AFN, AFN+, RFM, MIRRN and SFG over both of its
bases.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import SMALL, make_model, tiny_rows, write_dataset
from safetensors.torch import load_file

from recbole_genci.config import Config, known_keys
from recbole_genci.data import create_dataset
from recbole_genci.model.registry import ALIASES, get_model, known_models
from recbole_genci.quick_start import run
from recbole_genci.serving.saved_run import load

VARIANTS = [
    ("AFN", {}),
    ("AFN+", {}),
    ("RFM", {}),
    ("RFM", {"first_order_residual": False}),
    ("MIRRN", {}),
    ("MIRRN", {"fourier_mixing": "diagonal", "short_interest": True}),
    ("SFG", {}),
    ("SFG", {"sfg_base": "deepfm"}),
]
variants = pytest.mark.parametrize(
    ("name", "keys"), VARIANTS, ids=[f"{name}-{keys or ''}" for name, keys in VARIANTS]
)


@variants
def test_batch_order_and_batch_size_never_change_a_prediction(tiny_parts, name, keys):
    parts, base = tiny_parts
    model, (_, _, test) = make_model(name, parts, base | keys)
    rows = np.arange(len(test))
    with torch.no_grad():
        together = model.predict(test[rows])
        order = np.random.default_rng(0).permutation(rows)
        torch.testing.assert_close(model.predict(test[order]), together[order], atol=1e-5, rtol=0)
        alone = torch.cat([model.predict(test[rows[i : i + 1]]) for i in rows])
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)
    assert together.shape == (len(rows),) and together.std() > 1e-4


@variants
def test_loss_is_the_cross_entropy_of_the_logits_and_reaches_every_parameter(
    tiny_parts, name, keys
):
    parts, base = tiny_parts
    model, (train, _, _) = make_model(name, parts, base | keys)
    batch = train[np.arange(len(train))]
    logits = model.forward(batch)
    assert ((logits < 0) | (logits > 1)).any() and torch.equal(
        model.predict(batch), torch.sigmoid(logits)
    )
    torch.testing.assert_close(
        model.calculate_loss(batch), F.binary_cross_entropy(torch.sigmoid(logits), batch["label"])
    )
    model.train().calculate_loss(batch).backward()
    without = [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert without == []


@variants
def test_weights_alone_bring_a_model_back(tiny_parts, name, keys):
    parts, base = tiny_parts
    model, (train, _, test) = make_model(name, parts, base | keys)
    model.train().calculate_loss(train[np.arange(64)])  # moves what batch norms remember
    model.eval()
    other, _ = make_model(name, parts, base | keys, seed=1)
    batch = test[np.arange(len(test))]
    assert not torch.allclose(other.predict(batch), model.predict(batch))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.predict(batch), model.predict(batch))


@variants
def test_rows_of_a_user_without_history_and_a_batch_of_one_row_train_and_score(
    tmp_path, name, keys
):
    base = write_dataset(
        tmp_path, tiny_rows(num_users=1, num_items=3, rows_per_user=30), num_items=3, num_users=1
    )
    parts = create_dataset(Config(name, "tiny", config_dict=base)).build()
    model, (train, _, _) = make_model(name, parts, base | keys)
    model.train().calculate_loss(train[np.arange(1)]).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    assert torch.isfinite(model.eval().predict(train[np.arange(len(train))])).all()


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("AFN", {"logarithmic_neurons": 0}),
        ("AFN", {"dnn_hidden_size": 256}),
        ("AFN+", {"dnn_dropout_prob": 1.0}),
        ("AFN", {"ensemble_dnn": "yes"}),
        ("RFM", {"rotation_heads": 3}),
        ("RFM", {"group_size": 48}),
        ("RFM", {"rotation_layers": True}),
        ("RFM", {"rotation_dropout": -0.1}),
        ("RFM", {"first_order_residual": 1}),
        ("MIRRN", {"hash_bits": 0}),
        ("MIRRN", {"retrieval_topk": 2.5}),
        ("MIRRN", {"fourier_blocks": 5}),
        ("MIRRN", {"fourier_mixing": "full"}),
        ("MIRRN", {"target_attention_heads": 3}),
        ("MIRRN", {"fourier_dropout": "high"}),
        ("SFG", {"sfg_base": "fm"}),
        ("SFG", {"cross_layer_num": 0}),
        ("GE4Rec", {"generation_scale": 0}),
        ("SFG", {"cross_dropout": 1}),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_by_their_key(name, keys):
    with pytest.raises(ValueError, match=f"^{next(iter(keys))}: "):
        get_model(name).check_settings(Config(name, "ml-100k", config_dict=keys))


@pytest.mark.parametrize("name", ["AFN", "AFN+", "RFM", "MIRRN", "SFG", "GE4Rec"])
def test_shipped_settings_are_the_papers_and_are_listed(name):
    config = Config(name, "ml-100k")
    get_model(name).check_settings(config)
    assert config["embedding_size"] == 16 and config["mlp_hidden_size"] == [256, 256, 256]
    assert set(SMALL.get(name, {})) <= known_keys([name], "ml-100k")


def test_an_alias_changes_defaults_only():
    assert Config("AFN", "ml-100k")["ensemble_dnn"] is False
    assert (
        Config("AFN+", "ml-100k")["ensemble_dnn"] is True
        and Config("AFN+", "ml-100k")["model"] == "AFN+"
    )
    assert Config("AFN+", "ml-100k", config_dict={"ensemble_dnn": False})["ensemble_dnn"] is False
    assert Config("AFN+", "ml-100k", argv=["--ensemble_dnn=False"])["ensemble_dnn"] is False
    assert get_model("GE4Rec") is get_model("SFG") and set(ALIASES) <= set(known_models())
    with pytest.raises(ValueError, match="'AFN\\+\\+' is not a model.*Did you mean 'AFN"):
        get_model("AFN++")
    with pytest.raises(ValueError, match="'ensemble_dn' is not a key.*Did you mean 'ensemble_dnn'"):
        Config("AFN+", "ml-100k", config_dict={"ensemble_dn": True})


def test_all_baselines_stand_in_one_table_under_the_names_asked_for(tmp_path):
    base = (
        write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40)) | SMALL["RFM"] | SMALL["AFN+"]
    )
    names = ["AFN", "AFN+", "RFM", "MIRRN", "SFG", "GE4Rec"]
    runs = run(names, "tiny", config_dict=base)
    assert [r["model"] for r in runs] == names and len({r["data_fingerprint"] for r in runs}) == 1
    for result in runs:
        folder = Path(result["folder"])
        assert folder.name.startswith(f"{result['model']}-tiny-")
        assert json.loads((folder / "metrics.json").read_text())["model"] == result["model"]
        assert f"model: {result['model']}\n" in (folder / "config.yaml").read_text()
        assert load(folder).evaluate("test") == result["test"]
    assert runs[1]["parameters"] > runs[0]["parameters"] and runs[4]["test"] == runs[5]["test"]
    assert "ensemble.weight" in load_file(Path(runs[1]["folder"]) / "model.safetensors")
    (results,) = (tmp_path / "results").iterdir()
    assert all(f"| {name} |" in (results / "table.md").read_text() for name in names)
