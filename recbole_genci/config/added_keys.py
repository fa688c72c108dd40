"""Keys that are younger than some records and saved runs, and what those computed without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_genci.config.keys import key_table
from recbole_genci.utils.digests import plain
from recbole_genci.utils.own_code import name_of

#: With this value a model computes what it did before there was the key; the default may differ.
ADDED_KEYS: dict[str, Any] = {
    "weight_decay_of": None,
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
    known = key_table([model], saved["dataset"])
    return {key: value for key, value in ADDED_KEYS.items() if key in known and key not in saved}


def as_resumed(began: Mapping[str, Any], now: Mapping[str, Any], model: str | type) -> dict:
    """The ``config.yaml`` that a run or search began with, as resuming it may have written it
    again: with the keys that are younger, and with another way to the same model.

    Args:
        began: what the file held.
        now: what it holds.
        model: the model, as for ``Config``.
    """
    table = key_table([model], began["dataset"])
    younger = {
        key: plain(ADDED_KEYS.get(key, table[key].default))
        for key in now.keys() & table.keys()
        if key not in began
    }
    is_same = name_of(str(now["model"])) == name_of(str(began["model"]))
    return {**began, **younger, "model": now["model"] if is_same else began["model"]}
