"""The check against FuxiCTR: the rows and settings that it gives FuxiCTR are those of our models.

FuxiCTR itself is not needed here, but for the last test, which runs where the environment variable
FUXICTR names a checkout.
"""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_model, tiny_rows, with_context, write_dataset

from recbole_genci.config import Config, known_keys
from recbole_genci.data import create_dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODELS = ["DeepFM", "DCNV2", "DIN", "AFN"]


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fuxictr_check
    import fuxictr_models
    import fuxictr_rows

    yield fuxictr_check, fuxictr_models, fuxictr_rows
    for name in ("fuxictr_check", "fuxictr_models", "fuxictr_rows"):
        sys.modules.pop(name, None)


@pytest.fixture
def made(tmp_path):
    """Makes a model and the parts as it reads them."""

    def make(name, more=None):
        keys = write_dataset(tmp_path, tiny_rows()) | (more or {})
        parts = create_dataset(Config(name, "tiny", config_dict=keys)).build()
        return make_model(name, parts, keys)

    return make


def known_to(models, keys, folder):
    """A file of those of ``keys`` that the models have; others are GenCI's."""
    known = known_keys(models, "tiny")
    file = folder / "keys.yaml"
    file.write_text(json.dumps({key: value for key, value in keys.items() if key in known}))
    return file


def fields_by_hand(folder, part, tables):
    """The embedding of each feature by FuxiCTR's rules: ``{name: [R, d] or [R, H, d]}``."""
    written = json.loads((folder / "feature_map.json").read_text())
    columns = np.load(folder / f"{part}.npz")
    found = {}
    for entry in written["features"]:
        ((name, feature),) = entry.items()
        ids = torch.from_numpy(columns[name]).long()
        vectors = tables[name.removesuffix("_history")][ids]
        assert len(tables[name.removesuffix("_history")]) == feature["vocab_size"]
        encoder = feature.get("feature_encoder")
        if encoder is not None:
            assert ids.shape[1] == feature["max_len"] and feature["padding_idx"] == 0
            if isinstance(encoder, list):  # a mean for each click
                ids = ids.unflatten(1, (5, -1))
                vectors = vectors.unflatten(1, (5, -1))
                assert encoder[0] == f"nn.Unflatten(1, (5, {ids.shape[2]}))"
            real = (ids != 0).unsqueeze(-1)
            vectors = (vectors * real).sum(-2) / real.sum(-2).clamp(min=1)
        found[name] = vectors
    return found


@pytest.mark.parametrize("more", [{}, {"flatten_history": True}], ids=["fields", "history too"])
def test_the_rows_written_are_those_that_a_context_aware_model_reads(scripts, made, more, tmp_path):
    _, models, rows = scripts
    model, parts = made("DeepFM", more)
    rows.write_rows(tmp_path / "rows", model, parts)
    for name, part in zip(("train", "valid", "test"), parts):
        batch = part[torch.arange(len(part))]
        found = fields_by_hand(tmp_path / "rows", name, models._tables(model))
        expected = model.concat_embed_input_fields(batch)  # [R, F, d]
        torch.testing.assert_close(torch.stack(list(found.values()), 1), expected)
        labels = np.load(tmp_path / f"rows/{name}.npz")["label"]
        assert labels.tolist() == batch["label"].tolist()


def test_the_rows_written_are_those_that_din_reads(scripts, made, tmp_path):
    _, models, rows = scripts
    model, parts = made("DIN")
    features = rows.write_rows(tmp_path / "rows", model, parts)
    assert features["item_id"]["share_embedding"] == "item_id_history"
    for name, part in zip(("train", "valid", "test"), parts):
        batch = part[torch.arange(len(part))]
        found = fields_by_hand(tmp_path / "rows", name, models._tables(model.embedding_layer))
        clicked = batch["item_id_list"]
        assert np.array_equal(
            np.load(tmp_path / f"rows/{name}.npz")["item_id_history"], clicked.numpy()
        )
        sparse, _ = model.embedding_layer(
            batch["user_id"], torch.cat([clicked, batch["item_id"].unsqueeze(1)], 1)
        )
        users = torch.stack([found[field] for field in ("user_id", "age")], 1)
        torch.testing.assert_close(users, sparse["user"])
        names = ("item_id", "year", "genre")
        target = torch.stack([found[field] for field in names], 1)
        torch.testing.assert_close(target, sparse["item"][:, -1])
        clicks = torch.stack([found[f"{field}_history"] for field in names], 2)
        real = clicked != 0
        torch.testing.assert_close(clicks[real], sparse["item"][:, :-1][real])


