"""Where settings come from, and what is refused before any data is read."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from recbole_genci.config import Config, known_keys
from recbole_genci.config.unknown_keys import _MEANT
from recbole_genci.experiments.identity import effective_keys
from recbole_genci.model.registry import get_model, known_models
from recbole_genci.training.run_folder import config_as_yaml


def test_command_line_beats_dict_beats_file_beats_properties(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("learning_rate: 0.1\nepochs: 11\nembedding_size: 8\n")
    given = {"learning_rate": 0.2, "epochs": 22}
    config = Config("DeepFM", "ml-100k", [str(file)], given, ["--learning_rate=0.3"])
    assert (config["learning_rate"], config["epochs"], config["embedding_size"]) == (0.3, 22, 8)
    assert config["train_batch_size"] == 1024  # properties/overall.yaml over RecBole's 2048
    assert given == {"learning_rate": 0.2, "epochs": 22}


def test_words_of_the_host_program_are_not_read(monkeypatch):
    rate = Config("LR", "ml-100k")["learning_rate"]
    monkeypatch.setattr(sys, "argv", ["pytest", "--learning_rate=9", "--cov=recbole", "-x"])
    assert Config("LR", "ml-100k")["learning_rate"] == rate != 9


def test_every_model_of_a_comparison_gets_the_same_protocol():
    keys = (
        "eval_args",
        "threshold",
        "val_interval",
        "load_col",
        "metrics",
        "MAX_ITEM_LIST_LENGTH",
        "train_neg_sample_args",
        "embedding_size",
        "train_batch_size",
        "learner",
        "stopping_step",
        "min_patience_steps",
        "valid_neg_sample_args",
    )
    names = (
        "LR",
        "FwFM",
        "NFM",
        "PNN",
        "FiGNN",
        "DeepFM",
        "DCNV2",
        "AutoInt",
        "xDeepFM",
        "DIN",
        "DIEN",
        "GenCI",
        "AFN",
        "AFN+",
        "RFM",
        "MIRRN",
        "SFG",
    )
    configs = [Config(name, "ml-100k") for name in names]
    for config in configs[1:]:
        assert {k: config[k] for k in keys} == {k: configs[0][k] for k in keys}
    assert configs[0]["eval_args"] == {
        "split": {"RS": [0.8, 0.1, 0.1]},
        "order": "TO",
        "group_by": "user",
        "mode": {"valid": "labeled", "test": "labeled"},
    }
    without = ("LR", "FwFM", "FiGNN")  # have no MLP
    assert all(
        config["mlp_hidden_size"] == [256, 256, 256]
        for name, config in zip(names, configs)
        if name not in without
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"recipe": {1: 2}}, "recipe: {1: 2} is not one of regularised, by_rows, paper, tuned"),
        (
            {"recipe": ["tuned"]},
            "recipe: .'tuned'. is not one of regularised, by_rows, paper, tuned",
        ),
        ({"pack": "all"}, "'pack' is not a key.* It belongs to --experiment, for example --exper"),
        ({"tool": "Ray"}, "'tool' is not a key of RecBole.* It belongs to run_hyper.py. --help"),
        ({"lr": 0.1}, "'lr' is not a key of RecBole.* asked for. Did you mean 'learning_rate'"),
        ({"batch_size": 8}, "Did you mean 'train_batch_size'"),
        ({"Patience": 8}, "Did you mean 'stopping_step'"),
        ({"leraning_rate": 0.1}, "'leraning_rate' is not a key.*Did you mean 'learning_rate'"),
        ({"histroy_tokens": "code"}, "Did you mean 'history_tokens'"),
        ({"stoping_step": 3}, "Did you mean 'stopping_step'"),
        ({"learner": "adan"}, "learner: 'adan' is unknown.*Did you mean 'adam'"),
        ({"learner": "sparse_adam"}, "learner: 'sparse_adam' is unknown or works with no model"),
        ({"enable_amp": True}, "enable_amp: RecBole's mixed precision is .* use --precision=bf16,"),
        (
            {"enable_scaler": True},
            "enable_scaler: RecBole's mixed precision is .* use --precision=bf16,",
        ),
        ({"precision": "fp16"}, "precision: 'fp16' is not one of fp32, bf16"),
        ({"seed": 2**32}, "seed: 4294967296 is not a whole number from 0 to 4294967295"),
        (
            {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni100"}},
            "uni100.*labeled",
        ),
        (
            {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}},
            "train_neg_sample_args: CTR models",
        ),
        ({"MAX_ITEM_LIST_LENGTH": 0}, "MAX_ITEM_LIST_LENGTH: 0"),
        ({"history_labels": "clicks"}, "history_labels: 'clicks' is not one of positive, all"),
        ({"save_dataset": True}, "save_dataset: RecBole's pickled caches"),
        ({"metrics": ["AUCC"]}, "AUCC"),
        ({"metrics": ["Recall"]}, "metrics: 'Recall' is not a metric of labelled rows"),
        ({"metrics": ["NDCG"]}, "metrics: 'NDCG' is not a metric of labelled rows"),
        ({"metrics": "LogLoss"}, "lacks AUC, which every comparison table shows"),
        (
            {"valid_metric": "mae"},
            r"valid_metric: 'mae' is not among metrics, .'AUC', 'LogLoss'.. Add it: "
            r"--metrics=\".'AUC', 'LogLoss', 'MAE'.\", or metrics: .'AUC', 'LogLoss', 'MAE'. in",
        ),
        ({"valid_metric": "GAUC"}, "Add it: --metrics=.*, 'GAUC'"),
        ({"valid_metric": "mine:Brier"}, "Add it: --metrics=.*, 'mine:Brier'"),
        ({"valid_metric": "LogLos"}, "'LogLos' is not among metrics.* Did you mean 'LogLoss'"),
        ({"valid_metric": "Recall"}, r"'Recall' is not among metrics, \[[^]]*\]. Those known here"),
        (
            {"seed": [1, 2, 3]},
            r"seed: .1, 2, 3. is not one whole number. --seeds=3 runs seed, seed \+ 1, ...: "
            "--seed=1 --seeds=3 runs 1 to 3.",
        ),
        ({"seeds": [5, 6]}, "--seed=5 --seeds=2 runs 5 to 6"),
        ({"seed": []}, "--seed=2020 --seeds=2 runs 2020 to 2021"),
        ({"learning_rate": "fast"}, "learning_rate: 'fast' is not a number above 0"),
        ({"codebook_balance": "none"}, "codebook_balance: None is not one of sinkhorn, nearest"),
        ({"learner": None}, "learner: None is not a text"),
        ({"learning_rate": -1.0}, "learning_rate: -1.0 is not a number above 0"),
        ({"mlp_hidden_size": [64, 0]}, "mlp_hidden_size: .* is not a list of one or more entries"),
        ({"dropout_prob": 1}, "dropout_prob: 1 is not a number from 0 to below 1"),
        ({"epochs": True}, "epochs: True is not a whole number of at least 1"),
        (
            {"eval_args": {"split": {"RS": [0.8, 0.2]}}},
            "eval_args: split .* gives no training, validation and test part",
        ),
        (
            {"eval_args": {"split": {"LS": "test_only"}}},
            "eval_args: split .* gives no training, validation and test part",
        ),
        ({"eval_args": {"order": "XO"}}, "eval_args: order 'XO'"),
        ({"eval_args": {"group_by": "item"}}, "eval_args: group_by 'item'"),
        ({"eval_args": {"mode": "full"}}, "eval_args: mode 'full' scores sampled or all items"),
        (
            {"eval_args": {"mode": {"valid": "labeled", "test": "uni50"}}},
            "eval_args: mode 'uni50' scores sampled or all items",
        ),
        (
            {"eval_args": {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "RO"}},
            "split .*TS.* is by time, order RO is not",
        ),
        (
            {"metrics": ["AUC", "GAUK", "LogLoss"]},
            "metrics: 'GAUK' is not a metric of labelled rows",
        ),
        ({"threshold": {"rating": 4, "timestamp": 3}}, "threshold: .* does not name one column"),
        (
            {"eval_args": {"order": "RO"}, "history_source": "past"},
            "clicks whose own rows are held out",
        ),
        (
            {"eval_args": {"spilt": {"RS": [0.8, 0.1, 0.1]}}},
            "eval_args: 'spilt' is not one of its parts.*Did you mean 'split'",
        ),
        ({"eval_args": "RS"}, "eval_args: 'RS' is not of the form"),
        (
            {"load_col": {"items": ["item_id"]}},
            "load_col: 'items' is not one of its parts, inter, user, item",
        ),
        ({"load_col": {"user": None}}, "load_col: None for 'user' is not a list of columns"),
        ({"load_col": ["item_id"]}, "load_col: .* is not of the form"),
        ({"unused_col": {"rows": ["rating"]}}, "unused_col: 'rows' is not one of its parts"),
        ({"threshold": 4}, "threshold: 4 is not of the form {rating: 4}"),
        ({"threshold": {"rating": "four"}}, "threshold: 'four' for 'rating' is not a number"),
        ({"val_interval": [3, 5]}, "val_interval: .* is not of the form"),
        (
            {"val_interval": {"rating": "[3,5"}},
            r"val_interval: '\[3,5' for 'rating' is not an interval such as",
        ),
        ({"val_interval": {"rating": 3}}, "val_interval: 3 for 'rating' is not an interval"),
        ({"val_interval": {"rating": "[0,3);(5,4]"}}, "is not an interval"),
        ({"user_inter_num_interval": 13}, "user_inter_num_interval: 13 is not an interval"),
        ({"item_inter_num_interval": "[13,inf"}, "item_inter_num_interval: .* is not an interval"),
        ({"rm_dup_inter": False}, "rm_dup_inter: False is not one of first, last, or None"),
        (
            {"filter_inter_by_user_or_item": "yes"},
            "filter_inter_by_user_or_item: 'yes' is neither True nor False",
        ),
        ({"shuffle": "no"}, "shuffle: 'no' is neither True nor False"),
        ({"group_rows_by_history": 1}, "group_rows_by_history: 1 is neither True nor False"),
        (
            {"normalize_field": ["price", "price"]},
            r"^normalize_field: 'price' is named twice\. Name it once",
        ),
        ({"numerical_features": ["a", "b", "a"]}, "^numerical_features: 'a' is named twice"),
        ({"alias_of_item_id": ["other", "other"]}, "^alias_of_item_id: 'other' is named twice"),
        ({"item_text_fields": ["title", "title"]}, "^item_text_fields: 'title' is named twice"),
        (
            {"unused_col": {"item": ["genre", "year", "genre"]}},
            "^unused_col: 'genre' of 'item' is named twice",
        ),
        ({"seq_len": 5}, "seq_len: 5 is not of the form"),
        ({"seq_len": {"genre": 0}}, "seq_len: 0 for 'genre' is not a whole number of at least 1"),
        ({"seq_len": {"genre": "a"}}, "seq_len: 'a' for 'genre' is not a whole number"),
        (
            {"load_col": {"inter": "user_id"}},
            "load_col: 'user_id' for 'inter' is not a list of columns",
        ),
        (
            {"seq_separator": ""},
            "seq_separator: '' is not a text that can stand between values of a sequence",
        ),
        (
            {"seed": 2**32 - 2, "seeds": 3},
            "seeds: the last of 3 seeds from seed 4294967294 on would be 4294967296; the largest",
        ),
        (
            {"TIME_FIELD": "rating"},
            "TIME_FIELD: 'rating' is the column that threshold makes the label of",
        ),
        (
            {"eval_args": {"split": {"RS": [math.inf, 0.1, 0.1]}}},
            "eval_args: split .* gives no training, validation and test part",
        ),
        (
            {"normalize_field": "[age]"},
            "normalize_field: '.age.' is not a list .*On a command line quote its words",
        ),
        ({"state": "LOUD"}, "state: 'LOUD' is not one of DEBUG, INFO"),
        ({"clip_grad_norm": 5}, "clip_grad_norm: 5 is not of the form"),
        ({"weight_decay": "abc"}, "weight_decay: 'abc' is not a number"),
        ({"weight_decay": -1.0}, "weight_decay: -1.0 is not a number of at least 0"),
        (
            {"metric_decimal_place": "a"},
            "metric_decimal_place: 'a' is not a whole number from 0 to 100",
        ),
        ({"valid_metric": 5}, "valid_metric: 5 is not a text"),
        ({"data_path": None}, "data_path: None is not a text"),
        ({"numerical_features": "age"}, "numerical_features: 'age' is not a list"),
        ({"discretization": {"age": 5}}, "discretization: 5 for 'age' is neither"),
        ({"benchmark_filename": "train"}, "benchmark_filename: 'train' is not a list"),
        (
            {"benchmark_filename": ["train", "test"]},
            "benchmark_filename: .* does not name three files",
        ),
        (
            {"benchmark_filename": ["a", "b", "c"]},
            "val_interval: rows of benchmark_filename are taken as they are",
        ),
        ({"topk": "abc"}, "topk: 'abc' is not a list of .* or a whole number of at least 1"),
        ({"topk": [None]}, "topk: .None. is not a list of"),
        ({"topk": 0}, "topk: 0 is not a list of"),
        ({"metrics": 5}, "metrics: 5 is not a list or a text"),
        ({"metrics": {"AUC": 1}}, "metrics: {'AUC': 1} is not a list or a text"),
        ({"metrics": ["AUC", "LogLoss", None]}, "metrics: 'None' is not a metric"),
        ({"encoding": "utf-99"}, "encoding: 'utf-99' is no encoding of texts.*unknown encoding"),
        ({"encoding": "hex"}, "encoding: 'hex' is no encoding of texts"),
        ({"encoding": "rot13"}, "encoding: 'rot13' is no encoding of texts"),
        ({"preload_weight": 5}, "preload_weight: 5 is not of the form {item_id: item_vector}"),
        ({"embedding_size": 10**30}, "embedding_size: 10+ is not .* it may be is 2147483647"),
        ({"train_batch_size": 10**30}, "train_batch_size: 10+ is not .* may be is 2147483647"),
        ({"mlp_hidden_size": [10**30]}, "mlp_hidden_size: .10+. is not .* may be is 2147483647"),
        ({"metric_decimal_place": 10**30}, "metric_decimal_place: 10+ is not .* from 0 to 100"),
        ({"learning_rate": 1e300}, r"learning_rate: 1e.300 is not .* that it may be is 3.4e.38"),
        ({"learning_rate": 10**5000}, "learning_rate: a very large int is not a number"),
        ({"clip_grad_norm": {"a": 1}}, "clip_grad_norm: 'a' is not one of its parts, max_norm"),
        ({"clip_grad_norm": {"norm_type": 1}}, "clip_grad_norm: max_norm is missing"),
        ({"clip_grad_norm": {"max_norm": -1}}, "clip_grad_norm: max_norm: -1 is not a number"),
        ({"threshold": {"rating": float("nan")}}, "threshold: nan for 'rating' is not a number"),
        ({"threshold": {"rating": float("inf")}}, "threshold: inf for 'rating' is not a number"),
        ({"discretization": {"age": {"method": "ED"}}}, "discretization: bucket None for 'age'"),
        (
            {"discretization": {"age": {"method": "LD"}}, "numerical_features": ["year"]},
            "discretization: 'age' is not in numerical_features",
        ),
        (
            {"min_count": 0},
            "min_count: 0 is not a whole number of at least 1 or of the form",
        ),
        ({"min_count": {"a": 2.5}}, "min_count: 2.5 for 'a' is not a whole number of at least 1"),
        ({"min_count": {"user_id": 2}}, "min_count: 'user_id' holds ids, and merging them would"),
        (
            {"min_count": {"age": 2}, "transforms": {"age": {"buckets": 3}}},
            "min_count: 'age' is a column of numbers, of which transforms makes no categories",
        ),
        (
            {"transforms": "log"},
            "transforms: 'log' is not of the form {price: .log, stand",
        ),
        (
            {"transforms": {"age": "logg"}},
            "transforms: 'logg' for 'age' is not one of log, .* Did you mean 'log'?",
        ),
        ({"transforms": {"age": []}}, "transforms: the list for 'age' is empty"),
        (
            {"transforms": {"age": {"buckets": 1}}},
            "transforms: buckets 1 for 'age' is not a whole number of at least 2",
        ),
        (
            {"transforms": {"age": ["criteo", "log"]}},
            "transforms: 'criteo' makes categories of 'age', so nothing can come after it",
        ),
        ({"transforms": {"*": "log"}}, "transforms: '.' stands for all columns of numerical_feat"),
        (
            {"transforms": {"rating": {"buckets": 3}}},
            "transforms: 'rating' is the label, or the label is made of it",
        ),
        (
            {"transforms": {"*": "minmax"}, "numerical_features": ["age", "rating"]},
            "numerical_features: 'rating' is the label, or the label is made of it",
        ),
        (
            {"transforms": {"age": {"buckets": 3}}, "normalize_field": ["age"]},
            "transforms: 'age' is in normalize_field too. Leave it out of one of them",
        ),
        ({"NEG_PREFIX": ""}, "NEG_PREFIX: with '' a column of histories gets the name"),
        (
            {"LIST_SUFFIX": ""},
            "LIST_SUFFIX: with '' .* the name 'item_id', which ITEM_ID_FIELD has",
        ),
        ({"ITEM_LIST_LENGTH_FIELD": "user_id"}, "ITEM_LIST_LENGTH_FIELD: with 'user_id'"),
        ({"ITEM_ID_FIELD": ""}, "ITEM_ID_FIELD: it is empty"),
        ({"ITEM_ID_FIELD": "user_id"}, "USER_ID_FIELD: 'user_id' is ITEM_ID_FIELD too"),
        (
            {"load_col": {"inter": ["a"], "user": "*"}, "unload_col": {"inter": ["b"]}},
            "unload_col: load_col already lists the columns of 'inter' that are read. Leave out",
        ),
        ({"track": [1]}, "track: 1 is none of tensorboard, wandb, mlflow"),
        ({"track": True}, "track: True is none of tensorboard, wandb, mlflow"),
        ({"results_dir": "a\0b"}, "results_dir: 'a.x00b' is not a text. It holds '.x00'"),
        (
            {"config_file": "my.yaml"},
            "config_file: nothing reads this key; give the file by --config_files=my.yaml",
        ),
        ({"device": "cuda:1"}, "device: nothing reads this key; choose a GPU by --gpu_id=0, and"),
    ],
)
def test_bad_settings_are_refused_with_the_key_and_a_remedy(keys, message):
    with pytest.raises((ValueError, NotImplementedError), match=message):
        Config("GenCI", "ml-100k", config_dict=keys)


def test_a_path_is_no_name_of_a_dataset():
    with pytest.raises(
        ValueError,
        match="dataset: 'data/tiny/' is not a name; write data_path: <folder> and dataset:",
    ):
        Config("LR", "data/tiny/")


def test_what_is_of_the_right_kind_is_taken():
    keys = {
        "benchmark_filename": ["a", "b", "c"],
        "val_interval": None,
        "rm_dup_inter": None,
        "weight_decay": 1,
        "topk": 10,
        "user_inter_num_interval": "[0,inf)",
        "clip_grad_norm": {"max_norm": 5.0},
    }
    assert Config("DeepFM", "ml-100k", config_dict=keys)["benchmark_filename"] == ["a", "b", "c"]
    config = Config(
        "DeepFM",
        "ml-100k",
        config_dict={"val_interval": {"rating": "[0,3); (3,inf)", "gender": ["F"]}},
    )
    assert config["val_interval"]["gender"] == ["F"]
    config = Config("DeepFM", "ml-100k", config_dict={"use_gpu": False})
    assert config["gpu_id"] == "" and config["device"].type == "cpu"


def test_a_file_that_is_no_yaml_is_refused_by_name(tmp_path):
    file = tmp_path / "bad.yaml"
    for content in (b"epochs: [1,", b"epochs: \xff"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="config_files: '.*bad.yaml' is not YAML in UTF-8"):
            Config("LR", "ml-100k", [str(file)])


@pytest.mark.parametrize(
    "text, where",
    [
        ("epochs: 1\nseed: 2\nepochs: 3", "epochs a second time in line 3"),
        ("threshold: {rating: 4, rating: 3}", "rating a second time in line 1"),
        ("a:\n- b: 1\n- c: 1\n  c: 2", "c a second time in line 4"),
    ],
)
def test_a_key_given_twice_in_a_file_is_refused(tmp_path, text, where):
    file = tmp_path / "twice.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"config_files: '.*twice.yaml' gives {where}"):
        Config("LR", "ml-100k", [str(file)])


def test_heads_that_do_not_divide_are_refused_for_recboles_models_too():
    with pytest.raises(
        ValueError, match="num_heads: 3 heads do not divide attention_size, which is 16"
    ):
        Config("AutoInt", "ml-100k", config_dict={"num_heads": 3})
    with pytest.raises(ValueError, match="attention_heads: 3 does not divide embedding_size"):
        get_model("GenCI").check_settings(
            Config("GenCI", "ml-100k", config_dict={"attention_heads": 3})
        )


def test_a_part_of_eval_args_leaves_the_rest_of_the_protocol_in_place(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("eval_args: {group_by: none}\n")
    config = Config(
        "LR", "ml-100k", [str(file)], {"eval_args": {"split": {"LS": "valid_and_test"}}}
    )
    assert config["eval_args"] == {
        "split": {"LS": "valid_and_test"},
        "order": "TO",
        "group_by": "none",
        "mode": {"valid": "labeled", "test": "labeled"},
    }
    config = Config("LR", "ml-100k", argv=["--eval_args={'order': 'RO'}"])
    assert (
        config["eval_args"]["split"] == {"RS": [0.8, 0.1, 0.1]}
        and config["history_source"] == "training"
    )
    assert Config("LR", "ml-100k")["history_source"] == "past"


def test_tuned_settings_count_if_asked_for_and_beneath_the_user_s():
    from recbole_genci.config import properties_folder

    tuned = yaml.safe_load((properties_folder() / "tuned/ml-100k/AFN.yaml").read_text())
    config, by_default = (
        Config("AFN+", "ml-100k", argv=["--recipe=tuned"]),
        Config("AFN+", "ml-100k"),
    )
    assert (
        tuned and {key: config[key] for key in tuned} == tuned
    )  # of AFN+ too, which is AFN with another default
    assert by_default["weight_decay"] == "200/rows" and by_default["weight_average"] == 0.5
    words = ["--recipe=tuned", "--weight_decay=0.5"]
    assert Config("AFN+", "ml-100k", argv=words)["weight_decay"] == 0.5
    # A run with a recipe is resumed and loaded by the file that holds all its keys.
    Path("saved.yaml").write_text(config_as_yaml(config))
    assert effective_keys(Config("AFN+", "ml-100k", ["saved.yaml"])) == effective_keys(config)
    found = [
        item
        for file in properties_folder().glob("tuned/*/*.yaml")
        for item in yaml.safe_load(file.read_text()).items()
    ]
    assert all(
        isinstance(value, int | float | list)
        for key, value in found
        if key not in ("weight_decay_of", "structure", "attention_activation")
    )  # 1e-05 would be a string


def test_a_model_may_differ_from_the_default_recipe():
    by_default, named = (
        Config("FwFM", "ml-100k"),
        Config("FwFM", "ml-100k", argv=["--recipe=regularised"]),
    )
    assert by_default["weight_decay"] == named["weight_decay"] == "20/rows"
    assert str(named.source_of("weight_decay")) == "recipe regularised-FwFM"
    assert by_default["learning_rate"] == Config("LR", "ml-100k")["learning_rate"] == 0.002
    assert Config("LR", "ml-100k")["weight_decay"] == "10000/rows/rows_per_vector"
    assert Config("FwFM", "ml-100k", argv=["--recipe=paper"])["weight_decay"] == 0
    assert Config("FwFM", "ml-100k", argv=["--weight_decay=0.5"])["weight_decay"] == 0.5


def test_help_lists_every_key_of_ours_with_its_meaning_and_default(capsys):
    from recbole_genci.cli import main
    from recbole_genci.config import properties_folder

    assert main(["--help", "--model=GenCI,DIN", "--dataset=ml-100k"]) == 0
    text = capsys.readouterr().out
    ours = {
        key
        for name in ("overall", "model/GenCI", "dataset/ml-100k")
        for key in yaml.safe_load((properties_folder() / f"{name}.yaml").read_text())
    }
    assert {key for key in ours if f"--{key}" not in text} == {
        "train_neg_sample_args",
        "repeatable",
    }
    assert (
        "--text_encoder [lsa]" in text
        and "--learning_rate [0.002]" in text
        and "--use_user_features [True]" in text
    )
    assert "DIN on ml-100k with --recipe=tuned:" in text
    assert "GenCI, KD_DAGFM" in " ".join(text.split()) and max(map(len, text.splitlines())) < 160
    assert main(["--help", "--model=AFN,AFN+"]) == 0
    text = capsys.readouterr().out
    assert (
        text.index("--ensemble_dnn [False]")
        < text.index("AFN+'s own")
        < text.index("--ensemble_dnn [True]")
    )
    assert (
        main(["--help", "--model=GenCl"]) == 2 and "Did you mean 'GenCI'" in capsys.readouterr().err
    )


def test_a_key_of_one_compared_model_is_known_to_all():
    config = Config(
        "LR", "ml-100k", argv=["--history_tokens=item"], compared_models=["LR", "GenCI"]
    )
    assert config["history_tokens"] == "item"
    with pytest.raises(ValueError, match="'history_tokens' is not a key"):
        Config("LR", "ml-100k", argv=["--history_tokens=item"])


@pytest.mark.parametrize(
    ("key", "value", "mended"),
    [
        ("load_col", "{inter: [user_id, item_id]}", "{'inter': ['user_id', 'item_id']}"),
        ("load_col", "{'inter':[user_id,b-c]}", "{'inter': ['user_id', 'b-c']}"),
        ("threshold", "{rating: 4}", "{'rating': 4}"),
    ],
)
def test_a_mapping_with_bare_words_is_shown_as_it_must_be_written(key, value, mended):
    with pytest.raises(ValueError, match=re.escape(f'--{key}="{mended}".')):
        Config("LR", "ml-100k", argv=[f"--{key}={value}"])
    with pytest.raises(ValueError, match=r"load_col: '\{' is not of the form [^\"]*$"):
        Config("LR", "ml-100k", argv=["--load_col={"])


@pytest.mark.parametrize(
    "key", ["data_path", "semantic_id_dir", "semantic_id_path", "checkpoint_dir", "text_encoder"]
)
def test_a_name_that_no_file_can_have_is_refused_by_key(key):
    with pytest.raises(ValueError, match=f"{key}: the name 'aaa.* has 300 letters"):
        Config("LR", "ml-100k", config_dict={key: f"x/{'a' * 300}/y"}, compared_models=["GenCI"])
    with pytest.raises(ValueError, match="dataset: the name 'aaa"):
        Config("LR", "a" * 300)


def test_missing_and_empty_configuration_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        Config("LR", "ml-100k", ["nowhere.yaml"])
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    with pytest.raises(ValueError, match="empty.yaml"):
        Config("LR", "ml-100k", [str(tmp_path / "empty.yaml")])


@pytest.mark.parametrize(
    ("name", "hint"), [("GenCl", "GenCI"), ("deepfm", "DeepFM"), ("DINE", "DI"), ("SASRec", "")]
)
def test_unknown_models_are_refused_with_the_nearest_name(name, hint):
    with pytest.raises(ValueError, match=f"model: '{name}' is not a model.*{hint}"):
        get_model(name)


def test_the_papers_fifteen_baselines_are_known():
    recboles = {
        "LR",
        "FwFM",
        "NFM",
        "PNN",
        "FiGNN",
        "DeepFM",
        "DCNV2",
        "AutoInt",
        "xDeepFM",
        "DIN",
        "DIEN",
    }
    ours = {"AFN+", "RFM", "MIRRN", "SFG"}
    assert recboles | ours | {"AFN", "GE4Rec", "GenCI"} <= set(known_models())


def test_loading_a_sequential_model_leaves_anomaly_detection_as_it_was():
    code = """
