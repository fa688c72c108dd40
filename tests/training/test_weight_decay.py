"""`weight_decay_of`: which parameters weight decay shrinks."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL_GENCI, tiny_rows, write_dataset
from torch import nn

from recbole_genci.config import Config
from recbole_genci.data import create_loaders
from recbole_genci.model.base import ClickModel
from recbole_genci.plan import prepare
from recbole_genci.quick_start import run
from recbole_genci.training.checkpoint import load_training_state, save_training_state
from recbole_genci.training.trainer import CTRTrainer
from recbole_genci.training.weight_decay import (
    check_decay,
    decay_groups,
    decay_in,
    find_decaying,
)
from recbole_genci.tuning.search import prepare_search
from recbole_genci.tuning.settings import Settings


@pytest.fixture
def keys(tmp_path):
    return write_dataset(tmp_path / "data", tiny_rows()) | {
        "weight_decay": 0.1,
        "learning_rate": 0.01,
    }


def after_a_step_without_gradient(name, keys):
    """Parameters before and after a step in which weight decay alone acts."""
    keys = keys | (SMALL_GENCI if name == "GenCI" else {})
    if name == "LR":
        del keys["mlp_hidden_size"]
    plan = prepare([name], "tiny", config_dict=keys)
    config = plan.configs[name]
    train = create_loaders(config, plan.parts, plan.semantic_ids)[0]
    trainer = CTRTrainer(config, config.model_class(config, train.dataset), Path("run"))
    before = {key: value.detach().clone() for key, value in trainer.model.named_parameters()}
    for parameter in trainer.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    return trainer.model, before


@pytest.mark.parametrize("name", ["GenCI", "DeepFM", "DIN", "DIEN", "MIRRN", "LR"])
def test_embedding_tables_alone_are_decayed(name, keys):
    model, before = after_a_step_without_gradient(name, keys | {"weight_decay_of": "embeddings"})
    tables = {
        f"{path}.weight"
        for path, module in model.named_modules()
        if isinstance(module, nn.Embedding)
    }
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved and moved == {key for key in tables & set(before) if before[key].any()}


@pytest.mark.parametrize("name", ["GenCI", "DeepFM", "LR"])
def test_first_order_weights_are_spared(name, keys):
    model, before = after_a_step_without_gradient(name, keys | {"weight_decay_of": "vectors"})
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert not any("first_order_linear" in key for key in moved)
    assert moved  # LR has tables of vectors too, which it never reads
    assert all(before[key].dim() == 2 and before[key].shape[1] > 1 for key in moved)


def test_all_parameters_are_decayed_by_default_as_recbole_does(keys):
    model, before = after_a_step_without_gradient("GenCI", keys)
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved == {key for key, value in before.items() if value.any()}


class Plain(ClickModel):
    """A model without any table."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, interaction):
        return self.bias + 0 * interaction[self.LABEL]


class InTraining(Plain):
    def calculate_loss(self, interaction):
        assert self.training
        return super().calculate_loss(interaction)


