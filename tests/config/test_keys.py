"""The table of keys: checks, help and documents use what the properties files say of each key."""

import ast
import math
import re

import numpy as np
import pytest
import yaml
from conftest import TINY, tiny_rows, write_dataset

from recbole_genci.config import Config
from recbole_genci.config.help import help_text
from recbole_genci.config.keys import (
    RECBOLE_FOLDER,
    SUPPLEMENT,
    key_table,
    keys_with,
    properties_folder,
    read_keys,
)
from recbole_genci.config.kind import Kind, parse_kind
from recbole_genci.config.roles import ROLES
from recbole_genci.data import create_dataset
from recbole_genci.model.genci.cohort import VARIANTS
from recbole_genci.model.registry import entry_of, known_models
from recbole_genci.utils.mappings import FastLoader
from recbole_genci.utils.value_checks import shortened


@pytest.mark.parametrize(
    ("words", "taken", "refused", "expected"),
    [
        ("bool", [True, False], [1, "True", None], "True or False"),
        (
            "int >= 1",
            [1, 7, np.int64(3)],
            [0, 1.0, True, "1", None],
            "a whole number of at least 1",
        ),
        (
            "float > 0",
            [1, 0.5, np.float32(2)],
            [0, -1.0, math.inf, math.nan, "1", True],
            "a number above 0",
        ),
        ("float in [0, 1)", [0, 0.99], [1, 1.0, -0.1], "a number from 0 to below 1"),
        ("float in (0, 1]", [1, 0.01], [0, 1.1], "a number above 0 to 1"),
        ("int in [1, 65535]", [1, 65535], [0, 65536], "a whole number from 1 to 65535"),
        (
            "int >= 1234567",
            [2**31 - 1],
            [1234566, 2**31, 10**400],
            "a whole number of at least 1234567",
        ),
        ("float >= 0", [10**38], [10**39, 1e39, 10**400], "a number of at least 0"),
        ("int in [0, 4294967295]", [2**32 - 1], [2**32, -1], "from 0 to 4294967295"),
        ("str", ["a b"], ["a\0b", "\udcff"], "a text"),
        ("[]", [[], ()], [[1], None, {}, ""], "an empty list"),
        ("list of str or [] or ~", [["a"], [], None], [[None], "a", [1]], "or an empty list"),
        ("str or int >= 0", ["a", 3], [-1, [], None, 1.0, True], "a text or a whole number"),
        ("no effect", [None, {}, -1], [], ""),
        ("no effect, bool", [True], [1, None], "True or False"),
        ("no effect, list of int >= 1 or int >= 1", [[3], 3], [0, [None], None], "a list of"),
        ("float in [.5, inf)", [0.5, 1e9], [0.4, math.inf], "a number of at least 0.5"),
        ("float in (-inf, 1E+1]", [-1e9, 10], [11, -math.inf], "a number of at most 10"),
        ("bool or ~", [True, None], ["True", 0], "True or False, or None (~)"),
        ("str", ["", "a"], [1, None, ["a"]], "a text"),
        ("str: a | b", ["a", "b"], ["c", "", 1], "one of a, b"),
        ("str or ~", ["a", None], [1], "a text, or None (~)"),
        (
            "list of int >= 1",
            [[1], (2, 3)],
            [[], [0], 1, "[1]", None],
            "each a whole number of at least 1",
        ),
        ("list", [[], ["a"]], ["a", {}, None], "a list"),
        ("dict like {rating: 4}", [{"rating": 4}, {}], [4, [1]], "of the form {rating: 4}"),
        ("any", [None, 1, "a", []], [], ""),
    ],
)
def test_a_kind_takes_what_it_says(words, taken, refused, expected):
    kind = parse_kind(words)
    assert all(map(kind.accepts, taken)) and not any(map(kind.accepts, refused))
    assert expected in kind.expected() and kind.words == words
    for value in refused:
        said = kind.refusal("key", value)
        assert (
            said.startswith(f"key: {shortened(value)} is not {kind.expected()}.")
            or words.endswith("bool")
            and said == f"key: {value!r} is neither True nor False."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            kind.check("key", value)
    for value in taken:
        kind.check("key", value)


@pytest.mark.parametrize(
    "words",
    [
        "int >= many",
        "float between 0 and 1",
        "list of > 0",
        "str a b",
        "bool: x",
        "str:",
        "str: a |",
        "int in [5, 1]",
        "str or truth",
    ],
)
def test_brackets_that_begin_like_a_kind_must_go_on_like_one(words):
    with pytest.raises(ValueError, match="begins like the kind of a key|is no range"):
        parse_kind(words)
    assert parse_kind("see README") is None and parse_kind("authors' name") is None
    assert Kind.of("int >= 1") == parse_kind("int >= 1")
    with pytest.raises(ValueError, match="says no kind of value"):
        Kind.of("see README")


@pytest.mark.parametrize(
    "bracket",
    [
        "(integer > 0)",
        "(Int >= 1)",
        "(int, at least 1)",
        "(int>=1)",
        "(number)",
        "(boolean)",
        "(string: a | b)",
        "(float (from 0 to 1))",
        "(int >= 1",
        "(int",
        "(list[int])",
        "(double)",
        "(dictionary)",
    ],
)
def test_a_bracket_that_is_meant_as_a_kind_is_refused(bracket, tmp_path):
    (tmp_path / "a.yaml").write_text(f"rate: 1\nkind_width: 16   # {bracket} Width.\n")
    with pytest.raises(ValueError, match="a.yaml, line 2: .* is written like .int >= 1.") as error:
        read_keys([tmp_path / "a.yaml"])
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize(
    "comment",
    ["(see README) Width.", "(numbers) Width.", "(interest) Width.", "Width (int > 0).", "", "("],
)
def test_another_bracket_is_a_comment(comment, tmp_path):
    (tmp_path / "a.yaml").write_text(f"kind_width: 16   # {comment}\n")
    key = read_keys([tmp_path / "a.yaml"])["kind_width"]
    assert key.kind is None and key.meaning == comment


def test_every_key_of_every_model_has_a_kind_and_a_default_of_it():
    table = key_table(known_models(), "ml-100k")
    without = {key.name for key in table.values() if key.kind is None}
    assert without == {"order_list", "fields"} & without, (
        f"no kind, or one that is misspelt: {', '.join(sorted(without))}. Write it in brackets at "
        "the start of the comment behind the default, as in (int >= 1); CONTRIBUTING.md, 'A key'."
    )
    for model in known_models():
        for key in key_table([model], "ml-1m").values():
            key.check(key.default)


def test_every_line_of_ours_says_what_its_key_takes_and_means():
    ours = properties_folder()
    for file in [ours / "overall.yaml", *sorted((ours / "model").glob("*.yaml"))]:
        for key in read_keys([file]).values():
            whole = key_table([file.stem] if file.parent.name == "model" else [])[key.name]
            assert whole.kind is not None, (file.name, key.name)
            assert whole.meaning, f"{file.name}: {key.name}: write a sentence behind the brackets"


def test_every_key_but_those_of_models_has_a_role():
    for key in key_table().values():
        assert key.role in ROLES or key.does_nothing, (
            f"{key.name}: its line in properties/overall.yaml (of a key of RecBole: recbole.yaml) "
            "does not say what the key decides. Write it behind the kind, as in (int >= 1; "
            f"training). It is one of {', '.join(ROLES)}; CONTRIBUTING.md, 'A key', explains them."
        )
    for model in known_models():
        own = key_table([model]).keys() - key_table().keys()
        assert not own & keys_with(*ROLES)


def test_a_role_is_no_part_of_the_kind_and_a_later_line_keeps_it(tmp_path):
    file = tmp_path / "overall.yaml"
    file.write_text("wide: 2  # (int >= 1; rows) Wide.\n")
    table = read_keys([file])
    assert (table["wide"].kind.words, table["wide"].role) == ("int >= 1", "rows")
    (tmp_path / "Mine.yaml").write_text("wide: 3\n")
    later = read_keys([file, tmp_path / "Mine.yaml"])["wide"]
    assert (later.default, later.role) == (3, "rows")


@pytest.mark.parametrize("bracket", ["(int >= 1; place)", "(str: a | b; place)"])
def test_a_role_in_the_file_of_a_model_is_refused_with_what_to_write(bracket, tmp_path):
    file = tmp_path / "MyNet.yaml"
    file.write_text(f"wide: 2  # {bracket} Wide.\n")
    kind = bracket.replace("; place", "")
    with pytest.raises(ValueError, match=re.escape(f"has none. Write {kind}.")):
        read_keys([file])


@pytest.mark.parametrize("bracket", ["(int >= 1; trainig)", "(str: a | b; trainig)", "(str; )"])
def test_a_wrong_role_is_refused_with_its_line(bracket, tmp_path):
    (tmp_path / "overall.yaml").write_text(f"rate: 1\nwide: 2  # {bracket} Wide.\n")
    with pytest.raises(ValueError, match="overall.yaml, line 2: .* is no role .* rows, tokenizer"):
        read_keys([tmp_path / "overall.yaml"])


def test_a_key_of_a_model_has_no_role(tmp_path):
    (tmp_path / "Mine.yaml").write_text("wide: 2  # (int >= 1; rows) Wide.\n")
    with pytest.raises(ValueError, match=r"Mine.yaml, line 1: .* has none. Write \(int >= 1\)"):
        read_keys([tmp_path / "Mine.yaml"])


def test_a_line_with_a_kind_replaces_the_meaning_and_a_remark_joins_it(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "rate: 1  # (float > 0) Of learning.\nsize: 2  # (int >= 1) Wide.\n"
    )
    (tmp_path / "b.yaml").write_text("rate: 3  # By tuning.\nsize: 4  # (int >= 2) Wider.\n")
    table = read_keys([tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "absent.yaml"])
    assert (table["rate"].default, table["rate"].meaning) == (3, "Of learning. By tuning.")
    assert (table["size"].kind.words, table["size"].meaning) == ("int >= 2", "Wider.")
    (tmp_path / "c.yaml").write_text("# Of mine\n\nrate: 1  # (float over 0) Of learning.\n")
    with pytest.raises(ValueError, match="c.yaml, line 3: .*'over 0' is no range"):
        read_keys([tmp_path / "c.yaml"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mu": "-1e999"}, "mu: -inf is not a number of at least 0."),
        ({"learning_rate": float("inf")}, "learning_rate: inf is not a number above 0."),
        ({"encoding": 64}, "encoding: 64 is not a text."),
        ({"ITEM_ID_FIELD": ["a"]}, "ITEM_ID_FIELD: ['a'] is not a text, or None (~)."),
        ({"NEG_PREFIX": 1}, "NEG_PREFIX: 1 is not a text."),
        (
            {"alias_of_item_id": "x"},
            "alias_of_item_id: 'x' is not a list of one or more entries, each a text",
        ),
        ({"worker": -1}, "worker: -1 is not a whole number from 0 to 1024."),
        ({"port": 70000}, "port: 70000 is not a whole number from 1 to 65535."),
        (
            {"item_text_fields": "[title]"},
            "item_text_fields: '[title]' is not a list of one or more entries",
        ),
        ({"sr_loss": None}, "sr_loss: None is not one of bce, mse."),
    ],
)
def test_a_value_of_another_kind_is_one_sentence(keys, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Config(
            "GenCI",
            "ml-100k",
            argv=[f"--{key}={value}" for key, value in keys.items()]
            if isinstance(next(iter(keys.values())), str)
            else (),
            config_dict=keys,
        )


def test_what_stands_behind_a_value_is_its_comment_however_it_is_written(tmp_path):
    file = tmp_path / "Mine.yaml"
    file.write_text(
        """# Colours of plots, and other things. This goes on
# in a second line.
colour: '#fff'  # (str) Of lines.
"quoted": 1  # (int >= 1) A key in quotation marks.
with-dash: ~  # (int or ~) A name with a dash.
before_colon : 2.5  # (float) A blank before the colon.
nested:  # (dict) A mapping on lines of its own.
  inner: 1  # (bool) No key of its own.
flow: {a: 1,
       b: 2}  # (dict) Of two lines.
listed:
- 1  # (int) No key either.
text: |  # (str) Of two lines.
  a # b
  c
plain: a#b
"""
    )
    table = read_keys([file])
    assert {name: (key.default, key.kind and key.kind.words) for name, key in table.items()} == {
        "colour": ("#fff", "str"),
        "quoted": (1, "int >= 1"),
        "with-dash": (None, "int or ~"),
        "before_colon": (2.5, "float"),
        "nested": ({"inner": 1}, "dict"),
        "flow": ({"a": 1, "b": 2}, "dict"),
        "listed": ([1], None),
        "text": ("a # b\nc\n", "str"),
        "plain": ("a#b", None),
    }
    assert table["colour"].meaning == "Of lines." and table["text"].meaning == "Of two lines."
    assert {key.section for key in table.values()} == {"Colours of plots"}
    file.write_text("colour: red  # (str) Of lines, edited.\n")
    assert read_keys([file])["colour"].default == "red"
    (tmp_path / "Empty.yaml").write_text("# Nothing yet\n")
    assert read_keys([tmp_path / "Empty.yaml"]) == {}


@pytest.mark.parametrize("model", ["GenCI", "LR", "DIEN", "xDeepFM", "AFN"])
def test_the_tables_defaults_are_those_of_a_run(model):
    computed = {"use_gpu", "gpu_id", "data_path", "show_progress", "history_source"}
    computed |= {"eval_args", "train_neg_sample_args", "min_patience_steps"}
    config = Config(model, "ml-1m", config_dict={"gpu_id": ""})
    for name, key in key_table([model], "ml-1m").items():
        assert name in computed or config[name] == key.default, name


def test_the_supplement_tells_the_truth_of_recboles_keys():
    folder = RECBOLE_FOLDER / "properties"
    theirs = read_keys(
        [
            folder / "overall.yaml",
            *(folder / "model").glob("*.yaml"),
            folder / "dataset/sample.yaml",
        ]
    )
    supplement = read_keys([properties_folder() / SUPPLEMENT])
    assert set(supplement) - set(theirs) == {
        "encoding",
        "tail_ratio",
        "neg_sampling",
        "training_neg_sample_num",
    }
    for name, key in supplement.items():
        assert key.kind is not None, name
        if name in theirs and key.default is not None:
            assert key.default == theirs[name].default, name
    # Of models' keys a model has its own alone.
    assert "cin_layer_size" in key_table(["xDeepFM"])
    assert "cin_layer_size" not in key_table(["LR"])


def test_help_shows_a_models_own_default_of_a_common_key(tmp_path):
    module = tmp_path / "my_sizes.py"
    module.write_text(
        "from recbole_genci.model.baselines.afn import AFN\n\n\nclass MySizes(AFN):\n    pass\n"
    )
    (tmp_path / "MySizes.yaml").write_text("embedding_size: 8\n")
    shared, own = help_text([f"{module}:MySizes"]).split("MySizes's own:")
    assert "--embedding_size [16]" in shared and "--embedding_size [8]" in own
    assert help_text(["GenCI"]).count("--embedding_size ") == 1


def test_a_wrong_default_of_ones_own_model_is_refused(tmp_path):
    module = tmp_path / "my_rates.py"
    module.write_text(
        "from recbole_genci.model.baselines.afn import AFN\n\n\nclass MyRates(AFN):\n    pass\n"
    )
    defaults = tmp_path / "MyRates.yaml"
    for wrong, said in {
        "logarithmic_neurons: 0": "logarithmic_neurons: 0 is not a whole number of at least 1.",
        "my-rate: fast  # (float > 0) Mine.": "my-rate: 'fast' is not a number above 0.",
    }.items():
        defaults.write_text(f"{wrong}\n")
        with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
            Config(f"{module}:MyRates", "ml-100k")
    given = {"my-rate": 0.5, "logarithmic_neurons": 3}
    config = Config(f"{module}:MyRates", "ml-100k", config_dict=given)
    assert (config["my-rate"], config["logarithmic_neurons"]) == (0.5, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1: 2", "MyRates.yaml' has the key 1 in line 1, which YAML reads as int, not as a text"),
        ("my_rate: &x [*x]", "MyRates.yaml' has an anchor in line 1 that holds itself"),
        ("my_rate: " + "[" * 3000, "nests its values too deeply"),
    ],
)
def test_a_file_of_ones_own_model_that_is_none_is_one_sentence(tmp_path, text, said):
    module = tmp_path / "my_rates.py"
    module.write_text(
        "from recbole_genci.model.baselines.afn import AFN\n\n\nclass MyRates(AFN):\n    pass\n"
    )
    (tmp_path / "MyRates.yaml").write_text(text)
    with pytest.raises(ValueError, match="^model: the defaults of MyRates: '") as error:
        Config(f"{module}:MyRates", "ml-100k")
    assert said in str(error.value)


def test_many_configs_read_each_properties_file_once(monkeypatch):
    Config("GenCI", "ml-100k")
    resolvers = {
        first: len(each) for first, each in yaml.FullLoader.yaml_implicit_resolvers.items()
    }

    def parse(*args, **kwargs):
        raise AssertionError("a file was parsed again")

    for loader in (yaml.SafeLoader, FastLoader):
        monkeypatch.setattr(loader, "get_single_node", parse)
    first, second = (Config("GenCI", "ml-100k", config_dict={"mu": mu}) for mu in (0.1, 0.2))
    assert (first["mu"], second["mu"]) == (0.1, 0.2)
    first["mlp_hidden_size"].append(7)
    first["eval_args"]["split"]["RS"].append(7)
    third = Config("GenCI", "ml-100k")
    assert third["mlp_hidden_size"] == [256, 256, 256]
    assert third["eval_args"]["split"]["RS"] == [0.8, 0.1, 0.1]
    # RecBole adds some to yaml's own class each time.
    now = yaml.FullLoader.yaml_implicit_resolvers
    assert {name: len(each) for name, each in now.items()} == resolvers


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("AFN", "logarithmic_neurons", 0),
        ("AFN", "dnn_hidden_size", []),
        ("AFN", "dnn_dropout_prob", 1),
        ("AFN", "ensemble_dnn", "yes"),
        ("MIRRN", "hash_bits", 2.5),
        ("MIRRN", "retrieval_topk", 0),
        ("MIRRN", "local_length", -1),
        ("MIRRN", "fourier_blocks", 0),
        ("MIRRN", "fourier_mixing", "rows"),
        ("MIRRN", "fourier_dropout", 1.0),
        ("MIRRN", "target_attention_size", 0),
        ("MIRRN", "target_attention_heads", True),
        ("MIRRN", "target_attention_dropout", -0.1),
        ("MIRRN", "short_interest", 1),
        ("RFM", "rotation_size", 0),
        ("RFM", "rotation_layers", 0),
        ("RFM", "rotation_heads", 0),
        ("RFM", "group_size", 0),
        ("RFM", "rotation_dropout", 1),
        ("RFM", "first_order_residual", 0),
        ("SFG", "sfg_base", "fm"),
        ("SFG", "cross_layer_num", 0),
        ("SFG", "cross_dropout", 1),
        ("SFG", "generation_scale", 0),
        ("GenCI", "history_tokens", "codes"),
        ("GenCI", "intent_extraction", "max"),
        ("GenCI", "sr_base", "none"),
        ("GenCI", "sr_loss", "ce"),
        ("GenCI", "intent_width", 0),
        ("GenCI", "intent_layers", 0),
        ("GenCI", "intent_heads", 0),
        ("GenCI", "intent_feed_forward_size", 0),
        ("GenCI", "num_beams", 0),
        ("GenCI", "attention_heads", 0),
        ("GenCI", "dropout_prob", 1),
        ("GenCI", "intent_dropout", 1),
        ("GenCI", "sr_dropout_prob", 1),
        ("GenCI", "intent_scale", 0),
        ("GenCI", "mu", -1),
        ("GenCI", "eta", "much"),
    ],
)
def test_the_table_refuses_what_models_need_not_check(model, key, value):
    with pytest.raises(ValueError, match=f"^{key}: .* is (not|neither) "):
        Config(model, "ml-100k", config_dict={key: value})