import torch
torch.autograd.set_detect_anomaly({0})
from recbole_genci.model.registry import get_model
get_model("DIN")
from recbole.model.sequential_recommender import DIN  # as a model of one's own does
assert torch.is_anomaly_enabled() is {0}
import recbole.model.sequential_recommender.sine as sine, importlib
torch.autograd.set_detect_anomaly(False); importlib.reload(sine)
assert torch.is_anomaly_enabled()  # what is mended
"""
    for enabled in (False, True):
        subprocess.run(
            [sys.executable, "-c", code.format(enabled)], check=True, cwd=Path(__file__).parents[2]
        )


def test_the_first_import_of_a_model_warns_of_nothing(tmp_path):
    """Python 3.12 and later warn of escape sequences in RecBole's dien.py when they compile it;
    here nothing is compiled yet.
    """
    code = f"""
import sys, recbole_genci, recbole.config, recbole.data
sys.pycache_prefix = {str(tmp_path)!r}
from recbole_genci.model.registry import get_model
get_model("DIEN")
assert "recbole.model.sequential_recommender.dien" in sys.modules
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True,
                           cwd=Path(__file__).parent.parent)  # fmt: skip
    assert "SyntaxWarning" not in shown.stderr


def test_a_runs_configuration_can_be_given_back_to_a_run(tmp_path):
    from recbole_genci.training.run_folder import config_as_yaml

    config = Config("GenCI", "ml-100k", config_dict={"learning_rate": 0.003})
    file = tmp_path / "config.yaml"
    file.write_text(config_as_yaml(config))
    assert set(yaml.safe_load(file.read_text())) <= known_keys(["GenCI"], "ml-100k")
    again = Config("GenCI", "ml-100k", [str(file)])
    differing = {k for k in config.final_config_dict if config[k] != again[k]}
    assert differing <= {"train_neg_sample_args"}


