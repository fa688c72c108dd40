"""xDeepFM, DCNV2 and AutoInt: what ours have that RecBole's have not, and that the rest is
RecBole's.
"""

import numpy as np
import pytest
import torch
from conftest import make_model, tiny_rows, write_dataset
from recbole.model.context_aware_recommender.autoint import AutoInt as RecBoleAutoInt
from recbole.model.context_aware_recommender.dcnv2 import DCNV2 as RecBoleDCNV2
from recbole.model.context_aware_recommender.xdeepfm import xDeepFM as RecBolexDeepFM

from recbole_genci import run
from recbole_genci.config import Config
from recbole_genci.plan import prepare


def rows(parts):
    return parts[0][np.arange(64)]


def test_xdeepfms_deep_network_lowers_scores_too(tiny_parts):
    parts, base = tiny_parts
    signs = []
    for seed in range(5):
        model, views = make_model("xDeepFM", parts, base, seed=seed)
        with torch.no_grad():
            deep = model.mlp_layers(model.concat_embed_input_fields(rows(views)).flatten(1))
        assert deep.shape == (64, 1) and deep.std() > 0
        signs += deep.sign().flatten().tolist()
    assert -1 in signs and 1 in signs


@pytest.mark.parametrize(
    "keys", [{"cin_layer_size": [8, 6, 5]}, {"direct": True, "cin_layer_size": [5, 3]}]
)
def test_xdeepfm_is_recboles_but_for_the_relu(tiny_parts, keys):
    parts, base = tiny_parts
    model, views = make_model("xDeepFM", parts, base | keys)
    reference = RecBolexDeepFM(Config("xDeepFM", "tiny", config_dict=base | keys), views[0]).eval()
    reference.load_state_dict(model.state_dict())
    batch = rows(views)
    assert not torch.allclose(model.forward(batch), reference.forward(batch))
    reference.mlp_layers.mlp_layers[-1] = torch.nn.Identity()
    torch.testing.assert_close(model.forward(batch), reference.forward(batch))
    # Penalties of weights are weight decay's, with which every model is searched; RecBole's is off.
    assert torch.equal(
        model.calculate_loss(batch), model.loss(model.forward(batch), batch["label"])
    )


@pytest.mark.parametrize(
    "keys", [{}, {"mixed": True, "expert_num": 3, "low_rank": 8}], ids=["full", "mixed"]
)
def test_dcnv2s_cross_layers_start_as_xaviers(tiny_parts, keys):
    parts, base = tiny_parts
    model, views = make_model("DCNV2", parts, base | keys)
    size = model.in_feature_num
    if keys:
        expected = {"u": size + 8, "v": size + 8, "c": 16}
        layers = [
            (fans, layer)
            for name, fans in expected.items()
            for layer in getattr(model, f"cross_layer_{name}")
        ]
        found = [(fans, expert) for fans, layer in layers for expert in layer]
        assert len(found) == 3 * 3 * model.cross_layer_num
    else:
        found = [(2 * size, weight) for weight in model.cross_layer_w]
        assert len(found) == model.cross_layer_num
    for fans, weight in found:
        error = (
            5 / (2 * weight.numel()) ** 0.5
        )  # five standard errors of an estimated standard deviation
        assert weight.std().item() == pytest.approx((2 / fans) ** 0.5, rel=error)
    reference = RecBoleDCNV2(Config("DCNV2", "tiny", config_dict=base | keys), views[0]).eval()
    assert model.forward(rows(views)).std() > 0
    reference.load_state_dict(model.state_dict())
    assert torch.equal(model.forward(rows(views)), reference.forward(rows(views)))


