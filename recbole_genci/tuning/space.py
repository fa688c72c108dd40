"""Read RecBole's parameter files, which say what a search varies, without evaluating any code.

Each line has one parameter; ``#`` begins a comment:

    learning_rate loguniform -8,-3          e**-8 to e**-3: RecBole and hyperopt take exponents
    dropout_prob uniform 0,0.5
    intent_layers quniform 1,5,1            rounded to multiples of 1
    mlp_hidden_size choice [[64], [256, 256]]
"""

from __future__ import annotations

import ast
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_genci.config import Config, known_keys, lists_for_tuples, parse_value
from recbole_genci.config.keys import Key, key_table, keys_with
from recbole_genci.config.unknown_keys import not_keys, own_keys
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS
from recbole_genci.training.saved_files import PLACE_KEYS
from recbole_genci.utils.config_like import ConfigLike, Overridden
from recbole_genci.utils.run_folders import what_it_is
from recbole_genci.utils.value_checks import nearest

_logger = logging.getLogger(__name__)

# RecBole's categories of keys that a search cannot vary, and why.
_FIXED_CATEGORIES = {
    "Dataset": "it changes the rows, so that trials could not be compared with one another",
    "General": "it says where and how to run, not what the model is",
    "Evaluation": "it changes what is measured, so that trials could not be compared with one "
    "another",
}
_OF_ROWS = keys_with("rows") | {"train_neg_sample_args", "shuffle", "double_tower"}
_OF_THE_COMMAND = PLACE_KEYS | {
    "model",
    "dataset",
    "config_files",
    "device",
    "shard_rows",
    "local_rank",
}

# Nothing that trains or scores reads these keys: they are of logs and reports.
_OF_REPORTS = {
    "diagnostic_rows",
    "volatility_field",
    "wandb_project",
    "track",
    "mlflow_experiment",
    "loss_decimal_place",
}
# Keys of which nothing is read while another one is 0 (False).
_PARTS_OF = {
    "sr_teacher": "sr_weight",
    "sr_teacher_dropout_prob": "sr_weight",
    "weight_average_per": "weight_average",
    "weight_decay_of": "weight_decay",
}


@dataclass(frozen=True)
class Choice:
    """One of several equally likely values: numbers, strings, lists or dicts."""

    values: tuple

    def rvs(self, random_state: np.random.RandomState) -> Any:
        """Draw one value; scikit-learn's ParameterSampler calls this method."""
        return self.values[random_state.randint(len(self.values))]

    def __str__(self) -> str:
        return f"one of {list(self.values)}"


@dataclass(frozen=True)
class Uniform:
    """A number from ``low`` to ``high``."""

    low: float
    high: float

    def rvs(self, random_state: np.random.RandomState) -> float:
        """One value, drawn by a generator of numpy."""
        return float(random_state.uniform(self.low, self.high))

    def __str__(self) -> str:
        return f"uniform from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class LogUniform:
    """``exp(x)`` with ``x`` uniform from ``low`` to ``high``."""

    low: float
    high: float

    def rvs(self, random_state: np.random.RandomState) -> float:
        """One value, drawn by a generator of numpy."""
        return math.exp(random_state.uniform(self.low, self.high))

    def __str__(self) -> str:
        low, high = math.exp(self.low), math.exp(self.high)
        return f"log-uniform from e^{self.low:g} = {low:.3g} to e^{self.high:g} = {high:.3g}"


@dataclass(frozen=True)
class QUniform:
    """A number from ``low`` to ``high``, rounded to a multiple of ``q``."""

    low: float
    high: float
    q: float

    def rounded(self, value: float) -> int | float:
        """``value`` rounded to the grid; an int if ``q`` is whole, since keys that count need ints
        and hyperopt gives floats.
        """
        steps = round(value / self.q)
        return steps * int(self.q) if float(self.q).is_integer() else round(steps * self.q, 12)

    def rvs(self, random_state: np.random.RandomState) -> int | float:
        """One value, drawn by a generator of numpy."""
        return self.rounded(random_state.uniform(self.low, self.high))

    def __str__(self) -> str:
        first, last = self.rounded(self.low), self.rounded(self.high)
        return f"uniform from {first:g} to {last:g} in steps of {self.q:g}"


