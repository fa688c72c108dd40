"""A model is built, and its batches are tried, before the first one trains."""

import re
from pathlib import Path

import pytest
from conftest import make_model, tiny_rows, write_dataset

from recbole_genci.config import Config
from recbole_genci.config.keys import read_keys
from recbole_genci.config.unknown_keys import undeclared
from recbole_genci.experiments import experiment
from recbole_genci.model.registry import known_models
from recbole_genci.plan import prepare
from recbole_genci.quick_start import run
from recbole_genci.training.own_scores import _draw_weights, changes_with, reads_other_rows


@pytest.fixture
def keys(tmp_path):
    return write_dataset(tmp_path, tiny_rows())


@pytest.mark.parametrize("model", ["NFM", "DIN", "DIEN", "DCNV2"])
def test_batch_normalisation_refuses_batches_of_one_row(model, keys):
    with pytest.raises(
        ValueError, match=f"^train_batch_size: a batch has one row, .* of {model} cannot train"
    ):
        prepare(model, "tiny", config_dict=keys | {"train_batch_size": 1})


TRAINED = """
import torch
from recbole_genci.model.base import ClickModel

class Own(ClickModel):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.item = torch.nn.Embedding(dataset.num("item_id"), 2, sparse={})
        self.out, numbers = torch.nn.LazyLinear(1), torch.arange(3.0)
        self.register_buffer("numbers", numbers)
        self.register_buffer("others", numbers[1:])

    def forward(self, interaction):
        return self.out(self.item(interaction["item_id"])).{}
"""


def test_an_own_model_that_cannot_train_on_one_row_is_told_where(keys):
    del keys["mlp_hidden_size"]
    Path("own.py").write_text(TRAINED.format(False, "squeeze()"))
    said = (
        r"^train_batch_size: a batch has one row, and Own cannot train on one row alone "
        r"\(forward in .*own.py, line 13\): ValueError: Target size .*\. Give .* or write .squeeze"
    )
    with pytest.raises(ValueError, match=said):
        prepare("own.py:Own", "tiny", config_dict=keys | {"train_batch_size": 1})
    Path("right.py").write_text(TRAINED.format(False, "squeeze(1)"))
    assert prepare("right.py:Own", "tiny", config_dict=keys | {"train_batch_size": 1}).parts


@pytest.mark.parametrize(
    ("more", "who"),
    [
        ({"weight_decay": 0}, "learner adam"),
        ({"weight_decay": 0.1, "learner": "SGD"}, "learner sgd with weight_decay"),
        ({"weight_decay": 0, "learner": "SGD"}, None),
    ],
)
def test_sparse_gradients_are_refused_where_no_step_takes_them(more, who, keys):
    del keys["mlp_hidden_size"]
    Path("own.py").write_text(TRAINED.format(True, "squeeze(1)"))
    if who is None:  # nor do layers without a size, and tensors that overlap, stand in the way
        (result,) = run("own.py:Own", "tiny", config_dict=keys | more | {"recipe": "paper"})
        assert result.load().evaluate() == result.test
        return
    said = f"^model: Own: the gradient of item.weight is sparse, which {who} does not take. Make "
    with pytest.raises(ValueError, match=said):
        prepare("own.py:Own", "tiny", config_dict=keys | more)


@pytest.mark.parametrize("model", ["DeepFM", "AFN"])
def test_models_that_can_train_on_one_row_may(model, keys):
    del keys["mlp_hidden_size"]
    assert prepare(model, "tiny", config_dict=keys | {"train_batch_size": 1}).parts


@pytest.mark.parametrize(
    ("size", "value"), [("embedding_size", 2**31 - 1), ("mlp_hidden_size", [2**31 - 1] * 2)]
)
def test_sizes_beyond_memory_are_named(size, value, keys):
    with pytest.raises(
        ValueError, match="^model: DeepFM cannot be built with sizes like "
    ) as error:
        prepare("DeepFM", "tiny", config_dict=keys | {size: value})
    assert f"sizes like {size}={value}, " in str(error.value)
    assert "Make them smaller." in str(error.value)


OWN = """
from recbole_genci.model.base import ClickModel

class Own(ClickModel):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.l2 = {}
"""


@pytest.mark.parametrize(
    ("words", "fault", "has_hint"),
    [
        ('config["weight_decay"] / 2', "TypeError: unsupported operand", True),
        ('float(config["weight_decay"])', "ValueError: could not convert string to float", True),
        ('config["embedding_size"].no', "AttributeError", False),
    ],
)
def test_an_own_model_that_takes_a_decay_by_rows_for_a_number_is_told_so(
    words, fault, has_hint, keys
):
    del keys["mlp_hidden_size"]
    Path("own.py").write_text(OWN.format(words))
    with pytest.raises(ValueError, match=f"^model: Own: .*own.py, line 7: {fault}") as error:
        prepare("own.py:Own", "tiny", config_dict=keys | {"weight_decay": "30/rows"})
    hint = "Its file reads weight_decay, here the text '30/rows'; the number is "
    assert (hint in str(error.value)) == has_hint


