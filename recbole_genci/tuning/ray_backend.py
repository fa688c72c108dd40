"""Run trials side by side with Ray, on one machine or a cluster, and stop hopeless ones early.

Points, journal, selection and results are those of a search without Ray. Each trial is a Ray task.
Rows, semantic IDs and configuration travel through Ray's object store once, and each worker process
loads them once. A trial's folder travels back when the trial ends. Only the process that started
the search writes into the search's folder, so the nodes need no shared file system.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from recbole_genci.config import Config
from recbole_genci.data.storage import store_parts
from recbole_genci.training.run_folder import config_as_yaml
from recbole_genci.tuning import trial
from recbole_genci.tuning.asha import AshaStopper
from recbole_genci.tuning.ray_worker import Outcome, run_trial
from recbole_genci.tuning.settings import Settings
from recbole_genci.tuning.study import Study, empty_record
from recbole_genci.utils import interrupts
from recbole_genci.utils.layout import CONFIG_FILE, DATA_FILE, SEMANTIC_ID_FOLDER
from recbole_genci.utils.own_code import search_folders
from recbole_genci.utils.writing import write_atomically, write_text

_logger = logging.getLogger(__name__)

_GRACE_EPOCHS = 3
_QUEUED = 1000  # tasks handed to Ray at a time


def check_cluster(settings: Settings) -> None:
    """Check before data are read that the cluster can run a trial.

    Raises:
        ConnectionError: there is no cluster at ``ray_address``.
        ValueError: a trial asks for more than any node has; Ray would wait for ever.
    """
    if settings.ray_address is None:
        _check_resources(
            settings.cpus_per_trial or 1,
            settings.gpus_per_trial or 0,
            [{"CPU": os.cpu_count(), "GPU": torch.cuda.device_count()}],
        )
        return
    with _connected(settings.ray_address):
        _check_resources(settings.cpus_per_trial or 1, settings.gpus_per_trial or 0, _nodes())


def run_trials(study: Study, points: Iterable[dict], settings: Settings, config: Config) -> None:
    """Run every point that the journal lacks, and add each ended trial to the study.

    Args:
        study: the study of the search.
        points: the points of the search; their order gives the trials their numbers.
        settings: the settings of the search.
        config: the configuration that trials start from.

    Raises:
        ConnectionError, ValueError: as for ``check_cluster``; ConnectionError also if workers
            cannot run any trial.
        MachineFailed: a worker's disk is full, or its memory.
    """
    done = {record["trial"] for record in study.records.values()}
    left = [(number, point) for number, point in enumerate(points, start=1) if number not in done]
    if not left:
        return
    cpus = settings.cpus_per_trial or 1
    gpus = (
        settings.gpus_per_trial
        if settings.gpus_per_trial is not None
        else int(config["device"].type == "cuda")
    )
    with _connected(settings.ray_address):
        nodes = _nodes()
        _check_resources(cpus, gpus, nodes)
        _say_what_is_there(nodes, cpus, gpus)
        _run_all(study, left, _starter(study, settings, cpus, gpus))


def _say_what_is_there(nodes: Sequence[dict], cpus: float, gpus: float) -> None:
    cpus_there, gpus_there = (sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU"))
    _logger.info(
        f"Ray {ray.__version__}: {len(nodes)} nodes with {cpus_there:g} CPUs and "
        f"{gpus_there:g} GPUs; {cpus:g} and {gpus:g} for each trial"
    )


def _starter(
    study: Study, settings: Settings, cpus: float, gpus: float
) -> Callable[[int, dict], Any]:
    """A function that hands a trial, by its number and point, to Ray, and returns Ray's handle."""
    # If its node dies, Ray restarts it on another one. It has then forgotten earlier trials, and
    # stops fewer.
    stopper = (
        ray.remote(AshaStopper)
        .options(num_cpus=0, max_restarts=-1, max_task_retries=-1)
        .remote(study.bigger, settings.grace_epochs or _GRACE_EPOCHS)
    )
    stopper.remember.remote(study.ordered())
    config_text, rows = ((study.folder / name).read_bytes() for name in (CONFIG_FILE, DATA_FILE))
    shared = study.shared
    inputs = ray.put((config_text, rows, shared.semantic_ids, shared.sources, search_folders()))
    # A worker keeps the GPU that it began with, so with GPUs it may run only one trial; 0 is no
    # limit.
    task = ray.remote(max_calls=1 if gpus else 0)(run_trial).options(
        num_cpus=cpus, num_gpus=gpus, max_retries=0
    )

    def start(number: int, point: dict) -> Any:
        return task.remote([inputs], stopper, number, point, cpus, gpus, study.bigger)

    return start


