"""A request from Python, as the command line that means the same."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_rows, write_dataset

from recbole_genci.config import Config, parse_argv
from recbole_genci.config.as_command import as_command
from recbole_genci.config.command_line import key_value_words


def written(config_dict, argv=(), models=("LR",), files=None):
    return as_command("run.py", ["--model=LR"], models, files, config_dict, argv)


def read(line):
    return parse_argv(key_value_words(shlex.split(line, comments=True)[2:]))


@pytest.mark.parametrize(
    "keys",
    [
        {"epochs": 4, "learning_rate": np.float64(0.03), "gpu_id": "", "stopping_step": None},
        {"metrics": ["AUC", "LogLoss"], "load_col": {"inter": ["user_id", "it's # a # b"]}},
        {"data_path": "2024_01_02", "weight_decay": "30/rows", "shuffle": False, "threshold": {}},
        {"eval_args": {"order": "RO", "split": {"RS": (0.8, 0.1, 0.1)}}},
    ],
)
def test_the_words_are_read_as_the_values_that_python_gave(keys):
    line, plain = written(keys), {}
    for key, value in keys.items():
        plain[key] = value | {"split": {"RS": [0.8, 0.1, 0.1]}} if key == "eval_args" else value
    assert read(line) == {"model": "LR"} | plain and "  # " not in line


def test_argv_beats_the_dict_and_eval_args_are_merged(tmp_path):
    keys = write_dataset(tmp_path / "data", tiny_rows())
    keys |= {"epochs": 1, "eval_args": {"order": "RO"}}
    argv = ["--epochs=2", "--eval_args={'split': {'RS': [0.6, 0.2, 0.2]}}", "--seed=7"]
    line = written(keys, argv)
    words = [word for word in shlex.split(line)[2:] if not word.startswith("--model")]
    assert len({word.partition("=")[0] for word in words}) == len(words) == len(keys) + 1
    del keys["mlp_hidden_size"]
    words = [word for word in words if "mlp_hidden_size" not in word]
    given, again = Config("LR", "tiny", None, keys, argv), Config("LR", "tiny", None, None, words)
    for key in ("epochs", "eval_args", "data_path", "seed", "load_col", "metrics"):
        assert given[key] == again[key], key


def test_what_no_command_line_can_hold_is_named_in_a_comment():
    def Local(labels, probabilities):
        return 0.0

    line = written({"metrics": ["AUC", Local], "epochs": 2, "x": object(), "rate": float("inf")})
    assert line.endswith("  # Python alone can give metrics, x, rate") and "Local" not in line
    assert read(line) == {"model": "LR", "epochs": 2}
    line = written({}, [], ["LR", "__main__:Mine"], Path("my keys.yaml"))
    assert line == "python run.py --model=LR  # Python alone can give model, config_files"
    assert "'--config_files=a.yaml b.yaml'" in written({}, files="a.yaml b.yaml")