LOSS = """
import torch
import torch.nn.functional as F
from recbole_genci.model.base import ClickModel

class Own(ClickModel):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.out = torch.nn.Linear(self.num_feature_field * self.embedding_size, 1)

    def forward(self, interaction):
        return self.out(self.concat_embed_input_fields(interaction).flatten(1)).squeeze(1)

    def calculate_loss(self, interaction):
        z, y = self.forward(interaction), interaction[self.LABEL]
        return {}
"""


@pytest.mark.parametrize(
    ("loss", "is_right"),
    [
        ("F.cross_entropy(torch.stack([-z, z], 1), y.long())", False),
        ("F.softplus(torch.where(y > 0.5, -z, z)).mean()", False),
        ("F.softplus(torch.where(y.bool(), -z, z)).mean()", False),
        ("F.softplus(-z[y == 1]).sum() + F.softplus(z[y != 1]).sum()", False),
        ("F.binary_cross_entropy_with_logits(z, y)", True),
        ("(F.mse_loss(z.sigmoid(), y), self.out.weight.square().sum())", True),
    ],
)
def test_a_loss_that_takes_labels_for_classes_has_no_teacher(loss, is_right, keys):
    del keys["mlp_hidden_size"]
    Path("own.py").write_text(LOSS.format(loss))
    assert prepare("own.py:Own", "tiny", config_dict=keys).parts
    if is_right:
        assert prepare("own.py:Own", "tiny", config_dict=keys | {"sr_weight": 1}).parts
        return
    with pytest.raises(ValueError, match="^sr_weight: Own has one loss for labels of 0.25 and"):
        prepare("own.py:Own", "tiny", config_dict=keys | {"sr_weight": 1})


KEYS = """
import torch
from recbole_genci.model.base import ClickModel

class KeyNet(ClickModel):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.gate, self.later = config["use_gate"], {}
        self.made = torch.nn.Linear({}, 1)

    def forward(self, interaction):
        {}
        return self.first_order_linear(interaction).squeeze(-1)
"""


def fault_of(tmp_path, keys, *parts, check=""):
    """The error, or without one the warnings, of a model with these parts."""
    del keys["mlp_hidden_size"]
    file = tmp_path / "theirs/key_models.py"
    file.parent.mkdir()
    file.write_text(KEYS.format(*parts) + check)
    with pytest.raises(ValueError) as error:
        prepare(f"{file}:KeyNet", "tiny", config_dict=keys)
    assert str(error.value).startswith(f"model: KeyNet: {file}, line ")
    return str(error.value)


READS = 'config["embedding_size"]', "2", "self.later + 1"
CHECK = """
    @classmethod
    def check_settings(cls, config):
        config["key_width"] > 3
"""


@pytest.mark.parametrize(
    ("parts", "check", "fault", "read"),
    [
        ((READS[0], 'config["key_width"]', READS[2]), "", "TypeError", ["use_gate", "key_width"]),
        ((READS[0], "config.key_width", READS[2]), "", "AttributeError", ["use_gate", "key_width"]),
        (('config["late"]', "2", READS[2]), "", "TypeError", ["use_gate", "late"]),
        (READS, CHECK, "TypeError", ["key_width"]),
    ],
)
def test_keys_that_no_file_declares_are_named_with_the_file(
    parts, check, fault, read, keys, tmp_path
):
    said = fault_of(tmp_path, keys, *parts, check=check)
    listed = " and ".join(f"config['{key}']" for key in read)
    rest = "is None: no file declares it. Write a line"
    if len(read) > 1:
        rest = "are None: no file declares them. Write a line for each,"
    assert f"{fault}: " in said and said.endswith(
        f". {listed} {rest} such as `{read[-1]}: 16  # (int >= 1) What it is.` into "
        f"{tmp_path}/theirs/KeyNet.yaml (not found)."
    )