Parameter = Choice | Uniform | LogUniform | QUniform
Space = dict[str, Parameter]
# Bounds of loguniform that are meant as values: nobody searches from e^0.001 = 1.001, or to e^100.
_PLAIN_BELOW, _PLAIN_ABOVE = 0.5, 20
_LARGEST_EXPONENT = 700  # e^710 is no float
_MOST_STEPS = 2**50
_RANGES = {
    "uniform": (Uniform, "low,high"),
    "loguniform": (LogUniform, "low,high"),
    "quniform": (QUniform, "low,high,q"),
}


def read_params_file(file: str | Path) -> Space:
    """Read a parameter file of RecBole's format.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a line has another format (names its number), a name is given twice, there is no
            parameter, or the file is not UTF-8.
    """
    return parse_space(read_params_text(file), str(file))


def read_params_text(file: str | Path) -> str:
    """The text of a parameter file, without the byte order mark that some editors write.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not UTF-8.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(
            f"params_file: '{file}' {what_it_is(file)}; give a file of lines like: mu choice [0.1, "
            "1.0]"
        )
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"params_file: '{file}' is not text in UTF-8 ({error}); save it as UTF-8."
        ) from error


def parse_space(text: str, source: str) -> Space:
    """Parse the content of a parameter file; ``source`` is the file's name in errors."""
    space = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{source}, line {number}: '{line.strip()[:80]}'"
        name, kind, value = (line.split(maxsplit=2) + ["", ""])[:3]
        if kind != "choice" and kind not in _RANGES:
            raise ValueError(
                f"{where} is not of the form 'name type values' with a type among choice, "
                f"{', '.join(_RANGES)}.{nearest(kind, ['choice', *_RANGES]) if kind else ''} "
                "Comments begin with #."
            )
        if name in space:
            raise ValueError(f"{where} gives '{name}' a second time; keep one of the two lines.")
        space[name] = _choice(value, where) if kind == "choice" else _range(kind, value, where)
    if not space:
        raise ValueError(f"{source} names no parameter; write lines like: mu choice [0.1, 1.0]")
    return space


def _choice(text: str, where: str) -> Choice:
    try:
        # RecBole's files write an inner list as a string, because hyperopt would take a list apart.
        values = [
            lists_for_tuples(parse_value(value)) for value in _as_sequence(ast.literal_eval(text))
        ]
        keys = [canonical(value) for value in values]
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"{where}: the values are not a list of numbers, quoted words, lists or dicts, for "
            "example [0.1, 0.2] or ['a', 'b']."
        ) from error
    if not values or len(set(keys)) < len(keys):
        raise ValueError(
            f"{where}: {'a value stands twice' if values else 'there is no value'} among the "
            "choices."
        )
    return Choice(tuple(values))