def test_the_tables_choices_of_the_cohort_attention_are_all_there_are():
    assert key_table(["GenCI"])["intent_extraction"].kind.choices == VARIANTS


def test_keys_that_do_nothing_are_said_to(tmp_path, caplog):
    from recbole_genci.plan import prepare

    keys = write_dataset(tmp_path, tiny_rows()) | {"topk": 10, "loss_type": "CE"}
    prepare(
        "LR,DeepFM",
        "tiny",
        config_dict={k: v for k, v in keys.items() if k in {*LR_KEYS, "topk", "loss_type"}},
    )
    said = [record.message for record in caplog.records if "does nothing here" in record.message]
    assert said == [
        "topk: this key does nothing here. AUC and LogLoss look at all rows, not at the first k.",
        "loss_type: this key does nothing here. CTR models use binary cross-entropy.",
    ]


def test_keys_that_another_key_switches_off_are_said_to_do_nothing():
    given = {"segment_clicks": 4, "sr_loss": "mse", "sr_base": "joint", "cohort_residual": False}
    assert Config("GenCI", "ml-100k", config_dict=given).without_effect == {
        "segment_clicks": "It divides histories for history_attention: causal."
    }
    given |= {"history_attention": "causal", "eta": 0, "intent_extraction": "mean"}
    assert Config("GenCI", "ml-100k", config_dict=given).without_effect == {
        "sr_loss": "It is of the self-supervised regularisation, which eta: 0 leaves out.",
        "cohort_residual": "It is of intent_extraction: hierarchical.",
    }
    assert not Config("GenCI", "ml-100k").without_effect