@pytest.mark.parametrize("there", ["keynet.yaml", "KeyNet.yml", "key_net.yaml"])
def test_a_misnamed_file_of_defaults_is_seen(there, keys, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / there).write_text("key_width: 8\n")
    (tmp_path / "theirs/other.yaml").write_text("key_width: 8\n")
    file = tmp_path / "theirs/key_models.py"
    file.write_text(KEYS.format("1", 'config["key_width"]', "pass"))
    missing = f"{file.parent}/KeyNet.yaml (not found; {there} is there)."
    del keys["mlp_hidden_size"]
    with pytest.raises(ValueError, match=f"into {re.escape(missing)}$"):
        prepare(f"{file}:KeyNet", "tiny", config_dict=keys)
    with pytest.raises(ValueError, match=f"'key_width' is .* are those of {re.escape(missing)}"):
        Config("LR", "tiny", None, keys, ["--key_width=8"], [f"{file}:KeyNet"])


@pytest.mark.parametrize("key", ["key_width", "use_gate", "my_dropout", "loss_weight", "heads"])
def test_the_line_that_is_proposed_is_right(key, tmp_path):
    entry = Config("LR", "ml-100k").entry
    line = re.search("`(.*)`", undeclared(entry, ["first", key]))[1]
    (tmp_path / "a.yaml").write_text(line + "\n")
    declared = read_keys([tmp_path / "a.yaml"])[key]
    declared.check(declared.default)
    assert declared.kind is not None


def test_an_undeclared_key_of_a_model_that_works_is_warned_of(keys, tmp_path, caplog):
    """None counts as False."""
    del keys["mlp_hidden_size"]
    Path("key_models.py").write_text(KEYS.format("1", 'config["key_width"]', "pass"))
    Path("KeyNet.yaml").write_text("key_width: 8  # (int >= 1) Units.\n")
    prepare("key_models.py:KeyNet", "tiny", config_dict=keys)
    (said,) = [words for words in caplog.messages if "no file declares" in words]
    assert said.startswith("model: KeyNet: config['use_gate'] is None: no file declares it. Write")
    assert said.endswith(f"into {Path('KeyNet.yaml').resolve()}.")
    Path("KeyNet.yaml").write_text("key_width: 8  # (int >= 1) Units.\nuse_gate: ~\n")
    caplog.clear()
    prepare("key_models.py:KeyNet", "tiny", config_dict=keys)
    assert not any("no file declares" in words for words in caplog.messages)


def test_a_class_in_no_file_is_told_that_it_needs_one(keys, monkeypatch):
    """As in a notebook, of which no file declares keys."""
    namespace = {"__name__": "notebook"}
    exec(compile(KEYS.format("1", 'config["key_width"]', "pass"), "/cell_1.py", "exec"), namespace)
    del keys["mlp_hidden_size"]
    with pytest.raises(ValueError, match=r"into KeyNet.yaml beside its file \(it is in no file"):
        prepare(namespace["KeyNet"], "tiny", config_dict=keys)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ('["item_id_list"]', "Batches have 'item_id_list' if the class sets reads_history = True."),
        ('["item_length"]', "'item_length' if the class sets reads_history = True."),
        (".item_length", "'item_length' if the class sets reads_history = True."),
        ('["neg_item_id_list"]', "if the class sets reads_negatives = True."),
        ('["semantic_ids"]', "if the class sets reads_semantic_ids = True."),
        ('["segments"]', "if the class sets reads_distinct_histories = True."),
        ('["agee"]', "Batches have the columns user_id, item_id, label, timestamp, age, year, gen"),
    ],
)
def test_a_column_that_batches_lack_is_explained(column, said, keys, tmp_path):
    words = fault_of(tmp_path, keys, "1", "2", f"interaction{column}")
    assert said in words and ("load_col says" in words) == ("agee" in column)


def test_an_error_of_a_models_own_dict_is_not_one_of_columns(keys, tmp_path):
    assert "Batches" not in fault_of(tmp_path, keys, "1", "2", "{}['nothing']")


SCORES = """
import torch
from recbole_genci.model.base import ClickModel


class {name}(ClickModel):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.of_label = torch.nn.Parameter(torch.zeros(1))

    def forward(self, interaction):
        z = self.first_order_linear(interaction).squeeze(-1)
        return {logits}
"""
PREDICT = """
    def predict(self, interaction):
        return (super().predict(interaction) + interaction[self.LABEL]) / 2
"""


def tried(name, logits, keys, more="", **given):
    """Prepare a model of one's own that stands in a file of its own."""
    keys = {key: value for key, value in keys.items() if key != "mlp_hidden_size"} | given
    Path(f"{name}.py").write_text(SCORES.format(name=name, logits=logits) + more)
    return prepare(f"{name}.py:{name}", "tiny", config_dict=keys)


