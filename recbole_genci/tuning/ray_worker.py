"""Run one trial in a Ray worker, in a temporary folder whose files travel back at the end."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from recbole_genci.data.storage import load_parts
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tuning import trial
from recbole_genci.tuning.trial import Shared
from recbole_genci.utils.failures import as_recorded, is_of_the_machine
from recbole_genci.utils.layout import CONFIG_FILE, DATA_FILE, SEMANTIC_ID_FOLDER
from recbole_genci.utils.logs import start_console
from recbole_genci.utils.own_code import add_search_folders


@dataclass(frozen=True)
class Outcome:
    """What a worker sends back after a trial.

    Attributes:
        record: fields of the trial's record in the journal; ``curve`` is a list of ``[epochs, best
            validation score so far]``.
        files: contents of the trial's files by name, without rows and semantic IDs, which the
            search has.
    """

    record: dict
    files: dict[str, bytes]


class _Hopeless(Exception):
    """Ends the training of a trial."""


def run_trial(
    inputs: list, stopper: Any, number: int, params: dict, cpus: float, gpus: float, bigger: bool
) -> Outcome:
    """Train and validate one trial. An error of the trial is its outcome and is not raised.

    Args:
        inputs: one reference, to the inputs of ``_load_shared``.
        stopper: the actor of ``AshaStopper``, which decides after each epoch whether to stop.
        number: number of the trial.
        params: values of the trial.
        cpus: number of threads to use.
        gpus: number of GPUs that Ray has given this process.
        bigger: whether a higher validation score is better.

    Raises:
        MachineFailed: the machine failed, not the trial.
    """
    torch.set_num_threads(max(1, int(cpus)))
    torch.set_flush_denormal(True)  # as in a run without Ray
    # RecBole sets CUDA_VISIBLE_DEVICES to gpu_id; without it a trial would see other GPUs than its
    # own.
    placement = {
        "gpu_id": ",".join(map(str, ray.get_gpu_ids())) if gpus else "",
        "show_progress": False,
    }
    config_text, parts, semantic_ids, sources = _load_shared(inputs[0], placement["gpu_id"])
    curve: list[list] = []  # epoch, best score so far
    started = time.perf_counter()

    def report(epoch: int, score: float) -> None:
        scores = [float(score), *(best for _, best in curve[-1:])]
        curve.append([epoch + 1, max(scores) if bigger else min(scores)])
        if ray.get(stopper.should_stop.remote(number, *curve[-1])):
            raise _Hopeless

    # RecBole may write into the current folder. Changing it is safe, as a worker runs one trial at
    # a time.
    with (
        tempfile.TemporaryDirectory(prefix="recbole_genci-") as temporary,
        contextlib.chdir(temporary),
    ):
        folder = trial.folder_of(Path(temporary), number)
        shared = Shared(Path(temporary) / CONFIG_FILE, parts, semantic_ids, placement, sources)
        shared.config_file.write_bytes(config_text)
        start_console(parts[0].config["state"])
        try:
            record = trial.train(shared, params, folder, report) | {"status": "finished"}
        except _Hopeless:
            epochs, score = curve[-1]
            best_epoch = next(epoch for epoch, best in curve if best == score)
            record = {
                "status": "stopped",
                "score": score,
                "best_epoch": best_epoch,
                "epochs": epochs,
                "training_s": time.perf_counter() - started,
            }
        except Exception as error:  # the outcome of a failed trial; the search goes on
            if is_of_the_machine(error):
                # Without its cause, which may not be pickled.
                raise trial.MachineFailed(number, as_recorded(error)) from None
            record = {"status": "failed", "error": as_recorded(error)}
        record |= {"curve": curve, "node": ray.get_runtime_context().get_node_id()}
        return Outcome(record, _files_of(folder, all_of_them=record["status"] == "finished"))


@functools.lru_cache(maxsize=1)
def _load_shared(inputs: Any, gpu_id: str) -> tuple[bytes, list, SemanticIDs | None, dict]:
    """What all trials of a search share, loaded once per worker process."""
    config_text, rows, semantic_ids, sources, folders = ray.get(inputs)
    add_search_folders(folders)  # in which the search found a person's own model
    with tempfile.TemporaryDirectory(prefix="recbole_genci-") as temporary:
        folder = Path(temporary)
        (folder / CONFIG_FILE).write_bytes(config_text)
        (folder / DATA_FILE).write_bytes(rows)
        config = Shared(folder / CONFIG_FILE, [], semantic_ids, {"gpu_id": gpu_id}).config(
            {}, folder
        )
        return config_text, load_parts(folder / DATA_FILE, config), semantic_ids, sources


def _files_of(folder: Path, all_of_them: bool) -> dict[str, bytes]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    if all_of_them:
        kept = [
            file
            for file in files
            if file.name != DATA_FILE and file.parent.name != SEMANTIC_ID_FOLDER
        ]
    else:
        kept = [file for file in files if file.name in trial.KEPT]
    return {str(file.relative_to(folder)): file.read_bytes() for file in kept}
