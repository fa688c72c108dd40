"""The contract of a model: every model has all of it, and nothing but the analyses of GenCI's own
intents (``evaluation/``) asks for more."""

import ast
from pathlib import Path

import pytest
import torch
from conftest import make_model
from recbole.model.abstract_recommender import ContextRecommender
from recbole.model.context_aware_recommender.deepfm import DeepFM

import recbole_genci
from recbole_genci.config import Config
from recbole_genci.data.loaders import create_loaders
from recbole_genci.evaluation.diagnostics import diagnose
from recbole_genci.evaluation.recall import recall
from recbole_genci.model.base import ClickModel, ModelContract, contract_of
from recbole_genci.model.registry import entry_of, get_model, known_models

PACKAGE = Path(recbole_genci.__file__).parent
NAMES = {
    name
    for name in (*vars(ModelContract), *ModelContract.__annotations__)
    if not name.startswith("__")
}


def quoted(tree) -> list[str]:
    """Names in quotes that getattr, hasattr or setattr are called with."""
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    found = [
        call.args[1]
        for call in calls
        if call.func.id in ("getattr", "hasattr", "setattr") and len(call.args) > 1
    ]
    return [node.value for node in found if isinstance(node, ast.Constant)]


def test_nothing_asks_for_a_name_of_the_contract_in_quotes():
    assert "reads_history" in quoted(
        ast.parse('getattr(model, "reads_history", False)')
    )  # the test can fail
    assert {
        "reads_history",
        "check_settings",
        "observe_generator",
        "teacher",
        "first_layer_shares",
    } <= NAMES
    asked = {
        str(file.relative_to(PACKAGE)): NAMES
        & set(quoted(ast.parse(file.read_text(encoding="utf-8"))))
        for file in PACKAGE.rglob("*.py")
    }
    assert len(asked) > 250 and not any(asked.values()), {
        file: names for file, names in asked.items() if names
    }


def test_the_data_layer_knows_no_model_by_its_name():
    models = set(known_models())
    for file in (PACKAGE / "data").rglob("*.py"):
        texts = {
            node.value
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant)
        }
        assert not models & {text for text in texts if isinstance(text, str)}, file


@pytest.mark.parametrize("name", known_models())
def test_every_model_has_the_whole_contract(name):
    model = get_model(name)
    assert (
        issubclass(model, ModelContract)
        and get_model(name) is model
        and model.__name__ == entry_of(name).base
    )
    assert all(hasattr(model, each) for each in NAMES - {"teacher"})


def test_what_models_declare():
    reads = {
        name: (model.reads_history, model.reads_negatives, model.reads_semantic_ids)
        for name in known_models()
        for model in [get_model(name)]
    }
    assert {name: flags for name, flags in reads.items() if any(flags)} == {
        "GenCI": (False, False, True),
        "DIN": (True, False, False),
        "DIEN": (False, True, False),
        "MIRRN": (True, False, False),
    }
    assert (
        get_model("GenCI").generates_items
        and get_model("GenCI").has_intents
        and not get_model("DIN").generates_items
    )
    assert issubclass(get_model("GenCI"), ClickModel)


def test_the_contract_leaves_a_class_as_it_is():
    adapted = contract_of(DeepFM)
    assert (
        issubclass(adapted, DeepFM)
        and contract_of(DeepFM) is adapted
        and contract_of(adapted) is adapted
    )
    assert (adapted.__name__, adapted.__module__, adapted.__doc__) == (
        "DeepFM",
        DeepFM.__module__,
        DeepFM.__doc__,
    )

    class Mine(ContextRecommender):
        reads_history = True
        revision = 3

    assert (
        contract_of(Mine).reads_history
        and contract_of(Mine).revision == 3
        and not contract_of(Mine).reads_negatives
    )


def test_a_plain_models_defaults_are_what_reports_ask(tiny_parts):
    parts, keys = tiny_parts
    model, (train, _, _) = make_model("DeepFM", parts, keys)
    config = Config("DeepFM", "tiny", config_dict=keys, compared_models=["GenCI"])
    loader = create_loaders(config, parts)[2]
    assert diagnose(model, loader, train, torch.device("cpu")) is None
    with pytest.raises(ValueError, match="^recall: DeepFM generates no items"):
        recall(model, loader, train, torch.device("cpu"))
    batch = train[:4]
    with pytest.raises(ValueError, match="DeepFM generates no items"):
        model.generate_items(batch, 2)
    with pytest.raises(ValueError, match="DeepFM has no long-term and short-term intents"):
        model.first_layer_shares(batch, [])


@pytest.mark.parametrize(
    ("declared", "columns"),
    [
        ({}, set()),
        ({"reads_history": True}, {"item_id_list", "item_length"}),
        ({"reads_negatives": True}, {"item_id_list", "item_length", "neg_item_id_list"}),
        (
            {"reads_semantic_ids": True},
            {
                "item_id_list",
                "item_length",
                "semantic_ids",
                "history_semantic_ids",
                "history_number",
            },
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else str(len(value)),
)
def test_a_batch_has_what_a_model_declares(tiny_parts, declared, columns):
    parts, keys = tiny_parts
    model = type("Mine", (ClickModel,), declared)
    config = Config("DeepFM", "tiny", config_dict=keys, compared_models=["GenCI"])
    plain = set(parts[0].view(config)[:3].columns)
    config.model_class = model
    view = parts[0].view(config, torch.zeros(parts[0].item_num, 2, dtype=torch.int64))
    assert set(view[:3].columns) - plain == columns
    if "reads_negatives" in declared:
        assert view[: len(view)]["item_length"].min() == 1
