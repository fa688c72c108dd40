"""Every key of the table with odd values, by command line, YAML file or dict.

A case prepares a run on a small dataset and trains one batch. It is right when the value that
counts is the one that was asked for; a refusal must name the key.
"""

from __future__ import annotations

import ast
import logging
import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from conftest import SMALL, tiny_rows, write_dataset

from recbole_genci.config.key_source import COMMAND_LINE, DICT, FILE
from recbole_genci.config.keys import Key, key_table
from recbole_genci.data import create_loaders
from recbole_genci.plan import prepare
from robustness.harness import Case

MODELS = ("DeepFM", "DIN", "GenCI", "LR", "NFM", "DIEN", "xDeepFM", "AutoInt", "FiGNN", "PNN")
MODELS += ("DCNV2", "AFN", "MIRRN", "RFM", "SFG", "KD_DAGFM", "EulerNet", "DSSM", "FwFM", "FFM")
LARGEST = 2**31 - 1
ODD = [
    *(None, True, False, 0, 1, 2, 3, 7, -1, -(2**31), 10**30, 10**400, LARGEST, LARGEST + 1),
    *(0.0, 0.5, 1.0, 1.5, -0.5, 1e-30, 1e-320, 1e300, math.nan, math.inf, -math.inf),
    *("", " ", "a", "None", "nan", "inf", "1", "0.5", "True", "yes", "[1, 2]", "1e-3", "1_000"),
    *("ä€𝄞", "a\nb", "a\tb", "a\0b", "\udcff", "../..", "/", "~", "x" * 5000, "%s{}", "a=b", "#"),
    *("user_id", "item_id", "label", "timestamp", "year", "genre", "auc", "utf-16", "GAUC"),
    *([], [None], [1], [0], [-1], [2.5], ["a"], [""], [[1]], [10**30], [True], [math.nan], [[]]),
    *([64, 64], ["user_id"], ["year"], ["AUC", "LogLoss"], ["a", "a"], ["a", "b", "c"]),
    *({}, {"a": 1}, {1: 2}, {None: None}, {"a": {"a": {}}}, {"inter": "*"}, {"inter": []}),
    *(
        {"label": 1},
        {"label": "[1,1]"},
        {"max_norm": 1.0},
        {"genre": 1},
        {"year": {"method": "LD"}},
    ),
]
#: Larger values of these only take longer.
SLOW = {"rqvae_epochs", "lsa_dim", "worker", "nproc", "world_size", "tokenizer_threads"}
#: RecBole or the product turns what was asked for into another form.
OTHER_FORM = {"gpu_id", "use_gpu", "data_path", "eval_args", "metrics", "train_neg_sample_args"}
OTHER_FORM |= {"show_progress", "history_source", "additional_feat_suffix", "state", "warm_up"}
#: Where a value is refused under the name of what it does not go with.
GOES_WITH = {
    "world_size": ("port",),
    "ITEM_ID_FIELD": ("describes",),
    "USER_ID_FIELD": ("describes",),
    "load_col": ("LABEL_FIELD",),
    "unload_col": ("LABEL_FIELD",),
    "unused_col": ("LABEL_FIELD",),
}
REPEATED = "epochs: 1\nseed: 1\n{key}: 1\n{key}: 2\n"


def cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    """Yield a random key, value and way of giving it for each case."""
    keys = write_dataset(folder, tiny_rows(rows_per_user=17))
    keys = {**keys, "quantizer": "rkmeans"}
    tables = {model: key_table([model], "tiny") for model in MODELS}
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        model = MODELS[rng.integers(len(MODELS))]
        # A model's own keys are few beside the common ones.
        own = [key for key in tables[model] if key not in tables["LR"]]
        name = str(rng.choice(own if own and rng.random() < 0.3 else list(tables[model])))
        key = tables[model][name]
        value = _drawn(rng, key)
        way = (COMMAND_LINE, FILE, DICT)[rng.integers(3)]
        text = None
        if way == FILE and rng.random() < 0.05:
            text = REPEATED.format(key=name)
        what = f"seed {seed}, case {number}: {model}, {name}={value!r:.200} by {way}"
        given = {k: v for k, v in keys.items() if k in tables[model] and k != name}
        given |= {k: v for k, v in SMALL.get(model, {}).items() if k != name}
        names = (name, *GOES_WITH.get(name, ()), *(("asked.yaml",) if way == FILE else ()))
        yield Case(what, partial(_check, model, key, value, way, text, given), names)


def _drawn(rng: np.random.Generator, key: Key) -> Any:
    """An odd value, or one near the key's default."""
    if rng.random() < 0.15:
        return key.default
    value = ODD[rng.integers(len(ODD))]
    if key.name in SLOW and isinstance(value, int) and value > 3:
        return 3
    return value


def _check(
    model: str, key: Key, value: Any, way: str, text: str | None, given: dict[str, Any]
) -> str | None:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    files, argv, expected = [], [], value
    if way == COMMAND_LINE:
        word = value if isinstance(value, str) else repr(value)
        argv, expected = [f"--{key.name}={word}"], _as_typed(key.name, word)
    elif way == FILE:
        text = text or yaml.safe_dump({key.name: value}, allow_unicode=True)
        Path("asked.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
        files = ["asked.yaml"]
        if isinstance(value, str) and re.fullmatch(r"\d+e[-+]?\d+", value):
            expected = float(value)  # written without quotes, which RecBole reads as a number
    else:
        given = {**given, key.name: value}
        expected = _as_typed(key.name, value) if isinstance(value, str) else value
    plan = prepare(model, "tiny", files, given, argv)
    (config,) = plan.configs.values()
    if key.kind is not None and not key.kind.has_effect:
        is_said = any(line.startswith(f"{key.name}: this key does nothing") for line in said)
        return None if is_said else f"{key.name} does nothing, and nothing said so"
    if key.name not in OTHER_FORM and not _same(config[key.name], expected):
        return f"asked for {expected!r:.200}, the run has {config[key.name]!r:.200}"
    _train(config, plan)
    return None


def _as_typed(name: str, word: str) -> Any:
    """What the documents promise: a literal, true, false, none, or else a text."""
    named = {"true": True, "false": False, "none": None, "null": None, "~": None}
    if word.lower() in named and (
        named[word.lower()] is None or not name.endswith(("_path", "_dir"))
    ):
        return named[word.lower()]
    if name.endswith(("_path", "_dir")):
        return word
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError, TypeError):
        return word


def _same(have: Any, asked: Any) -> bool:
    if isinstance(have, (list, tuple)) and isinstance(asked, (list, tuple)):
        return len(have) == len(asked) and all(map(_same, have, asked))
    return type(have) is type(asked) and have == asked


def _train(config: Any, plan: Any) -> None:
    train, valid, _ = create_loaders(config, plan.parts, plan.semantic_ids)
    network = config.model_class(config, train.dataset)
    for batch in train:
        losses = network.calculate_loss(batch)
        sum(losses if isinstance(losses, tuple) else (losses,)).backward()
        break
    for batch in valid:
        network.eval().predict(batch[0] if isinstance(batch, (tuple, list)) else batch)
        break
