"""Keys that are younger than some records and saved runs, and what those computed without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_genci.config.keys import known_keys

#: With this value a model computes what it did before there was the key; the default may differ.
ADDED_KEYS: dict[str, Any] = {
    "weight_average": 0,
    "weight_average_per": "epoch",
    "flatten_history": False,
    "sr_weight": 0,
    "sr_teacher": "DeepFM",
    "sr_teacher_dropout_prob": 0.2,
    "attention_activation": "sigmoid",
    "interest_product": True,
    "intent_norm": False,
    "cohort_fusion": "attention",
    "share_item_embeddings": False,
    "cohorts": "code",
    "cohort_scale": 1.0,
    "cohort_gradient": True,
    "history_attention": "bidirectional",
    "segment_clicks": 16,
    "precision": "fp32",
    "cuda_graphs": False,
    "shard_rows": False,
    "min_patience_steps": 0,
}


def keys_before(saved: Mapping[str, Any], model: str | type) -> dict[str, Any]:
    """The keys of ``model`` that the ``config.yaml`` of an earlier version lacks, as its run had
    them.

    Args:
        saved: the keys of the file.
        model: the model of the run, as for ``Config``.
    """
    known = known_keys([model], saved["dataset"])
    return {key: value for key, value in ADDED_KEYS.items() if key in known and key not in saved}
