"""``flatten_history``: the clicked items become a field of every context-aware model."""

import numpy as np
import pytest
import torch
from conftest import SMALL, item_codes, make_model, tiny_rows, write_dataset

from recbole_genci import Ranker, load
from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.model.registry import get_model, known_models
from recbole_genci.quick_start import run

HISTORY = "item_id_list"


@pytest.fixture
def keys(tmp_path):
    return write_dataset(tmp_path / "data", tiny_rows()) | {"flatten_history": True}


@pytest.fixture
def parts(keys):
    return create_dataset(Config("GenCI", "tiny", config_dict=keys)).build()


@pytest.mark.parametrize("name", ["LR", "DeepFM", "GenCI", "MIRRN", "DCNV2", "DSSM"])
def test_field_is_the_mean_of_the_clicked_items_embeddings(name, parts, keys):
    model, views = make_model(name, parts, keys)
    batch = views[2][np.arange(12)]
    if name == "LR":
        number = model.first_order_linear.token_seq_field_names.index(HISTORY)
        table = model.first_order_linear.token_seq_embedding_table[number].weight
        before = model.first_order_linear(batch)
    else:
        number = model.token_seq_field_names.index(HISTORY)
        table = model.token_seq_embedding_table[number].weight
        assert len(table) == views[0].item_num
        embedded = model.embed_token_seq_fields(
            [batch[field] for field in model.token_seq_field_names]
        )
        for row in range(12):
            clicks = batch[HISTORY][row]
            clicks = clicks[clicks > 0]
            mean = table[clicks].mean(0) if len(clicks) else torch.zeros(table.shape[1])
            torch.testing.assert_close(embedded[row, number], mean)
        before = model.predict(batch)
    with torch.no_grad():
        table[0] += 5  # padding
    after = model.first_order_linear(batch) if name == "LR" else model.predict(batch)
    torch.testing.assert_close(before, after)
    with torch.no_grad():
        table[1:] += torch.randn_like(table[1:])
    after = model.first_order_linear(batch) if name == "LR" else model.predict(batch)
    assert not torch.allclose(before, after)


def test_genci_reads_the_clicked_items_beside_their_codes_and_so_does_its_teacher(parts, keys):
    model, views = make_model("GenCI", parts, keys)
    batch = views[2][np.arange(12)]
    width = model.mlp.mlp_layers[1].in_features
    assert width - make_model("GenCI", parts, keys | {"flatten_history": False})[0].mlp.mlp_layers[
        1
    ].in_features == (model.embedding_size)
    for part, other in ((model, model.teacher), (model.teacher, model)):
        place = part.token_seq_field_names.index(HISTORY)
        with torch.no_grad():
            before = part(batch), other(batch)
            part.token_seq_embedding_table[place].weight[1:] += 1.0
            assert not torch.allclose(part(batch), before[0])
            torch.testing.assert_close(other(batch), before[1])


def test_the_parts_themselves_and_models_of_the_history_stay_as_they_are(parts, keys):
    for name in ("DIN", "DIEN"):
        config = Config(name, "tiny", config_dict=keys, compared_models=["GenCI"])
        assert HISTORY not in parts[0].view(config).field2type
    config = Config("LR", "tiny", config_dict=keys, compared_models=["GenCI"])
    view = parts[0].view(config)
    assert HISTORY in view.field2type and HISTORY not in parts[0].field2type
    assert HISTORY not in parts[0].field2id_token
    plain = Config(
        "LR", "tiny", config_dict=keys | {"flatten_history": False}, compared_models=["GenCI"]
    )
    assert HISTORY not in parts[0].view(plain)[np.arange(3)].interaction


def test_every_model_trains_a_step_with_it(parts, keys):
    for name in known_models():
        if get_model(name).reads_negatives:
            continue
        config_dict = keys | SMALL.get(name, {})
        config = Config(name, "tiny", config_dict=config_dict, compared_models=["GenCI"])
        view = parts[0].view(config, item_codes(parts[0].item_num))
        model = get_model(name)(config, view)
        losses = model.calculate_loss(view[np.arange(64)])
        total = sum(losses) if isinstance(losses, tuple) else losses
        assert torch.isfinite(total), name


def test_a_run_with_it_is_loaded_and_ranks(keys):
    finished = run("DeepFM", "tiny", config_dict=keys | {"text_encoder": "lsa"})[0]
    saved = load(finished["folder"])
    assert saved.evaluate("test")["auc"] == finished["test"]["auc"]
    ranker = Ranker(saved)
    plain = ranker.recommend(["u0"], k=5)
    other = ranker.recommend(["u0"], k=5, histories={"u0": ["i1", "i2", "i3"]})
    assert list(plain["probability"]) != list(other["probability"])