def test_settings_are_those_of_our_model(scripts, made, tmp_path):
    _, models, _ = scripts
    model, parts = made("DIN", {"interest_product": False, "weight_decay": "3/rows"})
    config = parts[0].config
    found = models.settings("DIN", config, model, 50, tmp_path)
    assert found["early_stop_patience"] == config["stopping_step"] + 1
    assert found["embedding_regularizer"] == found["net_regularizer"] == 3 / 50
    assert found["din_sequence_field"] == [("item_id_history", "year_history", "genre_history")]
    width = 3 * config["embedding_size"]
    assert found["attention_output_activation"](torch.ones(2))[0] == pytest.approx(width**-0.5)
    for key, value in {
        "interest_product": True,
        "attention_activation": "dice",
        "weight_average": 0.5,
        "weight_decay_of": "vectors",
        "weight_decay": "3/rows/rows_per_vector",
        "learner": "sgd",
        "valid_metric": "LogLoss",
        "precision": "bf16",
        "nproc": 2,
    }.items():
        config[key], before = value, config[key]
        with pytest.raises(ValueError, match=f"^{key}: "):
            models.settings("DIN", config, model, 50, tmp_path)
        config[key] = before


def test_numbers_are_refused(scripts, tmp_path):
    keys = with_context(tmp_path, write_dataset(tmp_path, tiny_rows()))
    parts = create_dataset(Config("DeepFM", "tiny", config_dict=keys)).build()
    model, _ = make_model("DeepFM", parts, keys)
    with pytest.raises(ValueError, match="numerical_features: price is a number"):
        scripts[2].field_names(model)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--fuxictr=here"], "--dataset is missing"),
        (["--dataset=tiny"], "--fuxictr is missing"),
        (["--dataset=tiny", "--fuxictr=nowhere"], "nowhere/model_zoo/DeepFM/.* is missing"),
        (["--dataset=tiny", "--fuxictr=here", "--models=LR"], "models: 'LR' is not one of"),
        (["--dataset=tiny", "--fuxictr=here", "--seeds=0"], "seeds: "),
        (["--dataset=tiny", "--fuxictr=here", "--change=little"], "change: 'little' is no number"),
        (["--dataset=tiny", "--fuxictr=here", "--change=nan"], "change: 'nan' is no number"),
        (["--dataset=tiny", "--fuxictr=here", "--models=DIN,DIN"], "names a model twice"),
        (["--dataset=tiny", "--fuxictr=here", "--models=DIN"], "No module named 'never_there'"),
    ],
)
def test_a_wrong_command_is_one_sentence(scripts, tmp_path, capsys, words, sentence):
    for name in ("DeepFM/DeepFM_torch/src/DeepFM", "DIN/src/DIN"):
        file = tmp_path / f"here/model_zoo/{name}.py"
        file.parent.mkdir(parents=True)
        file.write_text("import never_there\n" if name.endswith("DIN") else "class DeepFM: pass\n")
    assert scripts[0].main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search(sentence, said), said


def test_what_fuxictr_lacks_is_refused_before_any_training(scripts, tmp_path, capsys):
    file = tmp_path / "here/model_zoo/DeepFM/DeepFM_torch/src/DeepFM.py"
    file.parent.mkdir(parents=True)
    file.write_text("class DeepFM: pass\n")
    config = known_to(["DeepFM"], write_dataset(tmp_path / "data", tiny_rows()), tmp_path)
    words = ["--dataset=tiny", "--fuxictr=here", "--models=DeepFM", "--weight_average=0.5"]
    assert scripts[0].main([*words, f"--config_files={config}"]) == 2
    assert "weight_average: FuxiCTR has none as ours; set it to 0." in capsys.readouterr().err
    assert not Path("benchmarks").exists()


def test_the_table_has_paired_differences(scripts):
    check, _, _ = scripts
    lines = [
        {"model": "DIN", "seed": seed, "scores apart": 2e-7}
        | {f"{metric} ours": own for metric in ("AUC", "LogLoss")}
        | {f"{metric} same start": own + 0.0001 for metric in ("AUC", "LogLoss")}
        | {f"{metric} own start": own - seed / 1000 for metric in ("AUC", "LogLoss")}
        for seed, own in ((1, 0.5), (2, 0.6))
    ]
    assert (
        check.table(lines)
        .splitlines()[-1]
        .startswith("| DIN | 2 | 0.5500 ± 0.0707 | +0.0001 ± 0.0000 | -0.0015 ± 0.0007 |")
    )


@pytest.mark.slow
@pytest.mark.skipif("FUXICTR" not in os.environ, reason="FUXICTR names no checkout of FuxiCTR")
def test_fuxictrs_models_give_our_scores_and_learn_alike(scripts, tmp_path):
    pytest.importorskip("fuxictr")
    check, _, _ = scripts
    keys = write_dataset(tmp_path, tiny_rows(rows_per_user=40)) | {"epochs": 2}
    config = known_to(MODELS, keys, tmp_path)
    words = ["--dataset=tiny", f"--fuxictr={os.environ['FUXICTR']}", f"--config_files={config}"]
    assert check.main([*words, "--seeds=1", f"--output={tmp_path / 'out'}"]) == 0
    found = pd.read_csv(tmp_path / "out/runs.csv").set_index("model")
    assert list(found.index) == MODELS
    assert (found["scores apart"] < 1e-9).all()
    for metric in ("AUC", "LogLoss"):
        apart = found[f"{metric} same start"] - found[f"{metric} ours"]
        assert apart.abs().max() < 1e-9
