"""The plan of a run: configurations, rows and semantic IDs, checked and read before training."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recbole_genci.config import Config
from recbole_genci.config.added_keys import as_resumed, keys_before
from recbole_genci.config.as_command import as_command
from recbole_genci.config.config import TRUST
from recbole_genci.config.protocol import world_size
from recbole_genci.data import create_loaders
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.download import check_dataset
from recbole_genci.data.part_checks import check_parts
from recbole_genci.data.prepared import prepare_parts, shaping_keys
from recbole_genci.data.storage import stored_bytes
from recbole_genci.data.summary import log_summary, warn_of_rows
from recbole_genci.model.registry import Entry, entry_of
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.source import check_source, find_semantic_ids
from recbole_genci.training.checkpoint import read_state, settle_weights, training_state_file
from recbole_genci.training.launch import check_is_guarded
from recbole_genci.training.machine_checks import check_disk, check_for_processes
from recbole_genci.training.own_checks import (
    check_model_settings,
    try_metrics,
    try_model,
    why_nothing_decays,
)
from recbole_genci.training.saved_files import check_config
from recbole_genci.training.tracking.tracked_run import check_trackers
from recbole_genci.utils.disk import check_writable
from recbole_genci.utils.distributed import Processes
from recbole_genci.utils.layout import CONFIG_FILE
from recbole_genci.utils.lock import refuse_if_busy
from recbole_genci.utils.logs import start_console
from recbole_genci.utils.mappings import read_mapping
from recbole_genci.utils.own_code import permitted_model
from recbole_genci.utils.run_folders import no_folder_of
from recbole_genci.utils.scripts import TRAIN, command_line

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Everything that a run needs, checked and read. Only training is left to do.

    Attributes:
        configs: each model's Config, in the order in which the models were named.
        parts: the training, validation and test part that all models share.
        semantic_ids: those of the dataset's items; None if no model reads them.
        command: the command line that makes this plan.
    """

    configs: dict[str, Config]
    parts: list
    semantic_ids: SemanticIDs | None
    command: str


def prepare(
    model: str | type | Sequence[str | type],
    dataset: str,
    config_files: str | Path | Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    check: Callable[[Config], None] | None = None,
) -> Plan:
    """Check the request, read the rows and give the items semantic IDs.

    Args:
        model, dataset, config_files, config_dict, argv: as for ``run``.
        check: called with each model's Config before anything is read; may raise to refuse it.

    Raises:
        ValueError, FileNotFoundError: as for ``run``.
        RuntimeError: a process that ``nproc`` has started imports an unguarded script.
    """
    check_is_guarded()
    entries = _entries(model)
    references = [entry.reference for entry in entries]
    configs = {
        entry.name: Config(
            entry.reference, dataset, config_files, config_dict, argv, compared_models=references
        )
        for entry in entries
    }
    first = next(iter(configs.values()))
    start_console(first["state"])
    _check_configs(configs, check)
    reader = next((c for c in configs.values() if c.model_class.reads_semantic_ids), None)
    if reader:
        check_source(reader)

    parts = prepare_rows(first)
    say_what_is_unread(configs, parts[0])
    semantic_ids = prepare_semantic_ids(reader, parts[0]) if reader else None
    _try_models(configs, parts, semantic_ids)
    try_metrics(first, parts[1])
    words = [f"--model={','.join(references)}", f"--dataset={dataset}"]
    command = as_command(TRAIN, words, references, config_files, config_dict, argv)
    return Plan(configs, parts, semantic_ids, command)


def _entries(model: str | type | Sequence[str | type]) -> list[Entry]:
    """The models that are asked for, each of another name."""
    models: Sequence[str | type]
    if isinstance(model, str):
        models = model.split(",")
    else:
        models = [model] if isinstance(model, type) else model
    if not models:
        raise ValueError("model: none is named. Give at least one, for example GenCI.")
    entries = [entry_of(each) for each in models]
    if len({entry.name for entry in entries}) != len(entries):
        named = ", ".join(entry.reference for entry in entries)
        raise ValueError(f"model: {named} names a model twice.")
    return entries


def _check_configs(configs: dict[str, Config], check: Callable[[Config], None] | None) -> None:
    """Refuse what cannot work, as far as it is seen before rows are read; warn of what does
    nothing.

    ``check`` is that of ``prepare``.
    """
    first = next(iter(configs.values()))
    warn_of_unread_keys(
        {key: why for c in configs.values() for key, why in c.without_effect.items()}
    )
    warn_of_files_of_other_models(configs.values())
    check_same_rows(configs)
    for config in configs.values():
        check_model_settings(config)
        check_for_processes(config)
        if check:
            check(config)
    check_trackers(first)
    check_dataset(first)
    for folder in ("checkpoint_dir", "results_dir"):
        check_writable(Path(first[folder]), folder)


def _try_models(
    configs: Mapping[str, Config], parts: Sequence[CTRDataset], semantic_ids: SemanticIDs | None
) -> None:
    """Make each model once, and refuse what cannot be trained or saved.

    The last model is tried too before the first one trains, so that a wrong setting is found now.
    """
    tried = [try_training(config, parts, semantic_ids) for config in configs.values()]
    check_disk(list(configs.values()), [weights for weights, _ in tried], stored_bytes(parts))
    for _, words in tried:
        if words:
            _logger.warning(words)