class Counting(Plain):
    """Its loss counts its calls, in a buffer and in an attribute, and draws random numbers."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.seen = []

    def calculate_loss(self, interaction):
        self.steps += 1
        self.seen.append(np.random.rand())
        return super().calculate_loss(interaction)


@pytest.mark.parametrize(
    ("model", "kind", "decaying"),
    [
        ("LR", "vectors", "embeddings"),
        ("LR", "embeddings", "embeddings"),
        ("LR", None, None),
        ("DeepFM", "vectors", "vectors"),
        ("DIEN", "vectors", "vectors"),
        ("GenCI", "vectors", "vectors"),
        (Plain, "vectors", None),
        (Plain, "embeddings", None),
        (Counting, "vectors", None),
        (InTraining, "vectors", "vectors"),  # not known, so nothing is said
    ],
)
def test_what_decays_is_known_before_the_first_step(model, kind, decaying, keys):
    keys = {key: value for key, value in keys.items() if key != "mlp_hidden_size"}
    keys |= SMALL_GENCI if model == "GenCI" else {}
    plan = prepare([model], "tiny", config_dict=keys | {"weight_decay_of": kind})
    (config,) = plan.configs.values()
    train = create_loaders(config, plan.parts, plan.semantic_ids)[0].dataset
    made = config.model_class(config, train).train()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    random, of_numpy = torch.get_rng_state(), np.random.get_state()[2]
    assert find_decaying(made, train[:9], kind).kind == decaying
    assert made.training and torch.equal(random, torch.get_rng_state())
    assert of_numpy == np.random.get_state()[2] and not getattr(made, "seen", [])
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert all(parameter.grad is None for parameter in made.parameters())


@pytest.mark.parametrize(
    ("model", "space", "more", "warned"),
    [
        ("LR", "weight_decay choice [0.1, 0.2]", {}, True),
        ("LR", "weight_decay choice [0.1, 0.2]", {"weight_decay_of": "embeddings"}, False),
        ("LR", "weight_decay choice [0.1, 0.2]", {"sr_weight": 1.0}, False),
        ("LR", "weight_decay choice [0.1]\nweight_decay_of choice ['vectors', None]", {}, False),
        ("LR", "learning_rate choice [0.1, 0.2]", {}, False),
        ("FM", "weight_decay choice [0.1, 0.2]", {}, False),
    ],
)
def test_a_search_of_equal_trials_is_warned_of(model, space, more, warned, keys, caplog):
    for key in ("mlp_hidden_size", "weight_decay"):
        del keys[key]
    Path("space.test").write_text(space + "\n")
    more = {"weight_decay_of": "vectors"} | more
    prepare_search(model, "tiny", "space.test", None, keys | more, (), Settings())
    said = (
        "space.test: trials that differ in weight_decay alone will be equal: weight_decay_of is "
        "vectors, and LR has none; weight_decay_of: embeddings lets its weights decay. Set it, or "
        "take weight_decay out."
    )
    assert (said in caplog.messages) == warned
    assert any("will be equal" in message for message in caplog.messages) == warned


def test_another_value_is_refused():
    with pytest.raises(
        ValueError, match="weight_decay_of: 'tables' is not one of embeddings, vectors"
    ):
        Config("DeepFM", "ml-100k", config_dict={"weight_decay_of": "tables"})


def test_decay_by_rows_is_the_number_divided_by_all_training_rows(keys):
    keys |= {"weight_decay_of": None, "recipe": "paper", "train_batch_size": 4}
    plan = prepare(["DeepFM"], "tiny", config_dict=keys | {"weight_decay": "30/rows"})
    config, rows = plan.configs["DeepFM"], len(plan.parts[0])
    model = config.model_class(config, create_loaders(config, plan.parts)[0].dataset)
    trainer = CTRTrainer(config, model, Path("run"), rows=rows)
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [30 / rows]
    assert config["weight_decay"] == "30/rows"  # as it is saved
    with pytest.raises(ValueError, match="weight_decay: '30/rows' needs training rows"):
        CTRTrainer(config, model, Path("run"))


def test_a_run_by_rows_equals_the_run_with_the_number(keys):
    keys |= {"epochs": 2}
    rows = len(prepare(["DeepFM"], "tiny", config_dict=keys).parts[0])
    by_rows = run("DeepFM", "tiny", config_dict=keys | {"weight_decay": f"{rows}/rows"})
    by_number = run("DeepFM", "tiny", config_dict=keys | {"weight_decay": 1.0})
    assert by_rows[0].test == by_number[0].test
    without = run("DeepFM", "tiny", config_dict=keys | {"weight_decay": 0.0})
    assert by_rows[0].test != without[0].test


@pytest.mark.parametrize(
    "value",
    ["rows", "-1/rows", "1e39/rows", "inf/rows", "1/row", "1/rows/2"]
    + ["1/rows_per_vector", "1/rows/rows", "１/rows", "1\n/rows"],
)
def test_another_text_is_refused(value):
    words = (
        f"weight_decay: {value!r} is not a number of at least 0 or a number for all training rows, "
        "written like 200/rows or 10000/rows/rows_per_vector"
    )
    with pytest.raises(ValueError, match=re.escape(words)):
        Config("DeepFM", "ml-100k", config_dict={"weight_decay": value})


def test_decay_by_rows_of_a_vector_is_for_each_table_that_of_its_size():
    model = nn.ModuleList([nn.Embedding(6, 2), nn.Embedding(3, 2), nn.Embedding(6, 1)])
    model.append(nn.Linear(2, 2))
    assert decay_in("30/rows/rows_per_vector", 10, 6) == 30 / 10 / (10 / 6)
    for first_order in (False, True):
        groups = decay_groups(model, "30/rows/rows_per_vector", 10, first_order=first_order)
        found = {id(each): group["weight_decay"] for group in groups for each in group["params"]}
        expected = [1.8, 0.9, 1.8 * first_order, 0, 0]
        assert [found[id(each)] for each in model.parameters()] == pytest.approx(expected)
    groups = decay_groups(model, "30/rows", 10, first_order=False)
    assert [group["weight_decay"] for group in groups] == [3.0, 0.0]
    with pytest.raises(ValueError, match="weight_decay: '30/rows/rows_per_vector' is another num"):
        decay_in("30/rows/rows_per_vector", 10)  # as a model of one's own may have it
    model[0].weight = nn.Parameter(torch.zeros(3, 2))  # of the size of the other table
    (group,) = decay_groups(model[:2], "30/rows/rows_per_vector", 10)
    assert group["weight_decay"] == pytest.approx(0.9) and len(group["params"]) == 2


def made_trainer(name, keys):
    """The trainer of a model on the tiny dataset, its loader, and the number of training rows."""
    plan = prepare([name], "tiny", config_dict=keys | (SMALL_GENCI if name == "GenCI" else {}))
    config, rows = next(iter(plan.configs.values())), len(plan.parts[0])
    train = create_loaders(config, plan.parts, plan.semantic_ids)[0]
    model = config.model_class(config, train.dataset)
    return CTRTrainer(config, model, Path("run"), rows=rows), train, rows


def save_state(trainer, train):
    Path("run").mkdir(exist_ok=True)
    trainer.best_valid_result = {}
    trainer._save_checkpoint(0)
    save_training_state(Path("run"), trainer, 0, train, {})


@pytest.mark.parametrize("learner", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", ["vectors", "embeddings"])
@pytest.mark.parametrize("name", ["DeepFM", "DIN", "GenCI"])
def test_a_step_without_gradient_takes_its_share_of_each_table_away(name, kind, learner, keys):
    more = {"weight_decay": "30/rows/rows_per_vector", "weight_decay_of": kind, "learner": learner}
    trainer, _, rows = made_trainer(name, keys | more)
    before = {key: value.detach().clone() for key, value in trainer.model.named_parameters()}
    for parameter in trainer.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    tables = {
        f"{path}.weight"
        for path, module in trainer.model.named_modules()
        if isinstance(module, nn.Embedding) and (kind == "embeddings" or module.embedding_dim > 1)
    }
    for key, value in trainer.model.named_parameters():
        decay = 30 * len(value) / rows**2 if key in tables else 0.0
        torch.testing.assert_close(value, before[key] * (1 - keys["learning_rate"] * decay))


class OwnTables(ClickModel):
    """A model that reads one table of its own, and none of its base class's."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.own = nn.Embedding(7, 4)
        self.frozen = nn.Embedding.from_pretrained(torch.ones(9, 4))

    def forward(self, interaction):
        number = 0 * interaction[self.LABEL].long()
        return (self.own(number) * self.frozen(number)).sum(-1)


