"""Parameter files: RecBole's format, read without running it."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recbole_genci
from recbole_genci.config import Config
from recbole_genci.tuning.space import (
    Choice,
    LogUniform,
    QUniform,
    Uniform,
    canonical,
    check_space,
    parse_space,
    read_params_file,
)

NAMES = st.from_regex(r"[a-z][a-z_]{0,12}", fullmatch=True)
WORDS = st.from_regex(r"[a-z][a-z]{3,8}", fullmatch=True).filter(
    lambda word: word not in ("true", "false", "none", "null")
)
NUMBERS = st.integers(-1000, 1000) | st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False)
VALUES = (
    NUMBERS
    | st.booleans()
    | WORDS
    | st.lists(st.integers(1, 512), max_size=3)
    | st.dictionaries(WORDS, NUMBERS, max_size=2)
)
FLOATS = st.floats(
    -50, 50, allow_subnormal=False
)  # training flushes subnormal numbers, for the whole process
BOUNDS = st.tuples(FLOATS, FLOATS).map(sorted).filter(lambda pair: pair[0] < pair[1])


@given(
    st.dictionaries(
        NAMES, st.lists(VALUES, min_size=1, max_size=5, unique_by=canonical), min_size=1, max_size=4
    )
)
def test_choices_come_back_as_they_were_written(choices):
    text = "# a comment of more than three words\n\n" + "\n".join(
        f"{name}  choice {v!r}" for name, v in choices.items()
    )
    assert parse_space(text, "file") == {
        name: Choice(tuple(values)) for name, values in choices.items()
    }


@given(BOUNDS, st.sampled_from(["uniform", "loguniform"]), st.integers(0, 99))
def test_ranges_hold_every_value_that_is_drawn(bounds, kind, seed):
    low, high = bounds
    if kind == "loguniform" and (low > 0 or low > -1 and high < 0.5):
        return  # meant as values
    parameter = parse_space(f"x {kind} {low!r}, {high!r}  # why", "file")["x"]
    assert parameter == {"uniform": Uniform, "loguniform": LogUniform}[kind](low, high)
    value = parameter.rvs(np.random.RandomState(seed))
    least, most = (low, high) if kind == "uniform" else (math.exp(low), math.exp(high))
    assert least <= value <= most and isinstance(value, float)


@given(
    st.integers(-20, 20), st.integers(2, 20), st.sampled_from([1, 2, 0.5, 0.1]), st.integers(0, 99)
)
def test_steps_are_multiples_and_whole_where_the_step_is(low, width, step, seed):
    parameter = parse_space(f"x quniform {low},{low + width},{step}", "file")["x"]
    assert parameter == QUniform(low, low + width, step)
    value = parameter.rvs(np.random.RandomState(seed))
    assert (
        value / step == pytest.approx(round(value / step))
        and low - step / 2 <= value <= low + width + step / 2
    )
    assert isinstance(value, int) == isinstance(step, int)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_by_its_line(text):
    try:
        assert parse_space(text, "some.test")
    except ValueError as error:
        assert "some.test" in str(error)


def test_lists_may_stand_as_recbole_needs_them():
    text = "mlp_hidden_size choice ['[64, 64]', '[128]', [256]]\nname choice ['a b', 'c']"
    space = parse_space(text, "file")
    assert space["mlp_hidden_size"].values == ([64, 64], [128], [256]) and space["name"].values == (
        "a b",
        "c",
    )


def test_tuples_become_lists_as_the_runs_yaml_needs_them():
    space = parse_space("mlp_hidden_size choice [(16,), (16, 8), {'a': [(1, 2)]}]", "file")
    assert space["mlp_hidden_size"].values == ([16], [16, 8], {"a": [[1, 2]]})


def test_a_byte_order_mark_is_skipped_and_another_encoding_is_named_by_its_file(tmp_path):
    file = tmp_path / "space.test"
    file.write_text("mu choice [0.1, 1.0]\n", encoding="utf-8-sig")
    assert list(read_params_file(file)) == ["mu"]
    file.write_bytes("# d\xe9j\xe0 vu\nmu choice [0.1]\n".encode("latin-1"))
    with pytest.raises(
        ValueError,
        match=r"params_file: '.*space.test' is not text in UTF-8 .*; save it as UTF-8\.$",
    ):
        read_params_file(file)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mu choise [1, 2]", "file, line 2.*Did you mean 'choice'"),
        ("these are words of a comment", "Comments begin with #"),
        ("mu", "not of the form"),
        ("mu choice", "not a list"),
        ("mu choice 0.5", "not a list"),
        ("mu choice [relu, tanh]", "quoted words"),
        ("mu choice [__import__('os').getcwd()]", "not a list"),
        ("mu choice [1e999]", "not a list"),
        ("mu choice []", "there is no value"),
        ("mu choice [1, 2, 1]", "a value stands twice"),
        ("mu choice [1, 1.0]", "a value stands twice"),
        ("mu choice [[8, 4], [8, 4.0]]", "a value stands twice"),
        ("mu uniform 1", "low,high"),
        ("mu uniform a,b", "low,high"),
        ("mu uniform 2,1", "low below high"),
        ("mu uniform 0,inf", "low below high"),
        ("mu uniform 1,1", "low below high"),
        ("mu uniform nan,1", "low below high"),
        ("mu uniform -1e308,1e308", "more than a number can hold. Narrow the range"),
        ("mu quniform 1,5,0", "q above 0"),
        ("mu quniform 1,5,-1", "q above 0"),
        ("mu quniform 1,5,inf", "which are finite"),
        ("mu quniform 1,5,10", "from 1 to 5 is less than one step. Make q smaller"),
        ("mu quniform 0,1e300,1e-10", "steps of 1e-10 are lost in rounding.*Make q larger"),
        (
            "learning_rate loguniform 1e-4,1e-2",
            "loguniform takes exponents: for 0.0001 to 0.01 write loguniform -9.21,-4.61",
        ),
        ("mu loguniform 0.001,1000", "for 0.001 to 1000 write loguniform -6.91,6.91"),
        ("mu loguniform 1e-6,1", "for 1e-06 to 1 write loguniform -13.82,0.00"),
        ("mu loguniform 16,512", "for 16 to 512 write loguniform 2.77,6.24"),
        ("mu loguniform 0,0.01", "no more than 1 to 1.0101.*write uniform 1,1.0101"),
        ("mu loguniform -0.01,0.01", "no more than 0.99005 to 1.0101"),
        ("mu loguniform -1,800", r"e\^800 is no number. Exponents lie between -700 and 700"),
        ("mu loguniform -1000,-1", r"e\^-1000 is no number"),
        ("mu choice [" + "[" * 9999, "not a list"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(line, message):
    with pytest.raises(ValueError, match="line 2") as error:
        parse_space(f"# first\n{line}\n", "file")
    assert re.search(message, str(error.value)), error.value


def test_a_name_twice_no_name_and_no_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match="line 2.*'mu' a second time"):
        parse_space("mu choice [1]\nmu choice [2]", "file")
    with pytest.raises(ValueError, match="names no parameter"):
        parse_space("# nothing\n", "file")
    with pytest.raises(FileNotFoundError, match="params_file: 'nowhere.test'"):
        read_params_file("nowhere.test")
    (tmp_path / "docs").mkdir()
    with pytest.raises(FileNotFoundError, match="^params_file: 'docs' is a folder, not a fi"):
        read_params_file("docs")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lerning_rate", "Did you mean 'learning_rate'"),
        ("logarithmic_neurons", "is not a key of GenCI"),
        ("threshold", "changes the rows"),
        ("MAX_ITEM_LIST_LENGTH", "changes the rows"),
        ("eval_args", "changes the rows"),
        ("history_labels", "changes the rows"),
        ("codebook_size", "semantic IDs"),
        ("semantic_id_path", "semantic IDs"),
        ("metrics", "what is measured"),
        ("seed", "luck"),
        ("checkpoint_dir", "where and how to run"),
        ("seeds", "where and how to run"),
        ("mu", "--mu fixes it too"),
        ("diagnostic_rows", "nothing that GenCI learns or scores depends on it"),
        ("require_pow", "Take it out"),
        ("reg_weight", "nothing that GenCI learns"),
        ("prepared_rows_dir", "where and how to run"),
        ("recipe", "a set of keys.*Search those keys.*or give one.*--recipe=NAME"),
        ("sr_weight", "Its own loss has this regularisation, with keys of its own"),
    ],
)
def test_what_a_search_cannot_vary_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        check_space({name: Choice((1, 2))}, Config("GenCI", "ml-100k"), "file", ["mu", "epochs"])


@pytest.mark.parametrize(
    ("model", "keys", "name", "values", "why"),
    [
        ("DeepFM", {}, "sr_teacher", ("DeepFM", "PNN"), "It is of sr_weight, which is 0"),
        ("DeepFM", {}, "sr_teacher_dropout_prob", (0.1, 0.2), "It is of sr_weight, which is 0"),
        ("LR", {"recipe": "paper"}, "weight_average_per", ("epoch", "step"), "of weight_average"),
        ("GenCI", {"eta": 0}, "sr_teacher", ("DeepFM", "PNN"), "which eta: 0 leaves out"),
        ("GenCI", {}, "segment_clicks", (4, 8), "It divides histories for history_attention"),
    ],
)
def test_a_key_that_another_one_switches_off_is_refused(model, keys, name, values, why):
    config = Config(model, "ml-100k", config_dict=keys)
    with pytest.raises(ValueError, match=f"'{name}' cannot be searched: {model} does not.*{why}"):
        check_space({name: Choice(values)}, config, "file")


def test_a_key_that_a_searched_one_switches_on_is_taken():
    space = {"sr_teacher": Choice(("DeepFM", "PNN")), "sr_weight": Choice((0, 0.5))}
    check_space(space, Config("DeepFM", "ml-100k"), "file")
    space = {"segment_clicks": Choice((4, 8)), "history_attention": Choice(("causal",))}
    check_space(space, Config("GenCI", "ml-100k"), "file")
    check_space({"sr_teacher": Choice(("DeepFM", "PNN"))}, Config("GenCI", "ml-100k"), "file")


def test_a_space_of_another_model_is_named():
    space = {name: Choice((1, 2)) for name in ("mu", "epochs", "eta")}
    said = (
        "^file: 'mu' and 'eta' are not keys of LR, RecBole or this plugin. They are keys of GenCI"
    )
    with pytest.raises(ValueError, match=said):
        check_space(space, Config("LR", "ml-100k"), "file")
    with pytest.raises(ValueError, match="'mu' is not a key of LR, .* It is a key of GenCI."):
        check_space({"mu": Choice((1, 2))}, Config("LR", "ml-100k"), "file")


@pytest.mark.parametrize("model", ["AFM", "DCN", "DCNV2", "EulerNet", "PNN", "xDeepFM"])
def test_models_that_read_reg_weight_may_search_it(model):
    check_space({"reg_weight": Choice((0.0, 0.1))}, Config(model, "ml-100k"), "file")


def test_the_file_at_the_top_level_is_the_papers_space():
    file = Path(recbole_genci.__file__).parent.parent / "hyper.test"
    space, config = read_params_file(file), Config("GenCI", "ml-100k")
    check_space(space, config, "hyper.test")
    number = math.prod(len(parameter.values) for parameter in space.values())
    assert file.read_text().startswith(f"# For GenCI: {number:,} combinations, ")
    assert space["dropout_prob"].values == (0.1, 0.2, 0.3) and space["intent_layers"].values == (
        1,
        2,
        3,
        4,
        5,
    )
    assert space["mu"].values == (0.01, 0.1, 1.0, 2.0, 5.0) and space["eta"].values == (
        0.1,
        0.5,
        1.0,
        2.0,
        5.0,
    )
    assert config["learning_rate"] in space["learning_rate"].values


@pytest.mark.parametrize("bounds", ["-8,-3", "0,9.2", "0.69,2.3", "1,10", "-0.7,0.7", "-700,-1"])
def test_bounds_that_may_be_exponents_are_taken(bounds):
    assert isinstance(parse_space(f"mu loguniform {bounds}", "file")["mu"], LogUniform)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dropout_prob choice [0.1, 1.5]", "dropout_prob: 1.5 is not a number from 0 to below 1"),
        ("dropout_prob uniform 0,1.5", "dropout_prob: 1.5 is not a number from 0 to below 1"),
        ("dropout_prob loguniform -3,1", "but dropout_prob: 2.7"),
        ("weight_decay uniform -1,1", "weight_decay: -1.0 is not a number of at least 0"),
        ("learning_rate uniform -0.1,0.1", "learning_rate: -0.1 is not a number above 0"),
        (
            "num_beams uniform 1,5",
            "num_beams: 1.0 is not a whole number of at least 1. Whole numbers are drawn by "
            "quniform, as in quniform 1,5,1.",
        ),
        ("num_beams loguniform 0,2", "as in quniform 1,7,1."),
        (
            "intent_layers quniform 1,5,2",
            "'intent_layers' is searched over uniform from 0 to 4 in steps of 2, but "
            "intent_layers: 0 is not a whole number of at least 1",
        ),
        ("num_beams quniform 1,5,0.5", "num_beams: 1.0 is not a whole number"),
        ("mlp_hidden_size choice [64, 128]", "mlp_hidden_size: 64 is not a list"),
        ("mlp_hidden_size uniform 1,5", "mlp_hidden_size: 1.0 is not a list"),
        ("sr_loss choice ['bce', 'ce']", "sr_loss: 'ce' is not one of bce, mse"),
        ("preload_weight choice [1, 2]", "this key does nothing here"),
        ("loss_type choice ['CE', 'BPR']", "this key does nothing here. CTR models use"),
    ],
)
def test_values_that_the_key_does_not_take_are_refused_before_any_trial(line, message):
    with pytest.raises(ValueError, match="^file: '") as error:
        check_space(parse_space(line, "file"), Config("GenCI", "ml-100k"), "file")
    assert message in str(error.value)


def test_an_excluded_end_that_no_draw_meets_is_taken_and_one_choice_is_said(caplog):
    space = parse_space(
        "dropout_prob uniform 0,1\nlearning_rate uniform 0,1\nmu choice [1]", "file"
    )
    check_space(space, Config("GenCI", "ml-100k"), "file")
    assert "'mu' has one choice, 1, so that the search does not vary it" in caplog.text
