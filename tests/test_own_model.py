"""A model and a metric of one's own, in files outside the repository, and a stranger's folder."""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import SMALL_GENCI, interrupted, stop_after, tiny_rows, write_dataset
from recbole.model.abstract_recommender import ContextRecommender

import recbole_genci
from recbole_genci import Ranker, load, resume, run
from recbole_genci.cli import main
from recbole_genci.config import Config
from recbole_genci.experiments import experiment
from recbole_genci.experiments.identity import run_hash
from recbole_genci.model.base import ClickModel
from recbole_genci.plan import prepare
from recbole_genci.report import main as report
from recbole_genci.results import Results, RunResult
from recbole_genci.training.trainer import CTRTrainer
from recbole_genci.tuning.command import main as tune_command
from recbole_genci.tuning.search import resume_search, tune
from recbole_genci.utils import own_code
from recbole_genci.utils.digests import sealed_line
from recbole_genci.utils.own_code import importing, references

ROOT = Path(recbole_genci.__file__).parent.parent

NET = """
import torch
from recbole.model.layers import MLPLayers
from recbole_genci.model.base import ClickModel


class MyNet(ClickModel):
    reads_history = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        width = self.num_feature_field * self.embedding_size
        self.mlp = MLPLayers([width, config["my_width"]], config["my_dropout"])
        self.out = torch.nn.Linear(config["my_width"], 1)

    @classmethod
    def check_settings(cls, config):
        if config["my_width"] > 1000:
            raise ValueError(f"my_width: {config['my_width']} is above 1000.")

    def forward(self, interaction):
        clicks = interaction["item_length"].float().log1p()
        fields = self.concat_embed_input_fields(interaction).flatten(1)
        return self.out(self.mlp(fields)).squeeze(1) + clicks
"""
PLAIN = """
import torch
from recbole.model.abstract_recommender import ContextRecommender


class MyLR(ContextRecommender):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.loss = torch.nn.BCEWithLogitsLoss()

    def forward(self, interaction):
        return self.first_order_linear(interaction).squeeze(-1)

    def calculate_loss(self, interaction):
        return self.loss(self.forward(interaction), interaction[self.LABEL])

    def predict(self, interaction):
        return torch.sigmoid(self.forward(interaction))
"""
DEFAULTS = (
    "my_width: 8       # (int >= 1) Units of the hidden layer.\n"
    "my_dropout: 0.1   # (float) Share left out in training.\n"
)
METRIC = """
def Brier(labels, probabilities, users=None):
    assert len(users) == len(labels) == len(probabilities)
    return ((labels - probabilities) ** 2).mean()

Brier.smaller_is_better = True
"""


@pytest.fixture
def keys(tmp_path):
    keys = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40)) | {"epochs": 2}
    del keys["mlp_hidden_size"]  # which is no key of LR, nor of the models below
    return keys


@pytest.fixture(autouse=True)
def forgets(monkeypatch):
    """Each test begins as a process that has imported nothing of anybody's own."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(references, "KNOWN", {})
    monkeypatch.setattr(references, "FILE_MODULES", {})
    monkeypatch.setattr(importing, "_search_folders", [])
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("my_", "evil")):
            del sys.modules[name]


@pytest.fixture
def model_folder(tmp_path):
    """A folder apart from the current one, with MyNet, its defaults, MyLR and a metric."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name, text in {
        "my_models.py": NET,
        "MyNet.yaml": DEFAULTS,
        "my_plain.py": PLAIN,
        "my_metrics.py": METRIC,
    }.items():
        (folder / name).write_text(text)
    return folder


def command(*words, cwd=".", check=0):
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == check, done.stderr[-3000:]
    return done


def as_words(keys):
    Path("keys.yaml").write_text(yaml.safe_dump(keys))
    return ["--dataset=tiny", f"--config_files={Path('keys.yaml').resolve()}"]


