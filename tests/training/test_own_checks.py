"""A model is built, and its batches are tried, before the first one trains."""

from pathlib import Path

import pytest
from conftest import tiny_rows, write_dataset

from recbole_genci.plan import prepare


@pytest.fixture
def keys(tmp_path):
    return write_dataset(tmp_path, tiny_rows())


@pytest.mark.parametrize("model", ["NFM", "DIN", "DIEN", "DCNV2"])
def test_batch_normalisation_refuses_batches_of_one_row(model, keys):
    with pytest.raises(
        ValueError, match=f"^train_batch_size: a batch has one row, .* of {model} cannot train"
    ):
        prepare(model, "tiny", config_dict=keys | {"train_batch_size": 1})


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