@pytest.mark.parametrize(
    ("name", "logits", "more"),
    [
        ("Adds", 'z + interaction["label"].float() * 5', ""),
        ("Little", "z + 0.001 * interaction[self.LABEL]", ""),
        ("BeginsAsZero", "z + self.of_label * interaction[self.LABEL]", ""),
        ("NextRow", "z + interaction[self.LABEL].roll(1)", ""),
        ("Predicts", "z", PREDICT),
    ],
)
def test_a_model_whose_scores_change_with_the_label_is_refused(name, logits, more, keys):
    with pytest.raises(ValueError, match=f"^model: {name}: its scores change with ") as error:
        tried(name, logits, keys, more)
    said = str(error.value)
    assert "the column 'label'; see forward in " in said and f"{name}.py, line 11" in said
    assert ("and predict in " in said) == bool(more)
    assert "The label is no feature (docs/protocol.md): let only calculate_loss read" in said
    assert "\n" not in said


LABEL_IN_LOSS = """
    def calculate_loss(self, interaction):
        return super().calculate_loss(interaction) * (1 + interaction[self.LABEL]).mean()
"""


@pytest.mark.parametrize(
    ("name", "logits", "more"),
    [
        ("Plain", "z", LABEL_IN_LOSS),
        ("Shape", "z + torch.zeros_like(interaction[self.LABEL])", ""),
        ("Random", "z + torch.rand_like(z)", ""),
        ("Fails", "z / (1 if self.of_label.item() == 0 else None)", ""),
    ],
)
def test_a_model_whose_scores_do_not_is_not(name, logits, more, keys, caplog):
    assert tried(name, logits, keys, more).parts
    assert not [line for line in caplog.messages if "is in its batch" in line]


@pytest.mark.parametrize(
    "logits", ["z - z.mean()", "z.cumsum(0)", "z.flip(0).cumsum(0).flip(0)", "z.softmax(0)"]
)
def test_a_model_that_reads_other_rows_is_warned_of(logits, keys, caplog):
    name = f"Rows{len(logits)}"
    tried(name, logits, keys)
    (line,) = [line for line in caplog.messages if "another score" in line]
    assert line.startswith(f"model: {name} gives a row another score if other rows are in its")
    assert f"{name}.py, line 11" in line and "change with eval_batch_size" in line


def test_batches_do_not_hold_the_column_that_labels_are_made_of(keys, tmp_path):
    file = tmp_path / "tiny/tiny.inter"
    file.write_text(file.read_text().replace("label:float", "rating:float"))
    columns = ["user_id", "item_id", "rating", "timestamp"]
    given = {
        "load_col": keys["load_col"] | {"inter": columns},
        "threshold": {"rating": 1},
        "LABEL_FIELD": "label",
    }
    plan = tried("OfRatings", "z", keys, **given)
    assert (
        "rating" not in plan.parts[0][:3].interaction and "label" in plan.parts[0][:3].interaction
    )
    with pytest.raises(ValueError, match="line 13: KeyError: 'rating'"):
        tried("ReadsRatings", 'z + interaction["rating"]', keys, **given)


def test_no_model_of_the_package_is_refused_or_warned_of(tiny_parts):
    parts, keys = tiny_parts
    for name in known_models():
        model, (train, *_) = make_model(name, parts, keys)
        batch = train[:32]
        assert not changes_with(model, batch, "label"), name
        assert not reads_other_rows(model, batch, train[:32:2]), name
        assert _draw_weights(model, 0)
        assert not changes_with(model, batch, "label"), name


def test_an_experiment_records_why_it_does_not_train_a_model(keys):
    Path("Leaks.py").write_text(SCORES.format(name="Leaks", logits="z + interaction[self.LABEL]"))
    del keys["mlp_hidden_size"]
    models = ["LR", "Leaks.py:Leaks"]
    (result,) = experiment("compare", "tiny", models, 1, config_dict=keys)
    (failed,) = result.failed
    assert failed.variant == "Leaks" and "scores change with the column 'label'" in failed.error


def test_an_experiment_makes_the_checks_of_a_run(keys, caplog):
    asked = keys | {"train_batch_size": 1, "topk": 5, "weight_decay": 0.1, "stopping_step": 0}
    asked["weight_decay_of"] = "vectors"
    models = ["LR", "NFM"]
    (result,) = experiment("compare", "tiny", models, 1, config_dict=asked)
    (failed,) = result.failed
    assert "train_batch_size: a batch has one row, and the batch norm" in failed.error
    assert caplog.text.count("topk: this key does nothing here") == 1
    assert caplog.text.count("weight_decay: this key does nothing for LR") == 1
    Path("own_metric.py").write_text("def Broken(labels, scores):\n    return labels['x']\n")
    asked["metrics"] = ["AUC", "LogLoss", "own_metric.py:Broken"]
    with pytest.raises(ValueError, match="^metrics: Broken: .*own_metric.py, line 2: IndexError"):
        experiment("compare", "tiny", models, 1, config_dict=asked)