def _as_sequence(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        raise TypeError("not a list")
    return value


def _range(kind: str, text: str, where: str) -> Parameter:
    make, form = _RANGES[kind]
    try:
        numbers = [float(part) for part in text.partition("#")[0].split(",")]
        parameter = make(*numbers)
    except (ValueError, TypeError) as error:
        example = "1,5,1" if kind == "quniform" else "-8,-3"
        raise ValueError(f"{where}: {kind} takes {form}, for example {kind} {example}.") from error
    if problem := _problem(kind, *numbers):
        raise ValueError(f"{where}: {problem}")
    return parameter


def _problem(kind: str, low: float, high: float, q: float | None = None) -> str:
    """What is wrong with the numbers of a range; an empty text if nothing is."""
    form = _RANGES[kind][1]
    if not all(map(math.isfinite, (low, high, q or 0))) or low >= high:
        return f"{kind} takes {form}, which are finite, with low below high."
    if not math.isfinite(high - low):
        return f"from {low:g} to {high:g} is more than a number can hold. Narrow the range."
    if kind == "loguniform":
        return _exponents_problem(low, high)
    if q is not None and q <= 0:
        return f"{kind} takes {form} with q above 0, the step between values."
    if q is not None and q > high - low:
        return (
            f"q, the step between values, is {q:g}, and from {low:g} to {high:g} is less than one "
            "step. Make q smaller."
        )
    if q is not None and max(-low, high) / q > _MOST_STEPS:
        return f"steps of {q:g} are lost in rounding beside {max(-low, high):g}. Make q larger."
    return ""


def _exponents_problem(low: float, high: float) -> str:
    """Whether the bounds of ``loguniform`` are values where exponents belong."""
    if low > 0 and (low < _PLAIN_BELOW or high > _PLAIN_ABOVE):
        return (
            f"loguniform takes exponents: for {low:g} to {high:g} write loguniform "
            f"{_exponent(low)},{_exponent(high)}. As it stands, values would lie between "
            f"e^{low:g} and e^{high:g}."
        )
    if low > -1 and high - low < _PLAIN_BELOW:
        return (
            f"loguniform takes exponents, so that these give no more than {math.exp(low):.5g} to "
            f"{math.exp(high):.5g}. If you mean these values, write uniform "
            f"{math.exp(low):.5g},{math.exp(high):.5g}."
        )
    if low < -_LARGEST_EXPONENT or high > _LARGEST_EXPONENT:
        return (
            f"loguniform takes exponents, and e^{low if low < -_LARGEST_EXPONENT else high:g} is "
            f"no number. Exponents lie between -{_LARGEST_EXPONENT} and {_LARGEST_EXPONENT}."
        )
    return ""


def _exponent(value: float) -> str:
    return f"{math.log(value):.2f}"


def canonical(value: object) -> str:
    """The same string for equal values, in whatever order dicts have their keys; 1 equals 1.0.

    Raises ValueError or TypeError for a value that JSON cannot hold.
    """
    return json.dumps(_whole(value), sort_keys=True, allow_nan=False)


def _whole(value: Any) -> Any:
    """The value with whole numbers as int."""
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_space(space: Space, config: Config, source: str, argv_keys: Iterable[str] = ()) -> None:
    """Refuse parameters that a search cannot vary.

    Args:
        space: the parameters.
        config: the Config that trials start from.
        source: the parameter file's name.
        argv_keys: keys that the command line sets.

    Raises:
        ValueError: a key is unknown (names the nearest), is set on the command line too, changes
            rows, semantic IDs or metrics, which trials share, changes nothing or is a recipe; or it
            does not take all values of its parameter.
    """
    _check_known(space, config, source)
    table = key_table([config.model_reference], config["dataset"])
    fixed = set(argv_keys)
    for name, parameter in space.items():
        if name in fixed:
            raise ValueError(
                f"{source}: '{name}' is searched, but --{name} fixes it too. Take it out of one of "
                "the two."
            )
        if why := _why_not(name, config, table):
            raise ValueError(f"{source}: '{name}' cannot be searched: {why}")
        if name in table:
            _check_kind(table[name], parameter, source)
        if why := _why_unread(name, space, config, table):
            raise ValueError(
                f"{source}: '{name}' cannot be searched: {config['model']} does not read it here, "
                f"so that its trials would be the same. {why} Take it out, or change that."
            )
        if isinstance(parameter, Choice) and len(parameter.values) == 1:
            _logger.warning(
                f"{source}: '{name}' has one choice, {parameter.values[0]!r}, so that the search "
                "does not vary it."
            )


def _check_known(space: Space, config: Config, source: str) -> None:
    """Refuse names that are no keys of the model."""
    known = known_keys([config.model_reference], config["dataset"])
    if unknown := [name for name in space if name not in known]:
        whose = f"{config['model']}, RecBole or this plugin"
        raise ValueError(
            f"{source}: {not_keys(unknown, known, whose)}{own_keys([config.model_reference])}"
        )


def _why_not(name: str, config: Config, table: Mapping[str, Key]) -> str | None:
    """Why no search can vary the key, and what to do; None if one can."""
    if name == "recipe":  # a trial's Config has each key by name, which beats a recipe
        return (
            "it is a set of keys, and a search varies single ones. Search those keys "
            "(properties/recipe/ lists them), or give one recipe to all trials, --recipe=NAME."
        )
    if name in table and table[name].does_nothing:
        return f"this key does nothing here. {table[name].meaning} Take it out."
    # Those of RecBole's CTR models that read reg_weight have it in their properties.
    unread_weight = name == "reg_weight" and name not in config.internal_config_dict
    if name in _OF_REPORTS or unread_weight:
        return (
            f"nothing that {config['model']} learns or scores depends on it, so that its trials "
            "would be the same. Take it out."
        )
    if reason := _why_fixed(name, config):
        return f"{reason}. Search once for each of its values instead."
    return None


def _why_unread(name: str, space: Space, config: Config, table: Mapping[str, Key]) -> str | None:
    """Why no trial reads the key, as another key leaves it out; None if some trial may read it."""
    why = None
    for values in _nearby(name, space, config, table):
        why = _switched_off(config, values).get(name)
        if why is None:
            return None
    return why


def _nearby(
    name: str, space: Space, config: Config, table: Mapping[str, Key]
) -> Iterator[ConfigLike]:
    """The Config's values, and those with one other key of the space changed.

    Keys are left out where others are off, and one that is on is enough to read them.
    """
    yield config
    for other in space.keys() & table.keys() - {name}:
        for value in _sample(table[other], space[other]):
            yield Overridden(config, **{other: value})


def _switched_off(config: Config, values: ConfigLike) -> dict[str, str]:
    """The keys that another one of these values leaves out, each with why."""
    model = config.model_class
    found = {
        part: f"It is of {whole}, which is {values[whole]!r}."
        for part, whole in _PARTS_OF.items()
        if not values[whole]
    }
    if model.regularises_itself:
        why = f"Its own loss has this regularisation, with keys of its own ({config['model']}'s)."
        found |= dict.fromkeys(("sr_weight", "sr_teacher_dropout_prob"), why)
        found.pop("sr_teacher", None)
    return found | dict(model.switched_off(values))


def _check_kind(key: Key, parameter: Parameter, source: str) -> None:
    """Refuse values that the key does not take, before any of them is a trial that fails."""
    values = _sample(key, parameter)
    try:
        for value in values:
            key.check(value)
    except ValueError as error:
        hint = ""
        if key.kind and key.kind.base == "int" and isinstance(parameter, (Uniform, LogUniform)):
            low, high = math.ceil(values[0]), math.floor(values[1])
            hint = f" Whole numbers are drawn by quniform, as in quniform {low},{high},1."
        raise ValueError(
            f"{source}: '{key.name}' is searched over {parameter}, but {error}{hint}"
        ) from error


def _sample(key: Key, parameter: Parameter) -> Sequence:
    """All choices, or the ends of a range; not an end that the key excludes and no draw meets."""
    if isinstance(parameter, Choice):
        return parameter.values
    if isinstance(parameter, QUniform):
        return parameter.rounded(parameter.low), parameter.rounded(parameter.high)
    low, high = parameter.low, parameter.high
    if isinstance(parameter, LogUniform):
        low, high = math.exp(low), math.exp(high)
    middle, kind = low + (high - low) / 2, key.kind
    if kind is not None and kind.base == "float":
        low = middle if not kind.holds_low and low == kind.low else low
        high = middle if not kind.holds_high and high == kind.high else high
    return low, high


def _why_fixed(name: str, config: Config) -> str | None:
    if name == "seed":
        return "the best of several seeds is luck"
    if name in TOKENIZER_KEYS or name.startswith("semantic_id_"):
        return "all trials share the semantic IDs, which it changes"
    if name in _OF_ROWS:
        return _FIXED_CATEGORIES["Dataset"]
    if name in _OF_THE_COMMAND:
        return _FIXED_CATEGORIES["General"]
    return next(
        (why for category, why in _FIXED_CATEGORIES.items() if name in config.parameters[category]),
        None,
    )