@pytest.mark.parametrize(
    ("model", "more", "known", "shown"),
    [
        (OwnTables, {}, [7], "= {:.2g} of vectors"),
        (OwnTables, {"weight_decay_of": "embeddings"}, [7], "= {:.2g} of embeddings"),
        ("LR", {}, [], "nothing decays"),
        ("LR", {"sr_weight": 1.0}, [], "rows_per_vector = "),  # the teacher's
    ],
)
def test_the_tables_that_are_shown_are_those_that_decay(model, more, known, shown, keys, caplog):
    del keys["mlp_hidden_size"]
    more = {"weight_decay": "30/rows/rows_per_vector", "weight_decay_of": "vectors"} | more
    trainer, train, rows = made_trainer(model, keys | more)
    kind = trainer.config["weight_decay_of"]
    found = find_decaying(trainer.model, train.dataset[:9], kind)
    assert (found.table_sizes if found.kind == kind else []) == known
    caplog.clear()
    run(model, "tiny", config_dict=keys | more)
    (line,) = [message for message in caplog.messages if " parameters, " in message]
    assert shown.format(30 * 7 / rows**2) in line


@pytest.mark.parametrize("decay", ["30/rows/rows_per_vector", "300/rows", 3.0])
@pytest.mark.parametrize(
    ("learner", "rate", "refused"),
    [
        ("sgd", 0.6, False),
        ("SGD", 0.7, True),
        ("adamw", 0.7, True),
        ("adam", 0.7, False),
        ("rmsprop", 0.7, False),
        ("adagrad", 0.7, False),
    ],
)
def test_a_decay_that_makes_weights_grow_is_refused(decay, learner, rate, refused):
    more = {"learner": learner, "learning_rate": rate, "weight_decay": decay}
    config = Config("DeepFM", "ml-100k", config_dict=more)
    if not refused:
        check_decay(config, 100, [1, 1000])
        return
    of = "" if decay == 3.0 else " = 3 with 100 training rows"
    words = (
        f"weight_decay: {decay}{of} is too large for learner {learner.lower()} with learning_rate "
        "0.7: a step takes 2.1 times a weight away from it, and from 2 times on weights grow "
        "without end. Set weight_decay to a number below 2.9, or learner to adam."
    )
    with pytest.raises(ValueError, match=re.escape(words)):
        check_decay(config, 100, [1, 1000])


