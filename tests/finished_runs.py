"""Runs as their ``metrics.json`` tells them, without training."""

import json

from recbole_genci.utils.digests import sealed

CONFIG = {
    "valid_metric": "AUC",
    "epochs": 300,
    "eval_step": 1,
    "train_batch_size": 1024,
    "metric_decimal_place": 6,
}


def finished_run(model, seed, auc, fingerprint="f" * 64):
    """What ``comparison_table`` reads of a run."""
    return {
        "model": model,
        "seed": seed,
        "dataset": "tiny",
        "data_fingerprint": fingerprint,
        "folder": f"saved/{model}{seed}",
        "test": {"auc": auc, "logloss": 1 - auc},
        "best_valid": {"auc": auc},
        "best_epoch": 2,
        "latency_s": 0.5,
        "training_s": 9.0,
        "rows_fingerprint": "a" * 64,
        "semantic_ids": None,
        "model_revision": 1,
        "model_source": None,
        "config": dict(CONFIG),
    }


def write_run(file, run):
    """Write a run's ``metrics.json`` as training does."""
    file.write_text(json.dumps(sealed(run)))
