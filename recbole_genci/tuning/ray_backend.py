"""Trials side by side with Ray Tune, on one machine or a cluster, the hopeless ones stopped early by ASHA.

Points, journal, selection and results are those of a search without Ray. What Ray passes around is a trial's number: workers
read configuration, rows and semantic IDs from the search's folder and leave trials and their outcomes there, so on a cluster
``results_dir`` must be on a file system that all nodes see. Runs on Ray 2.6 and on current Ray.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from recbole_genci.files import write_json
from recbole_genci.tuning import trial
from recbole_genci.tuning.settings import Settings
from recbole_genci.tuning.study import Study, empty_record
from recbole_genci.tuning.trial import Shared

_OUTCOME = "outcome.json"
_NO_LAST_EPOCH = 10**6  # a trial ends by itself, after its last epoch has left an outcome


def run_trials(study: Study, points: Iterable[dict], settings: Settings) -> None:
    """Run every point that the journal does not have; trials that end are added to the study.

    Args:
        study: of the search.
        points: of the search, in the order that numbers them.
        settings: of the search.

    Raises:
        KeyboardInterrupt: the search was stopped from outside; its journal has what had ended.
        ConnectionError: there is no cluster at ``ray_address``.
        ValueError: a trial asks for more than the cluster has.
    """
    points = dict(enumerate(points, start=1))
    done = {record["trial"] for record in study.records.values()}
    left = [number for number in points if number not in done]
    if not left:
        return
    cpus, gpus = settings.cpus_per_trial or 1, settings.gpus_per_trial or 0
    with _connected(settings.ray_address):
        there = ray.cluster_resources()
        logging.getLogger().info(f"Ray {ray.__version__}: {len(ray.nodes())} nodes, {there}")
        for name, asked in (("CPU", cpus), ("GPU", gpus)):
            if asked > there.get(name, 0):  # Ray would wait for more for ever
                raise ValueError(
                    f"{name.lower()}s_per_trial: a trial asks for {asked} {name}s, but Ray has {there.get(name, 0):g}."
                )
        train = tune.with_parameters(_train, folder=study.folder.resolve(), points=points, cpus=cpus, gpus=gpus)
        scheduler = ASHAScheduler(time_attr="epoch", metric="score", mode="max" if study.bigger else "min", max_t=_NO_LAST_EPOCH,
                                  grace_period=settings.grace_epochs or 3)  # fmt: skip
        tune.run(train, name="ray", storage_path=str(study.folder.resolve()), config={"trial": tune.grid_search(left)},
                 resources_per_trial={"cpu": cpus, "gpu": gpus}, scheduler=scheduler, callbacks=[_Journal(study, points)],
                 reuse_actors=True, raise_on_failed_trial=False, verbose=0)  # fmt: skip
    missing = set(points) - {record["trial"] for record in study.records.values()}
    if missing:  # Ray ends a run quietly on Ctrl-C
        raise KeyboardInterrupt(f"{len(missing)} trials have not ended; go on by --resume_search={study.folder}")
    study.clean()  # what stopped trials wrote last


@contextlib.contextmanager
def _connected(address: str | None):
    """A connection to the cluster at ``address``, else to a new one of this machine that ends with the block."""
    if ray.is_initialized():
        yield
        return
    own = {} if address else {"include_dashboard": False}
    ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
    try:
        yield
    finally:
        ray.shutdown()


def _train(config: dict, folder: Path, points: dict, cpus: float, gpus: float) -> None:
    """What a worker does: one trial, whose outcome it leaves in the trial's folder."""
    torch.set_num_threads(max(1, int(cpus)))
    torch.set_flush_denormal(True)
    number, best, node = config["trial"], None, {"node": ray.get_runtime_context().get_node_id()}
    # RecBole sets CUDA_VISIBLE_DEVICES to gpu_id, where Ray has already put the devices of this trial.
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "") if gpus else ""
    shared = dataclasses.replace(Shared.load(folder), placement={"gpu_id": devices, "show_progress": False})
    own = trial.folder_of(folder, number)

    def report(epoch, score):
        nonlocal best
        better = max if shared.bigger else min
        best = float(score) if best is None else better(best, float(score))
        _report({"epoch": epoch + 1, "score": best})

    try:
        outcome = trial.train(shared, points[number], own, report) | {"status": "finished"}
    except Exception as error:
        write_json(own / _OUTCOME, node | {"status": "failed", "error": f"{type(error).__name__}: {error}"})
        raise
    write_json(own / _OUTCOME, outcome | node)


def _report(metrics: dict) -> None:
    if "metrics" in inspect.signature(tune.report).parameters:
        tune.report(metrics)
    else:  # Ray 2.6
        tune.report(**metrics)


class _Journal(tune.Callback):
    """Writes each trial that ends into the search's journal; runs in the process that started the search."""

    def __init__(self, study: Study, points: dict):
        self.study, self.points = study, points

    def on_trial_complete(self, iteration, trials, trial, **info):
        last = trial.last_result or {}
        self._add(trial, {"status": "stopped", "score": last.get("score"), "epochs": last.get("epoch")})

    def on_trial_error(self, iteration, trials, trial, **info):
        error = (f"The trial's process ended without an outcome; Ray's record is in {self.study.folder / 'ray'}. On a cluster "
                 "results_dir must be on a file system that all nodes see.")  # fmt: skip
        self._add(trial, {"status": "failed", "error": error})

    def _add(self, ray_trial, otherwise: dict) -> None:
        number = ray_trial.config["trial"]
        file = trial.folder_of(self.study.folder, number) / _OUTCOME
        outcome = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else otherwise
        self.study.add(empty_record(number, self.points[number]) | outcome)
        file.unlink(missing_ok=True)