LR_KEYS = {
    "load_col",
    "MAX_ITEM_LIST_LENGTH",
    "epochs",
    "train_batch_size",
    "eval_batch_size",
    "metrics",
    "gpu_id",
    "data_path",
    "latency_repeats",
}


def test_a_star_loads_every_column_of_a_file(tmp_path):
    keys = {k: v for k, v in write_dataset(tmp_path, tiny_rows()).items() if k in LR_KEYS}
    named = create_dataset(Config("LR", "tiny", config_dict=keys))
    star = TINY["load_col"] | {"inter": "*", "item": "*"}
    every = create_dataset(Config("LR", "tiny", config_dict=keys | {"load_col": star}))
    assert set(every.field2type) - set(named.field2type) == {"title"}
    for field in named.inter_feat.columns:
        assert np.array_equal(named.inter_feat[field], every.inter_feat[field])
    none = create_dataset(Config("LR", "tiny", config_dict=keys | {"load_col": None}))
    assert set(none.field2type) == set(every.field2type)
    with pytest.raises(ValueError, match=r"unload_col: '\*' for 'inter' is not a list of columns"):
        Config("LR", "tiny", config_dict=keys | {"unload_col": {"inter": "*"}})


#: What RecBole's code reads in a Config although nobody sets it, or for models that are not here.
NO_KEYS_OF_A_PERSON = {
    *(
        "MODEL_TYPE",
        "MODEL_INPUT_TYPE",
        "eval_type",
        "single_spec",
        "verbose",
        "feature_num",
        "cin",
    ),
    *("valid_neg_sample_args", "test_neg_sample_args", "local_rank", "device", "model", "dataset"),
    # entries of eval_args, train_neg_sample_args and the spaces of its own search
    *("split", "order", "group_by", "mode", "distribution", "dynamic"),
    *("choice", "uniform", "loguniform", "quniform"),
    # self-supervised sequences (transform.py)
    *("MASK_INDEX", "MASK_ITEM_SEQ", "POS_ITEMS", "NEG_ITEMS", "CROP_ITEM_SEQ", "mask_ratio"),
    *("CROP_ITEM_SEQ_LEN", "INVERSE_ITEM_SEQ", "REORDER_ITEM_SEQ", "ft_ratio"),
    # knowledge graphs, autoencoders, trees (trainer.py)
    *("train_rec_step", "train_kg_step", "pretrain_epochs", "save_step", "kge_interval"),
    *("m_step", "warm_up_step", "n_enc_epochs", "n_dec_epochs"),
    *("convert_token_to_onehot", "token_num_threshold", "lgb_params", "lgb_num_boost_round"),
    *("xgb_params", "xgb_model", "xgb_nthread", "xgb_num_boost_round", "xgb_silent"),
    *("xgb_early_stopping_rounds", "xgb_verbose_eval"),
}


