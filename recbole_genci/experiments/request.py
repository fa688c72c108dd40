"""A request for an experiment, checked: every line's configuration exists and nothing in it
contradicts the experiment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_genci.config import Config, parse_argv, parse_value
from recbole_genci.config.kind import Kind
from recbole_genci.data.download import check_dataset
from recbole_genci.experiments.definition import Definition, Line
from recbole_genci.experiments.identity import effective_keys
from recbole_genci.model.registry import resolve
from recbole_genci.plan import check_same_rows
from recbole_genci.tokenizer import tokenizer_settings
from recbole_genci.tokenizer.source import needs_no_settings
from recbole_genci.training.launch import world_size
from recbole_genci.utils.figures import INSTALL, can_draw
from recbole_genci.utils.files import check_writable

_SEEDS = Kind.of("int >= 1 or ~")
_ROWS_MODEL = "LR"  # whose configuration reads the rows where nothing is trained


@dataclass(frozen=True)
class Request:
    """One experiment on one dataset, ready to be carried out.

    Attributes:
        definition: what is asked for.
        lines: of the table; the definition's, or those of ``--models``.
        configs: each line's Config, by the line's name; one Config under an empty name where there
            are no lines.
        seeds: with which every line is trained.
        command: the command line that makes this request.
    """

    definition: Definition
    lines: tuple[Line, ...]
    configs: dict[str, Config]
    seeds: tuple[int, ...]
    command: str

    @property
    def config(self) -> Config:
        """Any of the Configs: for what all lines have in common."""
        return next(iter(self.configs.values()))

    @property
    def folder(self) -> Path:
        """``results/NAME-DATASET``."""
        return results_folder(self.config, self.definition.name)


def results_folder(config: Config, name: str) -> Path:
    """Where an experiment of that name leaves its results."""
    return Path(config["results_dir"]) / f"{name}-{config['dataset']}"


@dataclass(frozen=True)
class Asked:
    """What a person asked for beside the experiment's name; as of ``recbole_genci.run``, with
    ``models`` and ``seeds``.
    """

    dataset: str
    models: Sequence[str] | None = None
    seeds: int | None = None
    config_files: Sequence[str] | None = None
    config_dict: dict | None = None
    argv: Sequence[str] = ()
    command: str = ""


def check_request(
    definition: Definition, asked: Asked, others: Sequence[Definition] = ()
) -> Request:
    """Make a Request of what was asked for, reading no data.

    Args:
        definition: of the experiment.
        asked: the dataset, and what replaces the defaults.
        others: experiments of the same command, whose models' keys are known too; ``--models`` and
            ``--seeds`` then count for those experiments that take them, and a sweep's own values
            for its own key.

    Raises:
        ValueError, ImportError: names the key and what to do.
    """
    alone = not others
    takes_models = definition.open_models or alone
    lines = (
        definition.with_models(asked.models) if asked.models and takes_models else definition.lines
    )
    given = {key for key in (asked.config_dict or {})} | set(parse_argv(asked.argv))
    if alone and (fixed := sorted(given & definition.own_keys())):
        raise ValueError(
            f"{fixed[0]}: experiment '{definition.name}' sets it in every line; leave --{fixed[0]} "
            "out."
        )
    models = [
        *dict.fromkeys(line.model for each in (definition, *others) for line in each.lines),
        *(asked.models or ()),
    ]
    asked_seeds = asked.seeds or _seeds_written(
        lines[0].model if lines else _ROWS_MODEL, asked, models
    )
    if alone and definition.seeds is None and asked_seeds not in (None, 1):
        raise ValueError(
            f"seeds: experiment '{definition.name}' takes one seed; leave --seeds out, or choose "
            "it by --seed."
        )
    forced = {"semantic_id_path": None} if definition.makes_semantic_ids() else {}
    if alone and forced and "semantic_id_path" in given:
        raise ValueError(
            f"semantic_id_path: experiment '{definition.name}' compares ways to make semantic IDs, "
            "and makes them "
            "itself, line by line; leave --semantic_id_path out."
        )
    number = 1 if definition.seeds is None else asked_seeds or definition.seeds
    configs = {
        line.name: _config(line.model, line.keys | forced, number, asked, models) for line in lines
    }
    configs = configs or {"": _config(_ROWS_MODEL, {}, number, asked, models)}
    check_same_rows(configs)
    first = next(iter(configs.values()))
    if world_size(first) > 1:
        raise ValueError(
            "nproc: an experiment trains each run in one process; leave --nproc and --world_size "
            "out."
        )
    check_dataset(first)
    check_writable(Path(first["results_dir"]), "results_dir")
    for config in configs.values():
        config.model_class.check_settings(config)
        published = not definition.makes_semantic_ids()
        if config.model_class.reads_semantic_ids and config["semantic_id_path"] is None:
            if not needs_no_settings(config, published):
                tokenizer_settings(config)
    _refuse_equal_lines(lines, configs)
    if lines and not can_draw():
        raise ImportError(
            f"experiment: its pictures need matplotlib, which is not installed: {INSTALL}."
        )
    seeds = tuple(range(first["seed"], first["seed"] + number))
    return Request(definition, tuple(lines), configs, seeds, asked.command)


def _config(model: str, keys: dict, seeds: int, asked: Asked, models: Sequence[str]) -> Config:
    """A line's Config: its own keys beat all others, the command line included."""
    argv = [word for word in asked.argv if word[2:].partition("=")[0] not in {*keys, "seeds"}]
    values = (asked.config_dict or {}) | keys | {"seeds": seeds}
    return Config(model, asked.dataset, asked.config_files, values, argv, compared_models=models)


def _seeds_written(model: str, asked: Asked, models: Sequence[str]) -> int | None:
    """How many seeds files or a dict ask for, None where they say nothing."""
    given = Config(
        model, asked.dataset, asked.config_files, asked.config_dict, compared_models=models
    ).external_config_dict
    return given.get("seeds")


def _refuse_equal_lines(lines: Sequence[Line], configs: dict[str, Config]) -> None:
    """Two lines of one model that would be one run say that a key of the request switches a variant
    on everywhere.
    """
    seen: dict[tuple[str, str], str] = {}
    for line in lines:
        if line.swept:
            continue  # a sweep over several keys has its default value once for each of them
        facts = resolve(line.model)[0], str(effective_keys(configs[line.name]))
        if facts in seen:
            raise ValueError(
                f"experiment: with the keys given, '{seen[facts]}' and '{line.name}' would be the "
                "same run. Leave out what "
                f"'{line.name}' is about{': --' + ', --'.join(line.keys) if line.keys else ''}."
            )
        seen[facts] = line.name


def parse_seeds(value: object) -> int | None:
    """``--seeds`` as a number of at least 1, or None where it is not given.

    Raises:
        ValueError: anything else.
    """
    value = parse_value(value)
    _SEEDS.check("seeds", value)
    return value