def test_files_may_be_given_as_on_the_command_line(tmp_path):
    for name, content in (("a.yaml", "epochs: 7"), ("b.yaml", "train_batch_size: 64")):
        (tmp_path / name).write_text(content)
    assert Config("LR", "ml-100k", str(tmp_path / "a.yaml"))["epochs"] == 7
    assert Config("LR", "ml-100k", tmp_path / "a.yaml")["epochs"] == 7
    both = Config("LR", "ml-100k", f"{tmp_path / 'a.yaml'} {tmp_path / 'b.yaml'}")
    assert (both["epochs"], both["train_batch_size"]) == (7, 64)


def test_numbers_of_numpy_are_numbers():
    config = Config(
        "LR", "ml-100k", config_dict={"epochs": np.int64(7), "learning_rate": np.float32(0.5)}
    )
    assert type(config["epochs"]) is int and type(config["learning_rate"]) is float
    ratios = {"split": {"RS": [np.float64(0.8), 0.1, 0.1]}}
    within = {"mlp_hidden_size": [np.int64(8)], "eval_args": ratios}
    config = Config("DeepFM", "ml-100k", config_dict=within)
    assert config["mlp_hidden_size"] == [8] and type(config["mlp_hidden_size"][0]) is int
    assert yaml.safe_load(config_as_yaml(config))["eval_args"]["split"] == {"RS": [0.8, 0.1, 0.1]}