@pytest.mark.timeout(900)
def test_a_file_outside_the_repository_stands_in_one_table_and_serves_in_a_fresh_process(
    keys, model_folder, tmp_path
):
    words = as_words(keys | SMALL_GENCI)
    command(
        ROOT / "run_recbole_genci.py",
        "--model=LR,GenCI,my_models:MyNet,my_plain.py:MyLR",
        *words,
        "--my_width=4",
        "--metrics=['AUC','LogLoss','GAUC','my_metrics:Brier']",
        "--valid_metric=Brier",
        cwd=model_folder,
    )
    (table,) = (model_folder / "results").glob("*/table.md")
    lines = table.read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:6]] == ["| LR", "| GenCI", "| MyNet", "| MyLR"]
    assert (
        all(f"| {title} |" in lines[0] for title in ("GAUC", "brier"))
        and "my_models:MyNet" in table.read_text()
    )
    (folder,) = (model_folder / "saved").glob("MyNet-tiny-*")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["model"], metrics["model_reference"]) == ("MyNet", "my_models:MyNet")
    assert yaml.safe_load((folder / "config.yaml").read_text())["my_width"] == 4
    (plain,) = (model_folder / "saved").glob("MyLR-tiny-*")
    assert f"model: {model_folder / 'my_plain.py'}:MyLR" in (plain / "config.yaml").read_text()
    program = (
        "import sys, json; from recbole_genci import load, Ranker\n"
        "run = load(sys.argv[1], trust_code=True)\n"
        "assert run.evaluate() == run.metrics['test'] and run.evaluate('valid') == "
        "run.metrics['best_valid']\n"
        "assert run.model.mlp.mlp_layers[1].out_features == 4\n"
        "print(json.dumps(Ranker(run).score(['u1'], ['i2', 'i3']).tolist()))\n"
    )
    (scores,) = json.loads(command("-c", program, folder, cwd=model_folder).stdout)
    assert len(scores) == 2 and all(0 < score < 1 for score in scores)
    assert (
        references.KNOWN == {} and report([str(folder), str(plain)]) == 0 and references.KNOWN == {}
    )  # a report imports nothing


@pytest.mark.timeout(900)
def test_two_processes_train_a_module_of_the_current_folder(keys, model_folder):
    words = as_words(keys | {"nproc": 2})
    metrics = "--metrics=['AUC','LogLoss','my_metrics:Brier']"
    command(
        ROOT / "run_recbole_genci.py",
        "--model=my_models:MyNet,my_plain.py:MyLR",
        *words,
        metrics,
        cwd=model_folder,
    )
    for folder in (model_folder / "saved").iterdir():
        result = json.loads((folder / "metrics.json").read_text())
        assert result["nproc"] == 2 and set(result["test"]) == {"auc", "logloss", "brier"}


def test_help_and_keys_come_from_the_file_beside_the_module(model_folder, monkeypatch, capsys):
    monkeypatch.chdir(model_folder)
    assert main(["--help", "--model=my_models:MyNet"]) == 0
    text = capsys.readouterr().out
    assert (
        "MyNet's own:" in text and "--my_width [8]" in text and "Units of the hidden layer." in text
    )
    assert Config("my_models:MyNet", "ml-100k")["my_dropout"] == 0.1
    assert Config("my_models:MyNet", "ml-100k", argv=["--my_width=3"])["my_width"] == 3
    for wrong, said in (
        ("my_widht=3", "Did you mean 'my_width'"),
        ("my_width=wide", "my_width: 'wide' is not a whole number of at least 1"),
    ):
        assert main(["--model=my_models:MyNet", "--dataset=ml-100k", f"--{wrong}"]) == 2
        assert said in capsys.readouterr().err
    assert main(["--model=LR", "--dataset=ml-100k", "--my_width=3"]) == 2
    (model_folder / "MyNet.yaml").write_text("my_width: [\n")
    assert main(["--model=LR,my_models:MyNet", "--dataset=ml-100k"]) == 2
    assert "the defaults of MyNet: " in capsys.readouterr().err


def test_classes_from_python_train_resume_and_load(keys, model_folder, monkeypatch):
    class Local(ClickModel):
        def forward(self, interaction):
            return self.first_order_linear(interaction).squeeze(-1)

    (result,) = run(Local, "tiny", config_dict=keys)
    assert result["model"] == "Local" and Path(result["folder"]).name.startswith("Local-tiny-")
    assert load(result["folder"]).evaluate() == result["test"]  # this process was given the class
    references.KNOWN.clear()
    with pytest.raises(
        ValueError,
        match="^model: .* names code of its own, '.*:Local', and importing it would run that code",
    ):
        load(result["folder"])
    assert load(result["folder"], model=Local).evaluate() == result["test"]
    assert Ranker(result["folder"], model=Local).score(["u1"]).shape == (1, 20)
    for more, said in (({"nproc": 2}, "nproc: 2"), ({}, "tool: Ray")):
        with pytest.raises(
            ValueError,
            match=f"^model: Local exists in this process alone, .* {said} could not import it",
        ):
            if more:
                run(Local, "tiny", config_dict=keys | more)
            else:
                from recbole_genci.training.own_checks import check_importable

                check_importable(Config(Local, "tiny", config_dict=keys), said)
    with pytest.raises(ValueError, match="is one of Local, not of LR"):
        load(result["folder"], model="LR")