def _run_all(
    study: Study, trials: Sequence[tuple[int, dict]], start: Callable[[int, dict], Any]
) -> None:
    """Start the trials, some of them at a time, and add each to the study as it ends."""
    waiting, running = iter(trials), {}
    try:
        while True:
            for number, point in waiting:
                running[start(number, point)] = number, point
                if len(running) >= _QUEUED:
                    break
            if not running:
                break
            (ended, *_), _ = ray.wait(list(running))
            _add(study, ended, *running.pop(ended))
    finally:
        for task_left in running:
            ray.cancel(task_left, force=True)


def _add(study: Study, ended: Any, number: int, point: dict) -> None:
    """Write a trial's files into the search's folder, and its outcome into the journal."""
    try:
        outcome = ray.get(ended)
    except RayTaskError as error:  # trials catch their own errors, so this is the cluster's
        if isinstance(error.cause, trial.MachineFailed):
            raise trial.MachineFailed(number, error.cause.reason) from error
        reason = str(error).strip().splitlines()[-1]
        raise ConnectionError(
            f"Ray's workers cannot run trials: {reason}. Is recbole_genci installed on every node?"
        ) from error
    except RayError as error:  # the worker or its node has died
        _logger.error(f"Trial {number} was lost: {error}")
        outcome = Outcome(
            {
                "status": "failed",
                "error": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}",
            },
            {},
        )
    folder = trial.folder_of(study.folder, number)
    # The folder exists if the search was killed before this trial was in the journal.
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in outcome.files.items():
        write_atomically(folder / name, functools.partial(Path.write_bytes, data=content))
    for file in list(folder.glob(f"*/{CONFIG_FILE}")):
        # The configuration names the worker's folder, which is gone.
        write_text(
            file, config_as_yaml(study.shared.config(point, folder), study.shared.semantic_ids)
        )
        if outcome.record["status"] == "finished":
            store_parts(study.shared.parts, file.parent / DATA_FILE)
            if study.shared.semantic_ids is not None:
                study.shared.semantic_ids.save_with_tokenizer(file.parent / SEMANTIC_ID_FOLDER)
    study.add(empty_record(number, point) | outcome.record)


def _nodes() -> list[dict]:
    """The resources of the cluster's nodes."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _check_resources(cpus: float, gpus: float, nodes: list[dict]) -> None:
    if not any(cpus <= node.get("CPU", 0) and gpus <= node.get("GPU", 0) for node in nodes):
        there = "; ".join(
            f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes
        )
        raise ValueError(
            f"cpus_per_trial, gpus_per_trial: a trial asks for {cpus:g} CPUs and {gpus:g} GPUs, "
            f"which no node has. The nodes have: {there}."
        )


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to the cluster at ``address``, or to a new one on this machine, inside the block."""
    if ray.is_initialized():
        yield
        return
    own = {} if address else {"include_dashboard": False}
    try:
        with interrupts.handlers_kept():
            ray.init(
                address=address or "local", log_to_driver=False, configure_logging=False, **own
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at {address}" if address else "on this machine"
        raise ConnectionError(
            f"ray_address: Ray did not start {where}: {str(error).strip().splitlines()[0]}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
