"""``sr_weight``: Eq. 11 for any model, by mixed labels, with a teacher that learns beside it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import SMALL, SMALL_GENCI, item_codes, stop_after, tiny_rows, write_dataset
from safetensors.torch import load_file

from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.model.registry import get_model, known_models
from recbole_genci.model.teacher import TEACHERS
from recbole_genci.quick_start import resume, run
from recbole_genci.training.regularisation import Regularised, make_teacher


@pytest.fixture
def keys(tmp_path):
    return write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40)) | {"sr_weight": 0.7}


def made(name, keys, dropout=0.0):
    small = SMALL.get(name, {}) | {"dropout_prob": dropout, "sr_teacher_dropout_prob": dropout}
    config = Config(name, "tiny", config_dict=keys | small, compared_models=["GenCI"])
    part = create_dataset(config).build()[0]
    part = part.view(config, item_codes(part.item_num))
    torch.manual_seed(0)
    model = get_model(name)(config, part)
    return config, model, make_teacher(config, part), part[torch.arange(64)]


def test_loss_and_gradients_are_those_of_equations_11_and_12(keys):
    config, model, teacher, batch = made("DeepFM", keys)
    regularised = Regularised(model, teacher, "label", 0.7)
    mixed, base = regularised.calculate_loss(batch)
    (mixed * 1.7 + base).backward()
    gradients = [p.grad.clone() for p in regularised.parameters()]
    regularised.zero_grad()
    logits, of_teacher, label = model(batch), teacher(batch), batch["label"]
    ctr = F.binary_cross_entropy_with_logits(logits, label)
    sr = F.binary_cross_entropy_with_logits(logits, torch.sigmoid(of_teacher).detach())
    own = F.binary_cross_entropy_with_logits(of_teacher, label)
    torch.testing.assert_close(mixed * 1.7, ctr + 0.7 * sr)
    torch.testing.assert_close(base, own)
    (ctr + 0.7 * sr + own).backward()
    for one, parameter in zip(gradients, regularised.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, atol=1e-6, rtol=1e-5)
    assert torch.equal(batch["label"], label)  # the caller's batch keeps its labels


def test_every_model_learns_from_mixed_labels(keys):
    for name in known_models():
        config, model, teacher, batch = made(name, keys)
        if config.model_class.regularises_itself:
            assert teacher is None
            continue
        losses = Regularised(model, teacher, "label", 0.7).calculate_loss(batch)
        plain = model.calculate_loss(batch)
        assert len(losses) == 1 + (len(plain) if isinstance(plain, tuple) else 1), name
        assert all(torch.isfinite(loss) for loss in losses), name
        model.zero_grad()
        sum(losses).backward()
        assert any(p.grad is not None and p.grad.any() for p in teacher.parameters()), name


def test_no_teacher_without_the_key_nor_for_a_model_of_its_own(keys):
    assert made("LR", keys | {"sr_weight": 0})[2] is None
    assert made("GenCI", keys | SMALL_GENCI)[2] is None


@pytest.mark.parametrize("name", [pytest.param("DeepFM", marks=pytest.mark.slow), "DIN"])
def test_a_stopped_run_goes_on_with_its_teacher(name, keys, monkeypatch):
    keys |= {"epochs": 4, "stopping_step": 9, "weight_average": 0.3}
    whole = run(name, "tiny", config_dict=keys)[0]
    plain = run(name, "tiny", config_dict=keys | {"sr_weight": 0})[0]
    assert whole["best_valid"] != plain["best_valid"]
    with monkeypatch.context() as patched:
        stop_after(1, patched)
        with pytest.raises(KeyboardInterrupt):
            run(name, "tiny", config_dict=keys)
    folder = sorted(Path("saved").iterdir(), key=lambda path: path.stat().st_ctime)[-1]
    resumed = resume(folder)
    assert resumed["test"] == whole["test"] and resumed["best_epoch"] == whole["best_epoch"]
    one, other = (
        load_file(Path(each["folder"]) / "model.safetensors") for each in (whole, resumed)
    )
    assert set(one) == set(load_file(Path(plain["folder"]) / "model.safetensors"))
    assert all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("teacher", TEACHERS)
def test_each_teacher_is_the_model_of_its_name_with_its_defaults(teacher, keys):
    own = Config(teacher, "tiny", config_dict={"data_path": ".", "recipe": "paper"})
    form = TEACHERS[teacher][1]
    assert {key: own[key] for key in form} == form
    config, _, made_, batch = made("LR", keys | {"sr_teacher": teacher})
    assert made_(batch).shape == (64,) and made_(batch).min() < 0  # logits
    sizes = {"mlp_hidden_size": [256, 256, 256], "dropout_prob": 0.0}
    same = Config(teacher, "tiny", config_dict=keys | sizes)
    part = create_dataset(same).build()[0].view(same)
    torch.manual_seed(0)
    alone = get_model(teacher)(same, part).eval()
    alone.load_state_dict(made_.state_dict())
    assert torch.equal(alone.predict(batch), torch.sigmoid(made_.eval()(batch)))
    assert torch.equal(alone.predict(batch), made_.predict(batch))
    loss = made_.calculate_loss(batch), alone.calculate_loss(batch)
    torch.testing.assert_close(*loss)


@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize("base", ["joint", "pretrained"])
def test_genci_learns_from_each_teacher(teacher, base, keys):
    more = SMALL_GENCI | {"sr_teacher": teacher, "sr_base": base}
    result = run("GenCI", "tiny", config_dict=keys | more)[0]
    weights = load_file(Path(result.folder, "model.safetensors"))
    assert any(name.startswith("teacher.") for name in weights)
    other = run("GenCI", "tiny", config_dict=keys | more | {"sr_teacher": "DeepFM"})[0]
    assert (result.test == other.test) == (teacher == "DeepFM")


def test_another_teacher_is_refused():
    with pytest.raises(ValueError, match="sr_teacher: 'LR' is not one of DeepFM, DCNV2, PNN"):
        Config("GenCI", "ml-100k", config_dict={"sr_teacher": "LR"})
