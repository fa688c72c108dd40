"""Parameter files with odd lines: what is accepted must draw values that the key takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.model_selection import ParameterSampler

from recbole_genci.config import Config
from recbole_genci.config.keys import key_table
from recbole_genci.tuning.settings import Settings
from recbole_genci.tuning.space import (
    LogUniform,
    QUniform,
    Uniform,
    check_space,
    read_params_file,
)
from robustness.harness import Case

MODELS = ("GenCI", "DeepFM", "AutoInt", "MIRRN", "KD_DAGFM")
NUMBERS = ["0", "1", "2", "5", "-1", "0.1", "0.5", "1e-4", "1e-2", "-8", "-3", "100", "1e308"]
NUMBERS += ["-1e308", "1e-320", "nan", "inf", "-inf", "", "a", "1_000", "0x10", "1e400", "10**3"]
NUMBERS += ["٣"]
CHOICES = ["[0.1, 0.2]", "[1]", "[]", "[1, 1]", "[1, 1.0]", "[True, 1]", "['a', 'b']", "0.1"]
CHOICES += ["[[8], [4, 4]]", "['[8]', '[4]']", "[None, 0.1]", "[nan]", "[1e999]", "(1, 2)"]
CHOICES += ["[" * 5000, "[-1, 0]", "[10**30, 1]", f"[{10**30}, 1]", "[a, b]", "{1, 2}", "{1: 2}"]
CHOICES += ["[{'a': 1}, {'a': 2}]", "['adam', 'sgd']", "['bce', 'mse']", "[b'a', 'a']", "[1, 2"]
CHOICES += ["['\\ud800', 'a']", "[1e-3, 1e-4]", "['none', '~']", "[...]", "[1j, 2]"]
KINDS = ["choice", "uniform", "loguniform", "quniform", "Uniform", "normal", "", "choice,", "log"]
SOUND = ["learning_rate loguniform -8,-3", "dropout_prob uniform 0,0.5", "epochs quniform 1,9,2"]
SOUND += ["mlp_hidden_size choice [[8], [16, 16]]", "weight_decay choice [0, 1e-4]", "# why"]
SOUND += ["embedding_size quniform 4,32,4", "learner choice ['adam', 'sgd']", ""]


def cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    """Yield files of one to three lines."""
    tables = {model: key_table([model], "ml-100k") for model in MODELS}
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        model = MODELS[rng.integers(len(MODELS))]
        lines = [_line(rng, list(tables[model])) for _ in range(rng.integers(1, 4))]
        text = str(rng.choice(["\n", "\n", "\r\n", "\n\n"])).join(lines)
        what = f"seed {seed}, case {number}: {model}, {text[:300]!r}"
        yield Case(what, partial(_check, model, text), ("space.test",))


def _line(rng: np.random.Generator, keys: list[str]) -> str:
    if rng.random() < 0.5:
        return str(rng.choice(SOUND))
    often = ["learning_rate", "dropout_prob", "embedding_size", "mlp_hidden_size", "weight_decay"]
    odd = [*keys, "lerning_rate", "ä", "1", "--mu"]
    name = str(rng.choice(often if rng.random() < 0.6 else odd))
    kind = KINDS[rng.integers(4 if rng.random() < 0.9 else len(KINDS))]
    if kind == "choice":
        value = CHOICES[rng.integers(len(CHOICES))]
    elif rng.random() < 0.5:
        low, high = sorted(rng.choice([-8, -3, 0, 0.1, 0.5, 1, 2, 5, 16, 100, 1e-4], 2))
        value = f"{low:g},{high:g}" + (f",{rng.choice([1, 2, 0.5])}" if kind == "quniform" else "")
    else:
        count = {"quniform": 3}.get(kind, 2) if rng.random() < 0.9 else int(rng.integers(0, 5))
        value = ",".join(NUMBERS[rng.integers(len(NUMBERS))] for _ in range(count))
    return f"{name} {kind} {value}{'  # why' if rng.random() < 0.1 else ''}"


def _check(model: str, text: str) -> str | None:
    Path("space.test").write_text(text, encoding="utf-8", newline="")
    space = read_params_file("space.test")
    config = Config(model, "ml-100k")
    check_space(space, config, "space.test")
    table = key_table([model], "ml-100k")
    for name, parameter in space.items():
        if isinstance(parameter, LogUniform) and 0 < parameter.low < 0.5:
            return f"{name}: {parameter} is taken"
    for point in ParameterSampler(space, 20, random_state=0):
        for name, value in point.items():
            parameter, kind = space[name], table[name].kind
            if kind is not None and value is not None and not kind.accepts(value):
                return f"{name}: {value!r} is drawn from {parameter}, but is not {kind.expected()}"
            low, high = getattr(parameter, "low", 0), getattr(parameter, "high", 0)
            if isinstance(parameter, LogUniform):
                low, high = math.exp(low), math.exp(high)
            step = parameter.q / 2 if isinstance(parameter, QUniform) else 0
            if isinstance(parameter, (Uniform, LogUniform, QUniform)):
                slack = step + 1e-9 * max(abs(low), abs(high))
                if not low - slack <= value <= high + slack:
                    return f"{name}: {value!r} is drawn from {parameter}"
    if Settings("random", 2).num_trials(space) < 1:
        return "no trials"
    point = next(Settings("random", 2).points(space, 0))
    try:
        trial = Config(model, "ml-100k", config_dict=point)
    except ValueError as error:  # keys that do not fit together: this trial fails in words
        return None if any(name in str(error) for name in point) else f"nameless: {error}"
    for name, value in point.items():
        if trial[name] != value:
            return f"{name}: the point has {value!r}, the trial {trial[name]!r}"
    return None
