"""Checks that settings fit together and allow a comparison, made before any data are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from recbole_genci.config.kind import per_rows
from recbole_genci.config.metric_names import KNOWN, Metric, metrics_named, written
from recbole_genci.config.trackers import trackers
from recbole_genci.utils.config_like import ConfigLike
from recbole_genci.utils.own_code import is_reference, name_of
from recbole_genci.utils.value_checks import is_number, nearest

_LARGEST_SEED = 2**32 - 1  # that numpy takes

# Without sparse_adam, which takes no dense gradient: all gradients here are dense.
_LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop")


def check(config: ConfigLike) -> None:
    """Refuse settings that would make a comparison meaningless or a run crash later.

    Args:
        config: a Config whose keys are final.

    Raises:
        ValueError: names the key, its value and what it may be.
    """
    _check_caches(config)
    _check_protocol(config)
    _check_numbers(config)
    _check_heads(config)
    _check_processes(config)
    trackers(config)
    for key in ("enable_amp", "enable_scaler"):
        if config[key]:
            raise ValueError(
                f"{key}: RecBole's mixed precision is fp16 on a GPU and bf16 on a CPU. Leave "
                "enable_amp and enable_scaler unset, and use --precision=bf16, which is bf16 on "
                "both and needs no scaler."
            )
    decay = per_rows(config["weight_decay"])
    if decay and decay.per_vector and not config["weight_decay_of"]:
        raise ValueError(
            f"weight_decay: '{config['weight_decay']}' is a decay of embedding tables, but "
            "weight_decay_of is ~, all weights. Set weight_decay_of to vectors or embeddings, or "
            "weight_decay to a number or a text such as 200/rows."
        )
    if str(config["learner"]).lower() not in _LEARNERS:
        raise ValueError(
            f"learner: '{config['learner']}' is unknown or works with no model (RecBole would take "
            f"Adam without weight decay).{nearest(config['learner'], _LEARNERS)} Choose one of "
            f"{', '.join(_LEARNERS)}."
        )


def check_evaluation(final: Mapping) -> list[Metric]:
    """Refuse metrics and evaluation modes that do not apply to labelled rows.

    Args:
        final: all keys. Call this before RecBole reads them, as its own errors name no key.

    Returns:
        list: the metrics.

    Raises:
        ValueError: names the key, its value and what it may be.
    """
    modes = (final["eval_args"] or {}).get("mode")
    for mode in modes.values() if isinstance(modes, Mapping) else [modes]:
        if mode not in (None, "labeled"):
            raise ValueError(
                f"eval_args: mode '{mode}' scores sampled or all items, where AUC and LogLoss say "
                "nothing about clicks. Use mode: labeled."
            )
    return _checked_metrics(written(final["metrics"]), final["valid_metric"])


def _check_caches(config: ConfigLike) -> None:
    for key in ("save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path"):
        if config[key]:
            raise ValueError(
                f"{key}: RecBole's pickled caches keep the configuration that they were saved "
                "with, so a changed split would go unnoticed. Leave it unset: the rows are rebuilt "
                "in seconds."
            )


def _check_protocol(config: ConfigLike) -> None:
    args = config["eval_args"]
    if config["train_neg_sample_args"]["distribution"] != "none":
        raise ValueError(
            "train_neg_sample_args: CTR models train on the labelled rows alone; leave it empty "
            "(~)."
        )
    if args["order"] not in ("TO", "RO"):
        raise ValueError(
            f"eval_args: order '{args['order']}' is neither TO (by time) nor RO (random)."
        )
    if args["group_by"] not in ("user", "none", None):
        raise ValueError(f"eval_args: group_by '{args['group_by']}' is neither user nor none.")
    split = args["split"]
    mode, value = (
        next(iter(split.items())) if isinstance(split, dict) and len(split) == 1 else (None, None)
    )
    ratios = (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(is_number(v) and 0 < v < math.inf for v in value)
    )
    if not (mode in ("RS", "TS") and ratios or mode == "LS" and value == "valid_and_test"):
        raise ValueError(
            f"eval_args: split {split} gives no training, validation and test part. Use "
            "{'RS': [0.8, 0.1, 0.1]} (ratios), {'TS': [0.8, 0.1, 0.1]} (by points in time) or "
            "{'LS': 'valid_and_test'} (each user's last two rows)."
        )
    # RecBole would apply the order of time to shuffled rows.
    if mode == "TS" and args["order"] != "TO":
        raise ValueError(
            f"eval_args: split {split} is by time, order {args['order']} is not. Use order TO, or "
            "{'RS': ...}."
        )
    if config["history_source"] == "past" and not split_is_in_time_order(config):
        raise ValueError(
            "history_source: if the split is not known to be in time order (eval_args: order RO, "
            "or benchmark_filename), the past of a row may hold clicks whose own rows are held "
            "out, which would leak their labels. Leave history_source unset, or set it to training."
        )


def split_is_in_time_order(config: ConfigLike) -> bool:
    """Whether no training row can be later than a held-out row of the same user."""
    return config["eval_args"]["order"] == "TO" and config["benchmark_filename"] is None


def _checked_metrics(names: Sequence[str], valid_metric: str) -> list[Metric]:
    metrics = metrics_named(names)
    keys = [metric.key for metric in metrics]
    if missing := [name for name in ("AUC", "LogLoss") if name.lower() not in keys]:
        raise ValueError(
            f"metrics: {names} lacks {' and '.join(missing)}, which every comparison table shows. "
            f"Add {'it' if len(missing) == 1 else 'them'}."
        )
    if name_of(valid_metric).lower() not in keys:
        raise ValueError(
            f"valid_metric: '{valid_metric}' is not among metrics, {names}."
            f"{_how_to_measure(valid_metric, names)}"
        )
    return metrics


def _how_to_measure(metric: str, names: Sequence[str]) -> str:
    known = {name.lower(): name for name in KNOWN}
    if metric.lower() not in known and not is_reference(metric):
        return nearest(metric, [*names, *KNOWN]) or f" Those known here are {', '.join(KNOWN)}."
    more = [*names, known.get(metric.lower(), metric)]
    return f' Add it: --metrics="{more}", or metrics: {more} in a file.'


def _check_numbers(config: ConfigLike) -> None:
    last = config["seed"] + config["seeds"] - 1
    if last > _LARGEST_SEED:
        raise ValueError(
            f"seeds: the last of {config['seeds']} seeds from seed {config['seed']} on would be "
            f"{last}; the largest that numpy takes is {_LARGEST_SEED}. Lower seed or seeds."
        )


def _check_heads(config: ConfigLike) -> None:
    heads, size = config["num_heads"], config["attention_size"]  # AutoInt, FiGNN
    if heads and size and size % heads:
        raise ValueError(f"num_heads: {heads} heads do not divide attention_size, which is {size}.")


def world_size(config: ConfigLike) -> int:
    """The number of processes that train a model together, on all machines."""
    return config["nproc"] if config["world_size"] == -1 else config["world_size"]


def _check_processes(config: ConfigLike) -> None:
    nproc, given, offset = config["nproc"], config["world_size"], config["offset"]
    if given != -1 and given < offset + nproc:
        raise ValueError(
            f"world_size: {given!r} is too small. It counts the processes on all machines, "
            f"so it must be at least {offset + nproc}: offset {offset} and the {nproc} processes "
            "of this machine (nproc). -1 means nproc."
        )
    if given == -1 and offset:
        raise ValueError(
            f"offset: {offset} is for several machines; give world_size, the number of processes "
            "on all of them."
        )
    if given > nproc and config["port"] is None:
        raise ValueError(
            "port: several machines meet at the ip and port of the machine with offset 0. Give "
            "both keys."
        )
    if config["cuda_graphs"] and world_size(config) > 1:
        raise ValueError(
            f"cuda_graphs: {world_size(config)} processes (nproc, world_size) exchange gradients, "
            "which no graph can hold. Give one process, or leave out cuda_graphs."
        )
    if config["shard_rows"] and config["train_batch_size"] < world_size(config):
        raise ValueError(
            f"train_batch_size: {config['train_batch_size']} is less than the {world_size(config)} "
            "processes, each of which reads rows of its own for every batch (shard_rows). Give a "
            "larger one."
        )
    if (
        config["device"].type == "cuda"
        and torch.cuda.device_count() < nproc
        and max(nproc, given) > 1
    ):
        raise ValueError(
            f"nproc: {nproc} processes need a GPU each, but gpu_id {config['gpu_id']!r} gives "
            f"{torch.cuda.device_count()}. List more GPUs in gpu_id, or train on the CPU with "
            "gpu_id: ''."
        )