def try_training(
    config: Config, parts: Sequence[CTRDataset], semantic_ids: SemanticIDs | None
) -> tuple[int, str | None]:
    """Make the model once, and refuse it if it cannot be trained.

    Args:
        config: the model's Config.
        parts: the training, validation and test part.
        semantic_ids: for models that read them.

    Returns:
        bytes of the model's weights; and a warning for whoever has set ``weight_decay`` of a model
        of which nothing decays, else None.

    Raises:
        ValueError: as ``try_model``.
    """
    processes = Processes(0, world_size(config))
    loader = create_loaders(config, parts, semantic_ids, processes)[0]
    weights = try_model(config, loader.dataset, loader.batch_rows)
    if not config["weight_decay"] or not config.is_set("weight_decay"):
        return weights, None
    why = why_nothing_decays(config, loader.dataset)
    name = config["model"]
    return weights, f"weight_decay: this key does nothing for {name}: {why}." if why else None


def warn_of_unread_keys(unread: Mapping[str, str]) -> None:
    """Warn of keys that a person has set and nothing reads, each with why."""
    for key, why in unread.items():
        _logger.warning(f"{key}: this key does nothing here. {why}")


def say_what_is_unread(configs: Mapping[str, Config], part: CTRDataset) -> None:
    """Log which models read none of the features of rows, if there are some."""
    names = [name for name, each in configs.items() if not each.model_class.reads_row_features]
    if names and (features := part.row_features):
        reads = "reads" if len(names) == 1 else "read"
        _logger.info(
            f"{', '.join(names)} {reads} features of users and items, but none of rows: "
            f"{', '.join(features)}."
        )


def warn_of_files_of_other_models(configs: Iterable[Config]) -> None:
    """Warn that the ``config.yaml`` of one model's run sets all its keys for other models too."""
    readers: dict[tuple[str, str], dict[str, None]] = {}
    for config in configs:
        for named in config.files_of_other_models.items():
            readers.setdefault(named, {})[config["model"]] = None
    for (file, model), names in readers.items():
        whose = ", ".join(names)
        _logger.warning(
            f"config_files: {file} is the configuration of {model}; for {whose} too all its values "
            f"count as set by you, and so beat the defaults and the recipe that {whose} would have."
        )


def check_same_rows(configs: dict[str, Config]) -> None:
    """Refuse configurations that would give the compared models different rows, histories or
    measures, or that differ in what one command has once, such as its seeds.

    Raises:
        ValueError: names the key and both values.
    """
    keys = {
        *shaping_keys(next(iter(configs.values()))),
        "data_path",
        "seed",
        "seeds",
        "nproc",
        "world_size",
        "offset",
        "results_dir",
        "shuffle",
        "metrics",
        "valid_metric",
        "metric_decimal_place",
        "train_batch_size",
    }
    (name, config), *others = configs.items()
    for other_name, other in others:
        for key in sorted(keys):
            if config[key] != other[key]:
                raise ValueError(
                    f"{key}: {name} has {config[key]!r} but {other_name} has {other[key]!r}, so "
                    "they would not be compared on the same terms. Set it once, on the command "
                    "line or in a configuration file."
                )


def prepare_rows(config: Config) -> list:
    """Build the training, validation and test part, log a summary, check them, and enable
    flush-to-zero.
    """
    # Numbers below 1e-38 (from sharp attention, or moments of rare features) make a CPU several
    # times slower; flush-to-zero takes them for 0.
    torch.set_flush_denormal(True)
    for key, words in config.chosen.items():
        if key not in config.remedies:
            _logger.info(words)
            continue
        # A file may have a column of times that is not read.
        forgotten = config.forgotten_keys()
        _logger.warning(f"{words} {forgotten}" if forgotten else words)
    parts = prepare_parts(config)
    log_summary(parts)
    check_parts(parts)
    warn_of_rows(parts)
    return parts


def prepare_semantic_ids(config: Config, part: CTRDataset, published: bool = True) -> SemanticIDs:
    """The semantic IDs of the dataset's items; ``published`` as for ``find_semantic_ids``."""
    ids = find_semantic_ids(
        config, part.item_file, part.field2id_token[part.iid_field][1:], published
    )
    # An encoder on a GPU leaves memory reserved, and this process lives on while others train.
    torch.cuda.empty_cache()
    return ids


def prepare_resumed(
    folder: str | Path,
    moved: Sequence[str] = (),
    model: str | type | None = None,
    trust_code: bool = False,
) -> Plan:
    """Check that ``folder`` holds a stopped run, and prepare its data again.

    Args:
        folder: the folder of the run.
        moved: the word ``--data_path=...`` if the dataset's files have moved; else nothing.
        model, trust_code: as for ``resume``.
    """
    folder = Path(folder)
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"resume: {no_folder_of('run', folder, CONFIG_FILE)} Give the folder of a run, "
            "saved/<model>-<dataset>-<time>."
        )
    saved = read_mapping(file, ["model", "dataset"], "Start the run anew.", "resume")
    training_state_file(folder)
    refuse_if_busy(folder)
    reference = permitted_model(saved, folder, model, trust_code, "--resume")
    facts = read_state(folder).facts
    settle_weights(folder, facts["weights_sha256"])  # damage is refused before rows are read
    began = as_resumed(facts["config"], saved, reference)
    check_config(file, saved, began, "resume")
    command = command_line(TRAIN, f"--resume={folder}", *moved)
    keys = {TRUST: True} | keys_before(saved, reference)
    return dataclasses.replace(
        prepare([reference], saved["dataset"], [str(file)], keys, moved), command=command
    )