def test_the_last_seed_may_be_the_largest():
    keys = {"seed": 2**32 - 2, "seeds": 2, "data_seed": 2**32 - 1}
    assert Config("LR", "ml-100k", config_dict=keys)["seeds"] == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({1: 2}, "config_dict: 1 is not the name of a key"),
        ([1], "config_dict: .1. is not a mapping of keys"),
        ("epochs", "config_dict: 'epochs' is not a mapping of keys"),
        ([], "config_dict: .. is not a mapping of keys"),
    ],
)
def test_what_is_no_dict_of_keys_is_refused(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Config("LR", "ml-100k", config_dict=given)


def test_files_with_commas_between_are_told_from_files_with_spaces(tmp_path):
    (tmp_path / "a.yaml").write_text("epochs: 3\n")
    with pytest.raises(
        FileNotFoundError,
        match="config_files: 'a.yaml,b.yaml' does not exist; spaces divide files, not commas: "
        "--config_files='a.yaml b.yaml'",
    ):
        Config("LR", "ml-100k", "a.yaml,b.yaml")


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "latin-1", "utf-16", "utf-32", "gb18030"])
def test_every_encoding_of_texts_is_accepted(encoding):
    assert Config("LR", "ml-100k", argv=[f"--encoding={encoding}"])["encoding"] == encoding