class Cooling(ClickModel):
    """Its temperature is no part of its weights."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.temperature = 5.0
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, interaction):
        return self.first_order_linear(interaction).squeeze(-1) / self.temperature

    def calculate_loss(self, interaction):
        self.temperature *= 0.8
        self.seen += 1
        return super().calculate_loss(interaction)


def test_state_outside_the_weights_is_told_before_training_and_refused_after_it(keys, caplog):
    before = "model: Cooling changes temperature and seen in training, which its saved weights do"
    after = "^model: Cooling built anew with its saved weights is not the model that was tested: "
    with pytest.raises(ValueError, match=f"{after}its scores differ") as error:
        run(Cooling, "tiny", config_dict=keys)
    assert before in caplog.text and "not hold (temperature and seen)" in str(error.value)
    assert "Finished: Cooling seed 2020; their table: " in error.value.__notes__[0]
    assert len(list(Path("saved").glob("Cooling-*/metrics.json"))) == 1
    # The second time the finished run is only read.
    for said in ("its scores differ", "test auc is "):
        (result,) = experiment("compare", "tiny", [Cooling], 1, config_dict=keys)
        assert f"not the model that was tested: {said}" in result.failed[0].error


def test_a_subclass_of_din_or_of_recboles_din_just_works(keys, tmp_path):
    from recbole.model.sequential_recommender.dien import DIEN as RecBoleDIEN
    from recbole.model.sequential_recommender.din import DIN as RecBoleDIN

    from recbole_genci.model.baselines.din import DIN

    class MyDIN(DIN):
        pass

    class TheirDIN(RecBoleDIN):
        pass

    class TheirDIEN(RecBoleDIEN):
        pass

    own, theirs, _, ours = run(
        [MyDIN, TheirDIN, TheirDIEN, "DIN"], "tiny", config_dict=keys | {"dropout_prob": 0.0}
    )
    assert own["test"] == ours["test"] and [r["model"] for r in (own, theirs)] == [
        "MyDIN",
        "TheirDIN",
    ]
    assert (
        "use_user_features: true" in (Path(own["folder"]) / "config.yaml").read_text()
    )  # DIN's defaults are its own


def test_what_is_no_ctr_model_is_refused_in_one_sentence(model_folder, monkeypatch, capsys):
    monkeypatch.chdir(model_folder)
    (model_folder / "my_wrong.py").write_text(
        "import torch\nfrom recbole.model.abstract_recommender import SequentialRecommender, "
        "ContextRecommender\n"
        "def build(config): pass\nclass Layer(torch.nn.Module): pass\nclass "
        "MySASRec(SequentialRecommender): pass\n"
        "class DIN(ContextRecommender): pass\nclass SASRec(ContextRecommender): pass\nnumber = 3\n"
    )
    (model_folder / "my_syntax.py").write_text("x = 1\nclass Broken(:\n")
    (model_folder / "my_import.py").write_text("import torch\n\nimport nowhere_to_be_found\n")
    (model_folder / "my_exit.py").write_text("raise SystemExit(0)\n")
    (model_folder / "other").mkdir()
    (model_folder / "other" / "my_models.py").write_text(NET)
    needed = "A model of your own is a subclass of recbole_genci.model.base.ClickModel"
    cases = {
        "my_wrong:build": ["is a function, not a class", needed],
        "my_wrong:number": ["is a int, not a class", needed],
        "my_wrong:Layer": ["is a subclass of Module", needed],
        "my_wrong:MySASRec": ["is a subclass of RecBole's SequentialRecommender", needed],
        "my_wrong:DIN": [
            "has the name of a model of RecBole or of this plugin",
            "Rename the class, for example MyDIN",
        ],
        "my_wrong:SASRec": ["has the name of a model of RecBole"],
        "my_models:MyNett": ["has no 'MyNett'. Did you mean 'MyNet'?"],
        "my_modles:MyNet": ["there is no module 'my_modles'", "Did you mean 'my_models'?"],
        "my_modles.py:MyNet": ["there is no file", "Did you mean 'my_models.py'?"],
        "my_syntax:Broken": ["my_syntax.py, line 2: SyntaxError"],
        "my_import.py:Broken": [
            "my_import.py, line 3: ModuleNotFoundError: No module named 'nowhere_to_be_found'"
        ],
        "my_exit:Broken": ["my_exit.py, line 1: SystemExit"],
        "my_models:MyNet,other/my_models.py:MyNet": ["names a model twice"],
        "MyNet": ["A model of your own is given as module:Class"],
        "__main__:MyNet": ["was defined in a program or a notebook"],
    }
    for asked, said in cases.items():
        assert main([f"--model={asked}", "--dataset=ml-100k"]) == 2, asked
        error = capsys.readouterr().err
        assert error.startswith("recbole_genci: model: ") and error.count("\n") == 1, error
        assert all(words in error for words in said), error
    with pytest.raises(ValueError, match="^model: 3 is neither the name of a model"):
        run([3], "ml-100k")


def test_a_models_own_mistakes_end_before_training(keys):
    class Logits(ContextRecommender):
        def forward(self, interaction):
            return 100 + self.first_order_linear(interaction).squeeze(-1)

        def calculate_loss(self, interaction):
            return self.forward(interaction).mean()

        predict = forward

    class Column(ClickModel):
        def forward(self, interaction):
            return self.first_order_linear(interaction)

    class Crashes(ClickModel):
        def forward(self, interaction):
            return interaction["nothing"]

    class Wide(ClickModel):
        def forward(self, interaction):
            return self.first_order_linear(interaction).repeat(1, 3)

    class Pair(ClickModel):
        def forward(self, interaction):
            return self.first_order_linear(interaction).squeeze(-1), 0

    class Forwardless(ClickModel):
        pass

    class Predictless(ContextRecommender):
        def forward(self, interaction):
            return self.first_order_linear(interaction).squeeze(-1)

    class Lossless(Predictless):
        def predict(self, interaction):
            return self.forward(interaction).sigmoid()

    here = "test_own_model.py, line [0-9]+"
    for model, said in (
        (Logits, "predict gives [0-9.]+, .*end it with torch.sigmoid"),
        (Column, rf"shape .32, 1. for 32 .*end forward with .squeeze\(1\) \(forward in .*{here}"),
        (Wide, rf"shape .32, 3. for 32 rows.*a tensor of shape \[32\] \(forward in .*{here}"),
        (
            Pair,
            rf"Pair: forward gives a tuple, not a tensor \(forward in .*{here}\). Let it return",
        ),
        (
            Forwardless,
            r"Forwardless in .*test_own_model.py has no forward. Define forward\(self, in",
        ),
        (Predictless, "Predictless in .*test_own_model.py has no predict. Define predict"),
        (Lossless, "Lossless in .*test_own_model.py has no calculate_loss. Define calculate_loss"),
        (Crashes, "test_own_model.py, line [0-9]+: KeyError: 'nothing'"),
    ):
        with pytest.raises(ValueError, match=said):
            run(["LR", model], "tiny", config_dict=keys)
    assert not Path("saved").exists()


def test_a_sigmoid_at_the_end_of_forward_is_warned_of_and_nothing_else_is(keys, caplog):
    class Twice(ClickModel):
        def forward(self, interaction):
            return torch.sigmoid(self.first_order_linear(interaction)).squeeze(-1)

    class TwiceByHand(ContextRecommender):
        def __init__(self, config, dataset):
            super().__init__(config, dataset)
            self.loss = torch.nn.BCELoss()

        def forward(self, interaction):
            return torch.sigmoid(self.first_order_linear(interaction)).squeeze(-1)

        def calculate_loss(self, interaction):
            return self.loss(self.forward(interaction), interaction[self.LABEL])

        def predict(self, interaction):
            return torch.sigmoid(self.forward(interaction))

    class Once(TwiceByHand):
        def predict(self, interaction):
            return self.forward(interaction)

    class Zeros(ClickModel):  # whose logits begin as 0 or more, and below 1
        def __init__(self, config, dataset):
            super().__init__(config, dataset)
            for weight in self.parameters():
                torch.nn.init.zeros_(weight)

        def forward(self, interaction):
            return self.first_order_linear(interaction).squeeze(-1)

    class Fixed(Zeros):
        def forward(self, interaction):
            assert not self.first_order_linear.bias.any()
            return super().forward(interaction)

    class OnlyInTheLoss(Twice):  # whose scores are right
        def predict(self, interaction):
            return self.forward(interaction)

    class OwnPredict(Zeros):
        def predict(self, interaction):
            return self.forward(interaction).sigmoid()

    def warned(model):
        caplog.clear()
        prepare(model, "tiny", config_dict=keys)
        return [line for line in caplog.messages if "as if forward returned" in line]

    for model in (Twice, TwiceByHand):
        (line,) = warned(model)
        assert line.startswith(
            f"model: {model.__name__} gives click probabilities from 0.5 to 0.73"
        )
        assert "return logits" in line
    (line,) = warned(OnlyInTheLoss)
    assert "OnlyInTheLoss trains by logits from 0 to 1 alone" in line and "the loss applies" in line
    assert [warned(model) for model in (Once, Zeros, Fixed, OwnPredict)] == [[]] * 4


# ---------------------------------------------------------------- experiments, tuning, resuming


def test_an_experiment_trains_an_edited_model_anew(keys, model_folder):
    file = model_folder / "my_plain.py"
    (model_folder / "my_metrics.py").write_text(METRIC)
    asked = {
        "seeds": 1,
        "config_dict": keys
        | {"metrics": ["AUC", "LogLoss", f"{model_folder / 'my_metrics.py'}:Brier"]},
    }
    (first,) = experiment("compare", "tiny", models=["LR", f"{file}:MyLR"], **asked)
    assert not first.failed and list(first.variants) == ["LR", "MyLR"]
    assert "| Brier |" in (first.folder / "table.md").read_text().splitlines()[4]
    log = (first.folder / "experiment.log").read_text()
    assert "MyLR, run 2 of 2, seed 2020" in log and "MyLR, MyLR" not in log
    (again,) = experiment("compare", "tiny", models=["LR", f"{file}:MyLR"], **asked)
    assert [r["config_hash"] for r in again.runs] == [r["config_hash"] for r in first.runs]
    assert [r.folder for r in again.runs] == [r.folder for r in first.runs]
    file.write_text(PLAIN.replace("squeeze(-1)", "squeeze(-1) * 2"))
    references.KNOWN.clear()
    sys.modules.pop(references.module_name(file))
    (edited,) = experiment("compare", "tiny", models=["LR", f"{file}:MyLR"], **asked)
    (lr, mine), (lr_before, mine_before) = edited.runs, first.runs
    assert lr["folder"] == lr_before["folder"] and mine["config_hash"] != mine_before["config_hash"]
    assert mine["model"] == "MyLR" and mine["test"] != mine_before["test"]


FACTORY = """
from recbole_genci.model.base import ClickModel

