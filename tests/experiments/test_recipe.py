"""Settings ranked by validation: the table of one dataset, and the choice over several."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_rows, write_dataset

from recbole_genci.experiments.definition import defined
from recbole_genci.experiments.records import read_runs
from recbole_genci.experiments.reports.recipe import distances
from recbole_genci.experiments.request import ExperimentArguments, check_request

ROOT = Path(__file__).parents[2]


def script():
    spec = importlib.util.spec_from_file_location("recipe_script", ROOT / "benchmarks/recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write_dataset(folder, tiny_rows(rows_per_user=40))


@pytest.fixture
def words(keys, tmp_path):
    """A recipe of two models and two settings, and the words of its command."""
    import json

    config = tmp_path / "keys.yaml"
    config.write_text(json.dumps(keys | {"diagnostic_rows": 0}))
    recipe = tmp_path / "few.yaml"
    recipe.write_text(
        "models: [LR, DeepFM]\n"
        "settings:\n"
        "  - {name: paper, learning_rate: 0.005}\n"
        "  - {learning_rate: 0.01, dropout_prob: 0.3}\n"
    )
    return [f"--recipe={recipe}", "--dataset=tiny", "--seeds=2", f"--config_files={config}"]


def table(name, folder="results/recipe-few-tiny"):
    return list(csv.DictReader(Path(folder, f"{name}.csv").open()))


def test_lines_are_ranked_by_validation_and_tested_apart(words, capsys):
    main = script().main
    assert main(words) == 0
    folder = Path("results/recipe-few-tiny")
    records = read_runs(folder)
    assert len(records) == 8 and all(record["status"] == "finished" for record in records)
    names = [
        "LR: paper",
        "LR: learning_rate 0.01, dropout_prob 0.3",
        "DeepFM: paper",
        "DeepFM: learning_rate 0.01, dropout_prob 0.3",
    ]
    rows, tested = table("table"), table("test")
    assert [row["line"] for row in rows] == names == [row["line"] for row in tested]
    assert not {"AUC", "LogLoss", "GAUC"} & set(rows[0])
    valid = {}
    for name, row, test in zip(names, rows, tested):
        model, settings = name.split(": ")
        own = [
            r
            for r in sorted(records, key=lambda each: each["seed"])
            if r["model"] == model
            and (r["settings"]["learning_rate"] == 0.01) == ("0.01" in settings)
        ]
        valid[name] = np.array([r["best_valid"]["auc"] for r in own])
        losses = [r["best_valid"]["logloss"] for r in own]
        assert float(row["valid AUC"]) == pytest.approx(valid[name].mean())
        assert float(row["valid AUC sd"]) == pytest.approx(valid[name].std(ddof=1))
        assert float(row["valid LogLoss"]) == pytest.approx(np.mean(losses))
        assert float(row["best epoch"]) == np.mean([r["best_epoch"] for r in own])
        assert float(test["AUC"]) == pytest.approx(np.mean([r["test"]["auc"] for r in own]))
    difference = valid[names[3]] - valid[names[2]]
    assert (rows[2]["minus"], rows[3]["minus"]) == ("", names[2])
    mean, error = difference.mean(), difference.std(ddof=1) / np.sqrt(2)
    assert float(rows[3]["valid AUC difference"]) == pytest.approx(mean)
    ends = [float(rows[3][f"valid AUC difference 95 % {end}"]) for end in ("from", "to")]
    assert ends == pytest.approx([mean - 12.7062 * error, mean + 12.7062 * error], rel=1e-4)
    settings = table("settings")
    assert [row["models"] for row in settings] == ["2", "2"]
    trained = {record["folder"] for record in records}
    assert main(words) == 0  # nothing is trained again
    assert {record["folder"] for record in read_runs(folder)} == trained
    capsys.readouterr()
    assert main([str(folder), str(folder)]) == 0
    out = capsys.readouterr().out
    assert "| paper |" in out and "by the others" not in out  # one dataset, given twice


def test_one_model_can_be_trained_alone(words):
    assert script().main([*words, "--models=LR"]) == 0
    assert {r["model"] for r in read_runs(Path("results/recipe-few-tiny"))} == {"LR"}


def test_lines_are_compared_with_the_controls_that_the_file_names(words, tmp_path):
    (tmp_path / "few.yaml").write_text(
        "model: DeepFM\n"
        "lines:\n"
        "  - {name: slow, learning_rate: 0.001}\n"
        "  - {name: base}\n"
        "  - {name: fast, learning_rate: 0.1}\n"
        "against: [base]\n"
    )
    assert script().main(words) == 0
    assert [row["minus"] for row in table("table")] == ["base", "", "base"]
    tested = table("test_differences")
    assert [(row["line"], row["minus"]) for row in tested] == [("slow", "base"), ("fast", "base")]
    aucs = {row["line"]: float(row["AUC"]) for row in table("test")}
    for row in tested:
        difference = aucs[row["line"]] - aucs["base"]
        assert float(row["AUC difference"]) == pytest.approx(difference, abs=1e-6)
    text = Path("results/recipe-few-tiny/table.md").read_text()
    assert "Validation split, but for tables that say test, seeds 2020, 2021" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--models=Nobody"], "'Nobody' is not a model"),
        (["--recipe=nowhere.yaml"], "recipe: 'nowhere.yaml' is not there"),
        (["--seeds=0"], "seeds: "),
        (["--leaning_rate=1"], "leaning_rate"),
    ],
)
def test_a_wrong_command_ends_with_a_sentence(words, change, message, capsys):
    kept = [w for w in words if w.partition("=")[0] != change[0].partition("=")[0]]
    assert script().main([*kept, *change]) == 2
    assert message in capsys.readouterr().err
    assert not Path("results/recipe-few-tiny/runs.jsonl").exists()


def test_a_file_with_another_key_is_refused(words, tmp_path, capsys):
    (tmp_path / "few.yaml").write_text("models: [LR]\nreport: compare\n")
    assert script().main(words) == 2
    assert "has report, but a recipe has" in capsys.readouterr().err


def test_the_settings_that_are_nearest_to_every_best_come_first():
    cases = {
        "A": {"x": (0.80, 0.50), "y": (0.79, 0.49)},
        "B": {"x": (0.70, 0.60), "y": (0.74, 0.58)},
    }
    first, second = distances(["x", "y"], cases)
    assert first == ["y", pytest.approx(0.005), pytest.approx(0.01), "A", pytest.approx(0.0), 2]
    assert second[:1] + second[3:4] == ["x", "B"] and second[1:3] == pytest.approx([0.02, 0.04])
    assert second[4] == pytest.approx(0.015) and distances(["x"], {}) == []


def test_each_dataset_is_left_out_in_turn(tmp_path):
    def write(name, lines):
        folder = tmp_path / name
        folder.mkdir()
        rows = ["line,valid AUC,valid AUC sd,valid LogLoss", *lines]
        (folder / "table.csv").write_text("\n".join(rows) + "\n")
        return str(folder)

    one = write("one", ["A: x,0.8,0,0.5", "A: y,0.79,0,0.4", "B: x,0.8,0,0.5", "B: y,,,"])
    two = write("two", ["A: x,0.6,0,0.5", "A: y,0.7,0,0.6"])
    whole, left_out = script().joint([one, two]).split("\n\n")
    assert "| y | 0.0050 | 0.0100 | A on one | 0.0500 | 2 |" in whole  # B has not finished y
    assert "| one | y | 0.0100 |" in left_out and "| two | x | 0.1000 |" in left_out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "table.csv is empty or damaged. Start the command again that trained its recipe"),
        (b"line,valid AUC\nA: x,0.8\nA: y,0.7,1,2\n", "table.csv is empty or damaged."),
        (b"line,valid AUC\n\xff\xfe: x,0.8\n", "table.csv is empty or damaged."),
        (b"line,valid AUC,valid LogLoss\nA: x,much,0.5\n", "table.csv is empty or damaged."),
        (b"model,AUC\nA,0.8\n", "is no table of a recipe: it has no column 'line'."),
        (b"line,runs\nA: x,0\n", "The folders hold no finished settings."),
    ],
)
def test_a_table_that_is_none_is_one_sentence(tmp_path, capsys, content, said):
    (tmp_path / "table.csv").write_bytes(content)
    assert script().main([str(tmp_path)]) == 2
    line = capsys.readouterr().err
    assert said in line and line.startswith("recbole_genci: ") and line.count("\n") == 1


def test_tables_of_one_seed_have_no_deviations(tmp_path):
    rows = ["line,valid AUC,valid LogLoss,best epoch", "A: x,0.8,0.5,3", "A: y,0.7,0.4,9"]
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    assert "| y | 0.1000 | 0.1000 | A on" in script().joint([str(tmp_path)])
    assert script().joint([str(tmp_path)]).count("| 0.1000 | 1 |") == 1  # LogLoss above, not epochs


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks/recipes").glob("*.yaml")))
def test_every_shipped_recipe_is_one_that_ml100k_can_run(file):
    text = file.read_text()
    if "models:" not in text and "lines:" not in text:
        pytest.skip("the protocol of a dataset")
    made = script().definition_of(file)
    request = check_request(made, ExperimentArguments("ml-100k"))
    for line in request.variants:
        config = request.configs[line.name]
        assert {key: config[key] for key in line.keys} == line.keys
    assert set(made.against) <= {line.name for line in made.variants}
    assert defined("x", {"about": "", "paper": "", "report": "recipe"}).variants == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("models: [LR]\nsettings: [{name: x, mu: 1}, {name: x, mu: 2}]", "two of the name 'x'"),
        ("models: [LR, LR]\nsettings: [{name: x}]", "two of the name 'LR'"),
        ("models: LR\nsettings: [{name: x}]", "models is no list of texts"),
        ("models: [LR]\nsettings: {name: x}", "settings is no list of mappings"),
        ("models: [LR]\nsettings: [1, 2]", "settings is no list of mappings"),
        ("model: LR\nlines: 3", "lines is no list of mappings"),
        ("lines: [{name: x}]", "line 1 of lines lacks a name or a model"),
        ("model: LR\nlines: [{name: x}]\nnotes: 7", "notes is no list of texts"),
        ("model: LR\nlines: [{name: x}]\nagainst: [y]", "against names 'y', which is no line"),
    ],
)
def test_a_recipe_of_another_form_is_refused(tmp_path, content, said):
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=said):
        script().definition_of(file)
