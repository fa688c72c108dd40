"""Check the request for an experiment, and make the configuration of each variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recbole_genci.config import Config, parse_argv, parse_value
from recbole_genci.config.kind import Kind
from recbole_genci.config.protocol import world_size
from recbole_genci.config.values import check_no_list
from recbole_genci.data.download import check_dataset
from recbole_genci.experiments.definition import Definition, Variant
from recbole_genci.experiments.identity import effective_keys
from recbole_genci.model.registry import entry_of, resolve
from recbole_genci.plan import check_same_rows
from recbole_genci.tokenizer import tokenizer_settings
from recbole_genci.tokenizer.source import needs_no_settings
from recbole_genci.training.own_checks import check_model_settings
from recbole_genci.utils.disk import check_writable
from recbole_genci.utils.figures import INSTALL, can_draw
from recbole_genci.utils.own_code import is_reference

_SEEDS = Kind.of("int >= 1 or ~")
_ROWS_MODEL = "LR"  # its configuration reads the rows if nothing is trained


@dataclass(frozen=True)
class Request:
    """One experiment on one dataset, checked and ready to run.

    Attributes:
        definition: the experiment's definition.
        variants: the definition's variants, or those of ``--models``.
        configs: each variant's Config by the variant's name; one Config under an empty name if
            there are no variants.
        seeds: the seeds of every variant.
        command: the command line that makes this request.
        pack: whether scores are packed in the end, see ``packing``; None if not.
    """

    definition: Definition
    variants: tuple[Variant, ...]
    configs: dict[str, Config]
    seeds: tuple[int, ...]
    command: str
    pack: str | None = None

    @property
    def config(self) -> Config:
        """The first Config, for keys that all variants have in common."""
        return next(iter(self.configs.values()))

    @property
    def folder(self) -> Path:
        """``results/NAME-DATASET``."""
        return results_folder(self.config, self.definition.name)


def results_folder(config: Config, name: str) -> Path:
    """The folder for the results of an experiment."""
    return Path(config["results_dir"]) / f"{name}-{config['dataset']}"


@dataclass(frozen=True)
class ExperimentArguments:
    """The arguments of an experiment besides its name, as for ``experiment``; ``command`` is the
    command line that makes them, without ``--pack``.
    """

    dataset: str
    models: Sequence[str] | None = None
    seeds: int | None = None
    config_files: Sequence[str] | None = None
    config_dict: dict | None = None
    argv: Sequence[str] = ()
    command: str = ""
    pack: str | None = None
    against: Sequence[str] | None = None


def check_request(
    definition: Definition, arguments: ExperimentArguments, others: Sequence[Definition] = ()
) -> Request:
    """Turn the arguments of an experiment into a Request, without reading data.

    Args:
        definition: the experiment.
        arguments: the dataset, and values that replace defaults.
        others: the other experiments of the same command. With others, their models' keys are
            accepted too, ``--models`` and ``--seeds`` apply only to experiments that take them, and
            a sweep keeps its own values of its own key.

    Raises:
        ValueError, ImportError: names the key and what to do.
    """
    alone = not others
    definition, variants = _with_asked_lines(definition, arguments, alone)
    keys = set(arguments.config_dict or {}) | set(parse_argv(arguments.argv))
    if alone and (fixed := sorted(keys & definition.own_keys())):
        raise ValueError(
            f"{fixed[0]}: experiment '{definition.name}' sets it in every line; leave --{fixed[0]} "
            "out."
        )
    models = [
        *dict.fromkeys(
            variant.model for each in (definition, *others) for variant in each.variants
        ),
        *(model for model in arguments.models or () if str(model) not in definition.lines()),
    ]
    number = _seed_count(definition, variants, arguments, models, alone)
    forced = {"semantic_id_path": None} if definition.makes_semantic_ids() else {}
    if alone and forced and "semantic_id_path" in keys:
        raise ValueError(
            f"semantic_id_path: experiment '{definition.name}' compares ways to make semantic IDs, "
            "and makes them itself, line by line; leave --semantic_id_path out."
        )
    configs = {
        variant.name: _config(variant.model, variant.keys | forced, number, arguments, models)
        for variant in variants
    }
    configs = configs or {"": _config(_ROWS_MODEL, {}, number, arguments, models)}
    _check_configs(definition, configs)
    _refuse_equal_variants(variants, configs)
    if variants and not can_draw():
        raise ImportError(
            f"experiment: its pictures need matplotlib, which is not installed: {INSTALL}."
        )
    first = next(iter(configs.values()))
    seeds = tuple(range(first["seed"], first["seed"] + number))
    return Request(definition, tuple(variants), configs, seeds, arguments.command, arguments.pack)


def _with_asked_lines(
    definition: Definition, arguments: ExperimentArguments, alone: bool
) -> tuple[Definition, Sequence[Variant]]:
    """The definition, and its variants, as ``--models`` and ``--against`` ask for them."""
    variants = definition.variants
    if arguments.models and (definition.open_models or alone):
        variants = definition.with_models(arguments.models)
    if arguments.against and (alone or definition.open_models):
        against = _compared_with_all(definition, variants, arguments.against)
        definition = replace(definition, against=against)
    return definition, variants


def _seed_count(
    definition: Definition,
    variants: Sequence[Variant],
    arguments: ExperimentArguments,
    models: Sequence[str],
    alone: bool,
) -> int:
    """How many seeds each variant runs."""
    requested = arguments.seeds or _seeds_in_files(
        variants[0].model if variants else _ROWS_MODEL, arguments, models
    )
    if alone and definition.seeds is None and requested not in (None, 1):
        raise ValueError(
            f"seeds: experiment '{definition.name}' takes one seed; leave --seeds out, or choose "
            "it by --seed."
        )
    return 1 if definition.seeds is None else requested or definition.seeds


def _check_configs(definition: Definition, configs: dict[str, Config]) -> None:
    """Refuse what would stop the experiment after its rows are read, or while it trains."""
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
        check_model_settings(config)
        published = not definition.makes_semantic_ids()
        if config.model_class.reads_semantic_ids and config["semantic_id_path"] is None:
            if not needs_no_settings(config, published):
                tokenizer_settings(config)


def _compared_with_all(
    definition: Definition, variants: Sequence[Variant], asked: Sequence[str]
) -> tuple[str, ...]:
    """The names of the lines that ``--against`` asks for."""
    if not definition.open_models:
        raise ValueError(
            f"against: experiment '{definition.name}' compares no models, as compare and "
            "volatility do; leave --against out."
        )
    names = [variant.name for variant in variants]
    found = [entry_of(name).name if is_reference(name) else name for name in asked]
    for name, line in zip(asked, found, strict=True):
        if line not in names:
            raise ValueError(
                f"against: '{name}' is no line of this table. Its lines are {', '.join(names)}."
            )
        if found.count(line) > 1:  # Holm's correction would count its pairs twice
            raise ValueError(f"against: {', '.join(asked)} names {line} twice.")
    return tuple(found)


def _config(
    model: str, keys: dict, seeds: int, arguments: ExperimentArguments, models: Sequence[str]
) -> Config:
    """A variant's Config. The variant's own keys beat all others, even the command line."""
    argv = [word for word in arguments.argv if word[2:].partition("=")[0] not in {*keys, "seeds"}]
    values = (arguments.config_dict or {}) | keys | {"seeds": seeds}
    return Config(
        model, arguments.dataset, arguments.config_files, values, argv, compared_models=models
    )


def _seeds_in_files(
    model: str, arguments: ExperimentArguments, models: Sequence[str]
) -> int | None:
    """The key ``seeds`` of configuration files or the dict; None if they do not set it."""
    config = Config(
        model,
        arguments.dataset,
        arguments.config_files,
        arguments.config_dict,
        compared_models=models,
    )
    return config.external_config_dict.get("seeds")


def _refuse_equal_variants(variants: Sequence[Variant], configs: dict[str, Config]) -> None:
    """Refuse two variants that would be the same run.

    It happens if a key of the request sets for all variants what one of them is about.
    """
    names: dict[tuple[str, str], str] = {}
    for variant in variants:
        if variant.swept or variant.settings:
            continue  # a sweep over several keys repeats the default run for each key
        facts = resolve(variant.model)[0], str(effective_keys(configs[variant.name]))
        if facts in names:
            keys = f": --{', --'.join(variant.keys)}" if variant.keys else ""
            raise ValueError(
                f"experiment: with the keys given, '{names[facts]}' and '{variant.name}' would be "
                f"the same run. Leave out what '{variant.name}' is about{keys}."
            )
        names[facts] = variant.name


def parse_seeds(value: object) -> int | None:
    """``--seeds`` as a whole number of at least 1; None if it is not given.

    Raises:
        ValueError: the value is something else.
    """
    seeds = parse_value(value)
    check_no_list("seeds", seeds)
    _SEEDS.check("seeds", seeds)
    return seeds