def make(width):
    class Net(ClickModel):
        def forward(self, interaction):
            return self.first_order_linear(interaction).squeeze(-1) * width
    return Net

Narrow, Wide = make(1), make(2)
Plain, Odd = (type("Net", (ClickModel,), {"width": width}) for width in (1, 2))
Same = make(1)
"""


def test_classes_of_one_name_and_file_are_different_runs(keys, model_folder):
    file = model_folder / "my_factory.py"
    file.write_text(FACTORY)

    def hash_of(model):
        return run_hash(Config(model, "tiny", config_dict=keys), 2020, "rows", None)

    names = ["Narrow", "Wide", "Plain", "Odd"]
    assert len({hash_of(f"{file}:{name}") for name in names}) == 4
    narrow, wide, same = (
        own_code.load_object(f"{file}:{name}", "model") for name in ("Narrow", "Wide", "Same")
    )
    assert hash_of(narrow) != hash_of(wide)
    assert hash_of(narrow) == hash_of(same)
    assert own_code.source_digest(narrow) == own_code.source_digest(same)


PARTIAL = """
import functools
import numpy as np

def share(labels, probabilities, threshold):
    return float((probabilities > threshold).mean())

Share = functools.partial(share, threshold=0.6)
Top = np.linalg.norm
"""


def test_an_edited_metric_made_by_a_library_is_another_run(keys, model_folder):
    file = model_folder / "my_partial.py"

    def hash_of(text, name):
        file.write_text(text)
        own_code.source_digest.cache_clear()
        references.KNOWN.clear()
        sys.modules.pop(references.module_name(file), None)
        names = ["AUC", "LogLoss", f"{file}:{name}"]
        config = Config("LR", "tiny", config_dict=keys | {"metrics": names})
        return run_hash(config, 2020, "rows", None)

    for name in ("Share", "Top"):
        edited = PARTIAL.replace("0.6", "0.7").replace("norm", "det")
        assert hash_of(PARTIAL, name) == hash_of(PARTIAL, name) != hash_of(edited, name)
    share = functools.partial(max, 0.5)
    with pytest.raises(ValueError, match="^metrics: functools.partial.* has no name by which"):
        prepare("LR", "tiny", config_dict=keys | {"metrics": ["AUC", "LogLoss", share]})


def test_the_digest_of_a_model_covers_the_modules_that_its_file_imports(model_folder, tmp_path):
    def digest_in(folder, name="my_models:MyNet"):
        """As another process finds it."""
        references.KNOWN.clear()
        own_code.source_digest.cache_clear()
        for module in [each for each in sys.modules if each.startswith("my_")]:
            del sys.modules[module]
        sys.path[:] = [str(folder), *(each for each in sys.path if "theirs" not in each)]
        return own_code.source_digest(own_code.load_object(name, "model"))

    folder = model_folder
    alone = digest_in(folder)
    assert alone == hashlib.sha256(NET.encode()).hexdigest()  # as it always was
    imports = "import my_helper\nfrom my_package.parts import SIZE\n\n"
    late = "\n\ndef later():\n    from my_late import WORD\n    return WORD\n"
    (folder / "my_models.py").write_text(imports + NET + late)
    (folder / "my_package").mkdir()
    files = {
        "my_helper.py": "import numpy\nfrom my_deep import *\n",
        "my_deep.py": "import my_helper\nSCALE = 1.0\n",
        "my_package/__init__.py": "from . import more\n",
        "my_package/parts.py": "from .more import SIZE\nfrom os import path\n",
        "my_package/more.py": "SIZE = 3\n",
        "my_late.py": "WORD = 'late'\n",
        "my_other.py": "NOT = 'imported'\n",
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    before = digest_in(folder)
    __import__("my_late")  # loaded or not, it counts the same
    own_code.source_digest.cache_clear()
    assert own_code.source_digest(own_code.load_object("my_models:MyNet", "model")) == before
    assert digest_in(folder, f"{folder / 'my_models.py'}:MyNet") == before
    found = {}
    for name, content in files.items():
        (folder / name).write_text(content + "# edited\n")
        found[name] = digest_in(folder)
        (folder / name).write_text(content)
    assert [name for name, digest in found.items() if digest == before] == ["my_other.py"]
    assert len(set(found.values())) == len(found)
    moved = shutil.copytree(folder, tmp_path / "elsewhere/theirs")
    assert digest_in(moved) == before


def test_tuning_from_the_command_and_going_on_in_a_strangers_folder(
    keys, model_folder, monkeypatch, capsys
):
    monkeypatch.chdir(model_folder)
    Path("space.test").write_text("my_width choice [2, 4]\n")
    words = as_words(keys | {"epochs": 1})
    assert tune_command(["--model=my_models:MyNet", *words, "--params_file=space.test"]) == 0
    (folder,) = Path("results").iterdir()
    assert folder.name.startswith("hyper-MyNet-tiny-")
    result = json.loads((folder / "hyper_result.json").read_text())
    assert [r["status"] for r in result["trials"]] == ["finished"] * 2 and result["selected"][
        "params"
    ]["my_width"] in (2, 4)
    references.KNOWN.clear()
    del sys.modules["my_models"]
    assert tune_command([f"--resume_search={folder}"]) == 2 and "my_models" not in sys.modules
    assert "--resume_search=<folder> --model=<module:Class>" in capsys.readouterr().err
    again = resume_search(folder, model=f"{model_folder / 'my_models.py'}:MyNet")
    assert again["selected"]["test"] == result["selected"]["test"]
    selected = load(again["selected"]["folder"], model=f"{model_folder / 'my_models.py'}:MyNet")
    assert selected.evaluate() == result["selected"]["test"]


def test_a_search_over_a_class_from_python(keys):
    class Local(ClickModel):
        def forward(self, interaction):
            return self.first_order_linear(interaction).squeeze(-1)

    Path("space.test").write_text("learning_rate choice [0.001, 0.01]\n")
    result = tune(Local, "tiny", "space.test", config_dict=keys)
    assert [record["status"] for record in result["trials"]] == ["finished"] * 2


def test_resuming_ends_as_a_run_that_was_not_stopped_and_never_with_edited_code(
    keys, model_folder, monkeypatch, capsys
):
    monkeypatch.chdir(model_folder)
    (whole,) = run("my_models:MyNet", "tiny", config_dict=keys)
    with monkeypatch.context() as patched:
        stop_after(0, patched)
        with pytest.raises(KeyboardInterrupt):
            run("my_models:MyNet", "tiny", config_dict=keys)
    folder = next(file.parent for file in Path("saved").glob("*/training.safetensors"))
    references.KNOWN.clear()
    del sys.modules["my_models"]
    assert main([f"--resume={folder}"]) == 2 and "my_models" not in sys.modules
    assert "--resume=<folder> --model=<module:Class>" in capsys.readouterr().err
    own_code.source_digest.cache_clear()
    Path("my_models.py").write_text(NET + "\n# another word\n")
    with pytest.raises(ValueError, match="was trained on model source"):
        resume(folder, trust_code=True)
    references.KNOWN.clear()
    del sys.modules["my_models"]
    Path("my_models.py").write_text(NET)
    with monkeypatch.context() as patched:  # going on by another way, and stopped at once
        patched.setattr(CTRTrainer, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            resume(folder, model=f"{model_folder / 'my_models.py'}:MyNet")
    assert main([f"--resume={folder}", "--model=my_models:MyNet"]) == 0
    assert json.loads((folder / "metrics.json").read_text())["test"] == whole["test"]


# ---------------------------------------------------------------- a stranger's folder


@pytest.mark.parametrize("key", ["model", "metrics", "valid_metric"])
@pytest.mark.parametrize("place", ["evil", "evil.py", "{folder}/evil.py"])
def test_a_strangers_folder_runs_no_code(keys, tmp_path, capsys, key, place):
    (result,) = run("LR", "tiny", config_dict=keys)
    folder, marker = Path(result["folder"]), tmp_path / "marker"
    code = f"open({str(marker)!r}, 'w').close()\n{PLAIN.replace('MyLR', 'Evil')}"
    for target in (folder, Path()):
        (target / "evil.py").write_text(code)
    reference = place.format(folder=folder) + ":Evil"
    asked = yaml.safe_load((folder / "config.yaml").read_text())
    asked |= {key: ["AUC", "LogLoss", reference] if key == "metrics" else reference}
    (folder / "config.yaml").write_text(yaml.safe_dump(asked))
    for attempt in (load, Ranker):
        with pytest.raises(ValueError, match=f"^{key}: .* importing it would run that code"):
            attempt(folder)
    (folder / "training.safetensors").touch()
    with pytest.raises(ValueError, match=f"^{key}: .* importing it would run that code"):
        resume(folder)
    assert main([f"--resume={folder}"]) == 2
    search = Path("search")
    search.mkdir()
    (search / "config.yaml").write_text(yaml.safe_dump(asked))
    content = {"settings": {}, "command": "", "config": asked, "params_sha256": ""}
    (search / "search.json").write_text(sealed_line(content))
    with pytest.raises(ValueError, match=f"^{key}: .* importing it would run that code"):
        resume_search(search)
    assert report([str(folder)]) == 0
    assert not marker.exists() and "evil" not in sys.modules


def test_permission_is_what_imports(keys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_plain.py").write_text(PLAIN)
    (result,) = run("my_plain:MyLR", "tiny", config_dict=keys)
    references.KNOWN.clear()
    del sys.modules["my_plain"]
    with pytest.raises(ValueError, match="give load or Ranker the class by model"):
        load(result["folder"])
    assert "my_plain" not in sys.modules
    assert (
        load(result["folder"], trust_code=True).evaluate() == result["test"]
        and "my_plain" in sys.modules
    )
    with pytest.raises(ValueError, match="trust_code: 'yes' is neither True nor False"):
        load(result["folder"], trust_code="yes")


# ---------------------------------------------------------------- metrics and callbacks


def test_gauc_is_ours_and_selects_the_best_epoch(keys):
    from recbole_genci.evaluation.gauc import gauc

    (result,) = run(
        "DeepFM",
        "tiny",
        config_dict=keys | {"metrics": ["AUC", "LogLoss", "GAUC"], "valid_metric": "gauc"},
    )
    loaded = load(result["folder"])
    scores, labels = loaded.predict()
    test = loaded.parts[2]
    assert result["test"]["gauc"] == pytest.approx(
        gauc(test.inter_feat[test.uid_field], labels, scores), abs=1e-6
    )
    assert result["test"]["gauc"] != result["test"]["auc"]
    with pytest.raises(ValueError, match="valid_metric: gauc of the validation rows is undefined"):
        leave_one_out = {"eval_args": {"split": {"LS": "valid_and_test"}}}
        run(
            "LR",
            "tiny",
            config_dict=keys
            | leave_one_out
            | {"metrics": ["AUC", "LogLoss", "GAUC"], "valid_metric": "gauc"},
        )


def test_a_metric_that_is_better_when_smaller_keeps_the_epoch_with_the_smallest(keys, model_folder):
    seen = []
    metric = f"{model_folder / 'my_metrics.py'}:Brier"
    more = {
        "metrics": ["AUC", "LogLoss", metric],
        "valid_metric": metric,
        "epochs": 4,
        "stopping_step": 9,
        "learning_rate": 0.05,
    }
    (result,) = run("DeepFM", "tiny", config_dict=keys | more, callbacks=[seen.append])
    assert [event.epoch for event in seen] == [1, 2, 3, 4] and {event.model for event in seen} == {
        "DeepFM"
    }
    scores = [event.score for event in seen]
    assert np.argmin(scores) != np.argmax(scores) and result["best_epoch"] == 1 + int(
        np.argmin(scores)
    )
    worse = RunResult.of({**result, "best_valid": {"brier": max(scores)}})
    assert Results((worse, result), None, "").best("Brier") is result
    assert result["best_valid"]["brier"] == min(scores) and (
        seen[0].metric,
        str(seen[0].folder),
    ) == ("Brier", result["folder"])
    loaded = load(result["folder"])
    scores, labels = loaded.predict()
    assert result["test"]["brier"] == pytest.approx(
        ((labels - scores.double()) ** 2).mean().item(), abs=1e-6
    )


def test_a_metric_may_be_a_class_of_recboles_kind_or_a_function_from_python(keys, model_folder):
    from recbole.evaluator.base_metric import LossMetric

    class Spread(LossMetric):
        def calculate_metric(self, dataobject):
            return self.output_metric("spread", dataobject)

        def metric_info(self, preds, trues):
            return float(np.std(preds))

    def accuracy(labels, probabilities):
        return ((probabilities > 0.5) == labels).mean()

    (result,) = run(
        "LR", "tiny", config_dict=keys | {"metrics": ["AUC", "LogLoss", Spread, accuracy]}
    )
    scores, labels = load(result["folder"]).predict()
    assert result["test"]["spread"] == pytest.approx(scores.numpy().std(), abs=1e-5)
    assert result["test"]["accuracy"] == pytest.approx(
        ((scores > 0.5) == labels).double().mean().item(), abs=1e-6
    )


def test_metrics_that_cannot_be_measured_are_refused(keys, model_folder, monkeypatch, capsys):
    monkeypatch.chdir(model_folder)
    Path("my_wrong_metrics.py").write_text(
        "from recbole.evaluator.metrics import Hit\nfrom recbole.evaluator.base_metric import "
        "TopkMetric\n"
        "class Top(TopkMetric): pass\nnumber = 3\ndef AUC(labels, probabilities): return 1\n"
        "def fails(labels, probabilities): return labels / nothing\n"
    )
    words = as_words(keys)
    cases = {
        "my_wrong_metrics:Top": "needs rec.topk",
        "my_wrong_metrics:number": "is a int",
        "my_wrong_metrics:AUC": "Rename it",
        "my_wrong_metrics:fails": "my_wrong_metrics.py, line 6: NameError",
        "my_metrics:Brie": "Did you mean 'Brier'",
        "Brier": "or give one of your own as module:function",
        "AUC": "is named twice",
    }
    for metric, said in cases.items():
        assert main(["--model=LR", *words, f"--metrics=['AUC', 'LogLoss', '{metric}']"]) == 2, (
            metric
        )
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("recbole_genci: metrics: ") and said in error, error
    assert not Path("saved").exists()


def test_a_callback_that_draws_random_numbers_does_not_change_the_run(keys):
    import random

    def draw(event):
        torch.rand(3), np.random.rand(), random.random()

    keys["dropout_prob"] = 0.2
    more = keys | {"epochs": 2}
    (alone,), (watched,) = (
        run("DeepFM", "tiny", config_dict=more, callbacks=each) for each in ([], [draw])
    )
    assert (watched.test, watched.best_valid) == (alone.test, alone.best_valid)


def test_an_exception_in_a_callback_ends_the_run_and_says_where(keys):
    def stop(event):
        raise KeyError("enough")

    said = (
        "callbacks: stop failed after epoch 1 of LR.*test_own_model.py, line .*KeyError: 'enough'"
    )
    with pytest.raises(RuntimeError, match=said):
        run("LR", "tiny", config_dict=keys, callbacks=[stop])
    with pytest.raises(ValueError, match="callbacks: 3 cannot be called"):
        run("LR", "tiny", config_dict=keys, callbacks=[3])
    with pytest.raises(ValueError, match="callbacks: they are called in this process"):
        run("LR", "tiny", config_dict=keys | {"nproc": 2}, callbacks=[stop])
    assert torch.is_grad_enabled()


def test_a_configuration_file_runs_no_code_unless_it_is_allowed(keys, tmp_path, capsys):
    """A stranger's config.yaml may also arrive by config_files."""
    marker = tmp_path / "marker"
    del keys["metrics"]  # so that those of the file count
    Path("evil.py").write_text(f"open({str(marker)!r}, 'w').close()\n{METRIC}")
    file = Path("theirs.yaml")
    for key, value in (("metrics", ["AUC", "LogLoss", "evil.py:Brier"]), ("valid_metric", "e:B")):
        file.write_text(yaml.safe_dump({key: value}))
        with pytest.raises(ValueError, match=f"^{key}: theirs.yaml names code, .* --trust_code"):
            run("DeepFM", "tiny", [str(file)], keys)
    file.write_text(yaml.safe_dump({"trust_code": True}))
    with pytest.raises(ValueError, match="^trust_code: .* a file cannot allow its own code"):
        run("DeepFM", "tiny", [str(file)], keys)
    assert not marker.exists()
    file.write_text(yaml.safe_dump({"metrics": ["AUC", "LogLoss", "evil.py:Brier"]}))
    (result,) = run("DeepFM", "tiny", [str(file)], keys, ["--trust_code=True"])
    assert marker.exists() and "brier" in result.test
    assert "trust_code" not in (result.folder / "config.yaml").read_text()
    assert load(result.folder).evaluate() == result.test  # known by now