@pytest.mark.parametrize(
    ("models", "keys", "said"),
    [
        (["LR"], {"mu": 0.1}, "'mu' is not a key of {whose}. It is a key of GenCI."),
        (
            ["LR", "DeepFM"],
            {"mu": 0.1, "eta": 1, "epochs": 1},
            "'mu' and 'eta' are not keys of {whose}. They are keys of GenCI.",
        ),
        (["LR"], {"mu": 0.1, "muu": 1}, "'mu' is not a key of {whose}. It is a key of GenCI."),
        (["LR"], {"alpha": 1}, "It is a key of DIEN and KD_DAGFM."),
        (
            ["LR"],
            {"mlp_hidden_size": [8]},
            "It is a key of AFN, AutoInt, DCN, DCNV2 and 13 others.",
        ),
        (["LR"], {"hidden_units": [8]}, "Did you mean 'mlp_hidden_size'? It is a key of AFN, "),
        (["DeepFM"], {"hidden_units": [8]}, "{whose}. Did you mean 'mlp_hidden_size'? --help"),
        (["LR"], {"colour": 1}, "'colour' is not a key of {whose}. --help lists all keys."),
    ],
)
def test_a_key_of_a_model_that_was_not_asked_for_is_told_from_a_typing_error(models, keys, said):
    whose = "RecBole, of this plugin or of the models asked for"
    with pytest.raises(ValueError) as error:
        Config(models[0], "ml-100k", config_dict=keys, compared_models=models)
    assert said.format(whose=whose) in str(error.value)


def test_a_folder_given_as_a_file_is_said_to_be_one(tmp_path):
    run = tmp_path / "saved/LR-tiny-1"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("epochs: 3\n")
    for path, said in (
        ("saved", "'saved' is a folder, not a file; give the path of a YAML file."),
        (
            "saved/LR-tiny-1",
            "is a folder, not a file; the keys of its run are in saved/LR-tiny-1/config.yaml.",
        ),
        ("nowhere", "'nowhere' does not exist; give the path of a YAML file."),
    ):
        with pytest.raises(FileNotFoundError, match=f"^config_files: .*{said}$"):
            Config("LR", "ml-100k", [path])


def test_every_synonym_stands_for_a_key_and_is_none_itself():
    keys = set(known_keys(known_models(), "ml-100k"))
    assert set(_MEANT.values()) <= keys and not _MEANT.keys() & keys
