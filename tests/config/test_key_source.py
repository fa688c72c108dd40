"""Where the value of a key comes from."""

from pathlib import Path

import pytest
import yaml

from recbole_genci.config import Config
from recbole_genci.config.keys import DEFAULT_RECIPE, properties_folder, read_keys
from recbole_genci.training.console import Heading, sources_of

OURS = {"learning_rate": 0.25}


def config(files=(), values=None, argv=(), model="LR", dataset="ml-100k"):
    names = []
    for number, content in enumerate(files):
        names.append(f"{number}.yaml")
        Path(names[-1]).write_text(yaml.safe_dump(content))
    return Config(model, dataset, names, values, argv, compared_models=["DeepFM"])


@pytest.mark.parametrize(
    ("made", "kind", "shown", "value"),
    [
        ({}, "recipe", "recipe regularised", 0.002),
        ({"values": {"recipe": "tuned"}}, "tuned", "tuned/ml-100k/LR.yaml", 0.001),
        ({"values": {"recipe": "regularised"}}, "recipe", "recipe regularised", 0.002),
        ({"files": [{"recipe": "paper"}]}, "recipe", "recipe paper", 0.005),
        ({"argv": ["--recipe=paper"], "values": OURS}, "dict", "config_dict", 0.25),
        ({"files": [OURS]}, "file", "0.yaml", 0.25),
        ({"files": [OURS, {"epochs": 3}]}, "file", "0.yaml", 0.25),
        ({"files": [OURS, {"learning_rate": 0.5}]}, "file", "1.yaml", 0.5),
        ({"files": [OURS], "values": {"learning_rate": 0.5}}, "dict", "config_dict", 0.5),
        (
            {"files": [OURS], "values": OURS, "argv": ["--learning_rate=0.5"]},
            "command line",
            "command line",
            0.5,
        ),
    ],
)
def test_the_strongest_source_is_named_and_is_the_one_whose_value_counts(made, kind, shown, value):
    made = config(**made)
    source = made.source_of("learning_rate")
    assert (source.kind, str(source), made["learning_rate"]) == (kind, shown, value)


def test_of_a_resumed_run_or_search_only_its_own_file_has_another_name():
    found = config(files=[{"learning_rate": 0.1}, {"weight_decay": 0.1}])
    found = sources_of(found, Path("1.yaml"), "the search's config.yaml")
    assert found["learning_rate"] == "0.yaml"
    assert found["weight_decay"] == "the search's config.yaml"


def test_a_recipe_that_is_not_there_is_refused():
    with pytest.raises(
        ValueError, match="recipe: 'best' is not one of regularised, by_rows, paper, tuned"
    ):
        config(values={"recipe": "best"})


def test_every_recipe_sets_how_a_model_trains_and_is_one_that_the_key_takes():
    folder = properties_folder() / "recipe"
    found = {file.stem: yaml.safe_load(file.read_text()) for file in folder.glob("*.yaml")}
    exceptions = {name: found.pop(name) for name in list(found) if "-" in name}
    for name, keys in exceptions.items():
        recipe, _, model = name.partition("-")
        own = read_keys([properties_folder() / f"model/{model}.yaml"])
        assert set(keys) <= found[recipe].keys() | own.keys()
        made = config(model=model, values={"recipe": recipe})
        assert {key: made[key] for key in keys} == keys
    without = [found[name].pop("min_patience_steps") for name in ("by_rows", "paper")]
    assert without == [0, 0] != config()["min_patience_steps"]
    for name, keys in found.items():
        assert set(found["paper"]) <= set(keys)
        made = config(values={"recipe": name})
        assert {key: made[key] for key in keys} == keys
    assert {key: config()[key] for key in found["paper"]} == {
        key: found[DEFAULT_RECIPE][key] for key in found["paper"]
    }
    overall = yaml.safe_load((properties_folder() / "overall.yaml").read_text())
    assert overall["recipe"] == DEFAULT_RECIPE
    shared = found[DEFAULT_RECIPE].keys() & overall
    assert len(shared) == 3
    assert {key: overall[key] for key in shared} == {
        key: found[DEFAULT_RECIPE][key] for key in shared
    }


def test_the_default_recipe_drops_out_whatever_a_model_calls_it_and_the_papers_as_the_model_says():
    names = {"DIN": "dropout_prob", "FiGNN": "hidden_dropout_prob", "AutoInt": "dropout_probs"}
    rate = {model: config(model=model)[name] for model, name in names.items()}
    assert rate == {"DIN": 0.3, "FiGNN": 0.3, "AutoInt": [0.3, 0.3, 0.3]}
    for recipe in ("paper", "tuned"):
        assert config(values={"recipe": recipe}, model="GenCI")["dropout_prob"] == 0.2


def test_a_datasets_keys_beat_the_default_recipe_and_what_it_was_tuned_to_beats_both():
    keys = [config(values=v, dataset="frappe_x1") for v in ({}, {"recipe": "tuned"})]
    assert [made["learning_rate"] for made in keys] == [0.001, 0.001]
    assert [made["weight_average"] for made in keys] == [0.5, 0]
    assert config(values={"recipe": "paper"}, dataset="frappe_x1")["learning_rate"] == 0.005


@pytest.mark.parametrize("key", ["learning_rate", "epochs", "embedding_size", "load_col"])
def test_what_a_datasets_file_sets_is_no_default(key):
    source = config(dataset="frappe_x1").source_of(key)
    assert (source.kind, str(source)) == ("dataset", "properties/dataset/frappe_x1.yaml")
    assert config(values=OURS, dataset="frappe_x1").source_of("learning_rate").kind == "dict"
    settings = Heading.of(config(dataset="frappe_x1")).settings
    assert settings["learning_rate"] == "learning_rate 0.001 (properties/dataset/frappe_x1.yaml)"


def test_a_recipe_for_which_nobody_tuned_is_refused():
    for model, dataset in ("LR", "shop"), ("KD_DAGFM", "ml-100k"):
        with pytest.raises(ValueError, match=f"recipe: 'tuned' has nothing for .* on '{dataset}'"):
            config(values={"recipe": "tuned"}, model=model, dataset=dataset)


def test_any_key_has_a_source():
    made = config([{"epochs": 3}], {"seed": 7}, ["--metrics=['AUC', 'LogLoss', 'RMSE']"])
    expected = {
        "epochs": "file",
        "seed": "dict",
        "metrics": "command line",
        "embedding_size": "default",
        "weight_decay": "recipe",
        "device": "default",
    }
    assert {key: made.source_of(key).kind for key in expected} == expected
    assert config(model="DeepFM").source_of("dropout_prob").kind == "recipe"


def test_the_defaults_of_an_alias_are_defaults():
    assert str(Config("AFN+", "ml-100k").source_of("ensemble_dnn")) == "default"
