"""The hash of a run. Runs with the same hash are the same run, trained once for all experiments.

The hash covers everything that decides a result.
"""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

from recbole_genci.config import Config, known_keys
from recbole_genci.config.added_keys import ADDED_KEYS
from recbole_genci.config.keys import key_table
from recbole_genci.config.metric_names import metrics_named
from recbole_genci.config.patience import evaluations_in_a_row
from recbole_genci.config.protocol import world_size
from recbole_genci.model.registry import resolve
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS
from recbole_genci.training.saved_files import PLACE_KEYS
from recbole_genci.utils.own_code import is_reference, name_of, source_digest

#: A key of reports, of which hashes have always held the value of the dataset's own file.
_OF_DATASET = "volatility_field"
#: Keys that do not decide what a model learns, only where files lie, what is shown or measured, or
#: how fast. Tokenizer keys are covered by the digest of the semantic IDs; the seed is hashed
#: separately.
_NOT_RESULTS = (
    TOKENIZER_KEYS
    | PLACE_KEYS - {_OF_DATASET}
    | {
        "model",
        "recipe",  # its keys count
        "seed",
        "semantic_id_path",
        "config_files",
        "device",
        "local_rank",
        "single_spec",
        "valid_metric_bigger",
        "MODEL_TYPE",
        "MODEL_INPUT_TYPE",
        "eval_type",
    }
)


def effective_keys(config: Config) -> dict:
    """The keys that decide what a model learns from given rows and semantic IDs, as JSON values."""
    keys, fixed = _keys_that_matter(config.model_reference, config["dataset"])
    given = {key: config[key] for key in keys} | fixed
    values = {key: _plain(value) for key, value in given.items() if value is not None}
    # A run keeps the hash that it had before there was a key.
    return {key: value for key, value in values.items() if ADDED_KEYS.get(key, ...) != value}


@functools.cache
def _keys_that_matter(model: str, dataset: str) -> tuple[list[str], dict[str, Any]]:
    """Their names; and those that count with their defaults whatever a person sets, as nothing
    reads them. A person's own model may read them.
    """
    names = known_keys([model], dataset) - _NOT_RESULTS
    fixed = {
        key.name: key.default
        for key in key_table([model], dataset).values()
        if key.name == _OF_DATASET
        or key.does_nothing
        and key.name in names
        and not is_reference(model)
    }
    return sorted(names), fixed


def run_hash(
    config: Config,
    seed: int,
    rows: str,
    semantic_ids: SemanticIDs | None,
    training_rows: int | None = None,
) -> str:
    """The SHA-256 that identifies a run.

    Args:
        config: the run's Config. Keys of other models in the comparison do not count, nor does the
            name of an alias.
        rows: as ``recbole_genci.data.fingerprint.rows_fingerprint`` returns it.
        semantic_ids: those that the model reads; None if it reads none, or if they could not be
            made. In that case the settings for making them count.
        training_rows: how many there are; None if that is not known. A patience in steps that they
            always exceed does not count.
    """
    ids: list | dict[str, Any] | None = None
    if semantic_ids:
        ids = [semantic_ids.digest, list(semantic_ids.level_sizes)]
    elif config.model_class.reads_semantic_ids:
        ids = {key: _plain(config[key]) for key in sorted(TOKENIZER_KEYS | {"semantic_id_path"})}
    keys = effective_keys(config)
    if training_rows is not None and _waits_anyway(config, training_rows):
        keys.pop("min_patience_steps", None)
    facts = [resolve(config["model"])[0], keys, seed, rows, ids]
    # Revision 1 is left out, so that models that never changed keep the hash of earlier records.
    if config.model_class.revision > 1:
        facts.append(config.model_class.revision)
    metrics = zip(config["metrics"], metrics_named(config["metrics"]), strict=True)
    own = [
        source_digest(config.model_class),
        *(source_digest(each.own, name) for name, each in metrics if each.own is not None),
    ]
    # A person's own code, once edited, makes another run.
    if sources := [digest for digest in own if digest]:
        facts.append(sources)
    # Two classes of one file may call themselves alike: Narrow = type("Net", ...).
    reference = config.model_reference
    if is_reference(reference) and name_of(reference) != config["model"]:
        facts.append(name_of(reference))
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _waits_anyway(config: Config, training_rows: int) -> bool:
    """Whether ``stopping_step`` alone waits ``min_patience_steps`` steps, however rows are batched
    and shared out."""
    fewest = training_rows // (config["train_batch_size"] * world_size(config))
    between = fewest * max(config["eval_step"], 1)
    return between > 0 and evaluations_in_a_row(config, between) == config["stopping_step"] + 1


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; 1.0 and 1 become the same number."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(each) for each in (sorted(value) if isinstance(value, set) else value)]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)