def test_a_run_of_few_rows_and_many_values_is_refused_before_it_diverges(keys):
    more = {"weight_decay": "1e7/rows/rows_per_vector", "weight_decay_of": "vectors"}
    keys |= more | {"learner": "adamw"}
    with pytest.raises(ValueError, match=r"weight_decay: 1e7/rows/rows_per_vector = .* too large"):
        run("DeepFM", "tiny", config_dict=keys)
    del keys["mlp_hidden_size"]
    assert run("LR", "tiny", config_dict=keys)[0].test  # of which nothing decays


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (
            {"weight_decay": "30/rows/rows_per_vector"},
            {"weight_decay": "31/rows/rows_per_vector"},
            r"with weight_decay .* \(\d+ parameters?\), 0 \(\d+ parameters\), its conf.* now says ",
        ),
        ({}, {"weight_decay_of": "embeddings"}, "was trained with weight_decay 0.1 "),
        ({}, {"weight_decay_of": None}, "its configuration now says 0.1. Restore"),
        ({}, {"learning_rate": 0.5}, "with learning_rate 0.01, its configuration now says 0.5. "),
        ({"weight_decay": 0.0}, {"weight_decay_of": None}, "with another weight_decay_of: its gr"),
    ],
)
def test_a_resumed_run_has_the_decay_of_each_weight_as_before(before, now, words, keys):
    keys |= {"weight_decay_of": "vectors"} | before
    trainer, train, _ = made_trainer("DeepFM", keys)
    save_state(trainer, train)
    load_training_state(Path("run"), made_trainer("DeepFM", keys)[0], train, {})
    with pytest.raises(ValueError, match=words):
        load_training_state(Path("run"), made_trainer("DeepFM", keys | now)[0], train, {})


@pytest.mark.parametrize("name", ["GenCI", "DIN", "DeepFM"])
def test_the_optimiser_of_a_run_has_a_decay_for_each_table(name, keys):
    more = {"weight_decay": "30/rows/rows_per_vector", "weight_decay_of": "vectors"}
    keys |= more | (SMALL_GENCI if name == "GenCI" else {})
    plan = prepare([name], "tiny", config_dict=keys)
    config, rows = plan.configs[name], len(plan.parts[0])
    train = create_loaders(config, plan.parts, plan.semantic_ids)[0]
    trainer = CTRTrainer(config, config.model_class(config, train.dataset), Path("run"), rows=rows)
    found = {
        id(each): group["weight_decay"]
        for group in trainer.optimizer.param_groups
        for each in group["params"]
    }
    tables = [each for each in trainer.model.modules() if isinstance(each, nn.Embedding)]
    expected = {
        id(each.weight): 30 * each.num_embeddings / rows**2 * (each.embedding_dim > 1)
        for each in tables
    }
    assert found == pytest.approx({key: 0.0 for key in found} | expected)
    assert len(set(expected.values())) > 1


def test_decay_by_rows_of_a_vector_needs_tables(keys):
    more = {"weight_decay": "30/rows/rows_per_vector", "weight_decay_of": None}
    with pytest.raises(ValueError, match="weight_decay: .* is a decay of embedding tables"):
        Config("DeepFM", "tiny", config_dict=keys | more)