def names_that_recbole_reads():
    """Keys in ``config["key"]`` and ``config.get("key")`` of RecBole's code, save other models."""
    files = [
        *(file for file in RECBOLE_FOLDER.rglob("*.py") if "model" not in file.parent.parent.name),
        *(RECBOLE_FOLDER / "model").glob("*.py"),
        *(RECBOLE_FOLDER / "model/context_aware_recommender").glob("*.py"),
        *((RECBOLE_FOLDER / f"model/sequential_recommender/{name}.py") for name in ("din", "dien")),
    ]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Subscript):
                of, key = node.value, node.slice
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("config.get"):
                of, key = node.func, node.args[0]
            else:
                continue
            if "config" in ast.unparse(of) and isinstance(getattr(key, "value", 0), str):
                yield key.value


def test_the_table_has_every_key_that_recbole_reads():
    read = set(names_that_recbole_reads())
    table = key_table(known_models(), "ml-100k")
    assert {"epochs", "threshold", "clip_grad_norm", "encoding", "use_inner"} <= read & set(table)
    assert read - set(table) - NO_KEYS_OF_A_PERSON == set()
    assert not NO_KEYS_OF_A_PERSON & set(table)


def test_every_key_of_recboles_files_has_a_kind_and_a_meaning():
    folder = RECBOLE_FOLDER / "properties"
    models = [entry_of(name).base for name in known_models()]
    files = [
        folder / "overall.yaml",
        folder / "dataset/sample.yaml",
        folder / "dataset/ml-100k.yaml",
    ]
    files += [folder / f"model/{name}.yaml" for name in models]
    files += sorted((folder / "quick_start_config").glob("context-aware*.yaml"))
    table = key_table(known_models(), "ml-100k")
    keys = read_keys(files)
    assert len(keys) > 100
    for name in keys:
        assert table[name].kind is not None and table[name].meaning, name
        words = table[name].kind.words
        assert words not in ("int", "float", "list"), f"{name}: ({words}) has no range"
