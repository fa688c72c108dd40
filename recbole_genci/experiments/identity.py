"""When two runs are the same run: one hash over all that decides a result, so that it is trained
once for all experiments.
"""

from __future__ import annotations

import functools
import hashlib
import json

from recbole_genci.config import known_keys
from recbole_genci.config.metric_names import metrics_named
from recbole_genci.model.registry import resolve
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS
from recbole_genci.utils.own_code import source_digest

#: Keys that decide where files lie, what is shown or measured, or how fast: not what is learnt. The
#: tokenizer's come in through the semantic IDs themselves, and the seed on its own.
_NOT_RESULTS = TOKENIZER_KEYS | {
    "model",
    "seed",
    "seeds",
    "data_path",
    "checkpoint_dir",
    "results_dir",
    "semantic_id_dir",
    "semantic_id_path",
    "config_files",
    "show_progress",
    "state",
    "log_wandb",
    "wandb_project",
    "latency_repeats",
    "diagnostic_rows",
    "eval_batch_size",
    "worker",
    "device",
    "use_gpu",
    "gpu_id",
    "local_rank",
    "nproc",
    "world_size",
    "offset",
    "ip",
    "port",
    "single_spec",
    "valid_metric_bigger",
    "MODEL_TYPE",
    "MODEL_INPUT_TYPE",
    "eval_type",
}


def effective_keys(config) -> dict:
    """The keys of a Config that decide what its model learns from given rows and semantic IDs, in a
    form that JSON can hold.
    """
    keys = _keys_that_matter(config.model_reference, config["dataset"])
    return {key: _plain(config[key]) for key in keys if config[key] is not None}


@functools.cache
def _keys_that_matter(model: str, dataset: str) -> list[str]:
    return sorted(known_keys([model], dataset) - _NOT_RESULTS)


def cell_hash(config, seed: int, rows: str, semantic_ids: SemanticIDs | None) -> str:
    """SHA-256 that is equal for runs which are the same run.

    Args:
        config: the run's Config; keys of models it is compared with do not count, and neither does
            an alias' name.
        rows: of ``recbole_genci.data.fingerprint.rows_fingerprint``.
        semantic_ids: those that the model reads; None if it reads none, or if they could not be
            made: then the settings by which they were to be made count.
    """
    ids = None
    if semantic_ids:
        ids = [semantic_ids.digest, list(semantic_ids.level_sizes)]
    elif config.model_class.reads_semantic_ids:
        ids = {key: _plain(config[key]) for key in sorted(TOKENIZER_KEYS | {"semantic_id_path"})}
    facts = [resolve(config["model"])[0], effective_keys(config), seed, rows, ids]
    if (
        config.model_class.revision > 1
    ):  # hashes of models that never changed are those of before revisions
        facts.append(config.model_class.revision)
    own = [
        config.model_class,
        *(metric.own for metric in metrics_named(config["metrics"]) if metric.own is not None),
    ]
    if sources := [
        digest for digest in map(source_digest, own) if digest
    ]:  # edited code of one's own is another run
        facts.append(sources)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _plain(value):
    """A value as JSON has it, with 1.0 and 1 as one number."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(each) for each in (sorted(value) if isinstance(value, set) else value)]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)