def test_autoints_layers_are_eq_7_of_its_paper(tiny_parts):
    parts, base = tiny_parts
    model, views = make_model("AutoInt", parts, base | {"has_residual": True, "num_heads": 2})
    embeddings = model.concat_embed_input_fields(rows(views)).detach()
    fields, (heads, width) = model.att_embedding(embeddings), (2, model.attention_size // 2)
    for attention, residual in zip(model.self_attns, model.residuals):
        query, key, value = (
            (fields @ weight.T + bias)
            .unflatten(-1, (heads, width))
            .transpose(1, 2)  # [B, heads, F, width]
            for weight, bias in zip(
                attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
            )
        )
        weights = (query @ key.transpose(-1, -2) / width**0.5).softmax(-1)
        attended = attention.out_proj((weights @ value).transpose(1, 2).flatten(-2))
        fields = (attended + fields @ residual.weight.T + residual.bias).relu()
    expected = model.attn_fc(fields.flatten(1)) + model.deep_predict_layer(
        model.mlp_layers(embeddings.flatten(1))
    )
    torch.testing.assert_close(model.autoint_layer(embeddings), expected)


def test_a_residual_in_each_layer_keeps_autoints_fields_apart(tiny_parts):
    """Attention averages fields: without residuals inside, three layers leave little that tells one
    field from another.
    """
    parts, base = tiny_parts

    def spread(model, batch):
        seen = []
        model.attn_fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        model.autoint_layer(model.concat_embed_input_fields(batch))
        fields = seen[0].unflatten(1, (model.num_feature_field, -1))  # [B, F, A]
        return (fields.std(1).mean() / fields.abs().mean()).item()

    ours, views = make_model("AutoInt", parts, base | {"has_residual": True})
    without, _ = make_model("AutoInt", parts, base | {"has_residual": False})
    assert spread(ours, rows(views)) > 5 * spread(without, rows(views))


def test_autoint_without_residual_is_recboles(tiny_parts):
    parts, base = tiny_parts
    keys = base | {"has_residual": False}
    model, views = make_model("AutoInt", parts, keys)
    reference = RecBoleAutoInt(Config("AutoInt", "tiny", config_dict=keys), views[0]).eval()
    reference.load_state_dict(model.state_dict())
    assert torch.equal(model.forward(rows(views)), reference.forward(rows(views)))


@pytest.mark.parametrize("name", ["xDeepFM", "DCNV2", "AutoInt"])
def test_the_loss_reaches_every_parameter(tiny_parts, name):
    parts, base = tiny_parts
    model, views = make_model(name, parts, base)
    model.train().calculate_loss(rows(views)).backward()
    without = [
        part for part, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    # RecBole gives every context-aware model a first-order part, which its DCNV2 does not read.
    assert [
        part for part in without if name != "DCNV2" or not part.startswith("first_order_linear")
    ] == []


@pytest.mark.parametrize("model", ["FFM", "FwFM"])
@pytest.mark.parametrize(
    "fields", [{}, {0: 5}, {0: ["user_id"]}, {1: ["item_id"]}, {"a": ["item_id"]}, {0: [1]}]
)
def test_fields_that_do_not_group_the_features_are_refused(model, fields, tmp_path):
    keys = {k: v for k, v in write_dataset(tmp_path, tiny_rows()).items() if k != "mlp_hidden_size"}
    with pytest.raises(ValueError, match="^fields: .* name each feature once; the features are"):
        prepare(model, "tiny", config_dict=keys | {"fields": fields})


@pytest.mark.parametrize("model", ["FFM", "FwFM"])
def test_fields_that_group_the_features_are_taken(model, tmp_path):
    keys = {k: v for k, v in write_dataset(tmp_path, tiny_rows()).items() if k != "mlp_hidden_size"}
    fields = {1: ["user_id", "age"], 0: ["item_id", "year", "genre"]}
    (trained,) = run(model, "tiny", config_dict=keys | {"fields": fields})
    assert trained["test"]["auc"] is not None


def test_layers_of_the_cin_that_would_be_empty_or_change_are_said(tmp_path, caplog):
    keys = write_dataset(tmp_path, tiny_rows())
    with pytest.raises(ValueError, match=r"^cin_layer_size: \[4, 1\] has a layer of one unit"):
        prepare("xDeepFM", "tiny", config_dict=keys | {"cin_layer_size": [4, 1]})
    prepare("xDeepFM", "tiny", config_dict=keys | {"cin_layer_size": [4, 1], "direct": True})
    assert "cin_layer_size" not in caplog.text
    prepare("xDeepFM", "tiny", config_dict=keys | {"cin_layer_size": [4, 3]})
    assert "so that the last layer has 2 units, not 3" in caplog.text
