"""What a Ray worker does: one trial, in a folder of its own that travels back when the trial ends."""

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
from recbole_genci.utils.layout import CONFIG_FILE, DATA_FILE, SEMANTIC_ID_FOLDER
from recbole_genci.utils.logs import start_console
from recbole_genci.utils.own_code import add_search_folders


@dataclass(frozen=True)
class Outcome:
    """What a trial sends back.

    Attributes:
        record: fields of its record in the journal; ``curve`` holds ``[epochs, best validation
            score so far]``.
        files: contents by names below the trial's folder; without rows and semantic IDs, which the
            search has.
    """

    record: dict
    files: dict[str, bytes]


class _Hopeless(Exception):
    """Ends the training of a trial."""


def run_trial(
    inputs: list, judge: Any, number: int, params: dict, cpus: float, gpus: float, bigger: bool
) -> Outcome:
    """Train and validate one trial. Its own errors are its outcome; nothing is raised for them.

    Raises:
        MachineFailed: it could not be run here.

    Args:
        inputs: one reference, to what ``_load_shared`` reads.
        judge: the actor of ``Judge``, asked after each epoch whether to go on.
        number: of the trial.
        params: its values.
        cpus: threads to use.
        gpus: whether Ray has given this process any.
        bigger: whether a higher validation score is better.
    """
    torch.set_num_threads(max(1, int(cpus)))
    torch.set_flush_denormal(True)  # as in a run without Ray
    # RecBole sets CUDA_VISIBLE_DEVICES to this key; without it a trial would see GPUs that it was
    # not given.
    placement = {
        "gpu_id": ",".join(map(str, ray.get_gpu_ids())) if gpus else "",
        "show_progress": False,
    }
    config_text, parts, semantic_ids = _load_shared(inputs[0], placement["gpu_id"])
    curve: list[list] = []  # epoch, best score so far
    started = time.perf_counter()

    def report(epoch: int, score: float) -> None:
        scores = [float(score), *(best for _, best in curve[-1:])]
        curve.append([epoch + 1, max(scores) if bigger else min(scores)])
        if ray.get(judge.is_hopeless.remote(number, *curve[-1])):
            raise _Hopeless

    # The current folder is changed for whatever RecBole writes there; a worker runs one trial at a
    # time.
    with (
        tempfile.TemporaryDirectory(prefix="recbole_genci-") as temporary,
        contextlib.chdir(temporary),
    ):
        folder = trial.folder_of(Path(temporary), number)
        shared = Shared(Path(temporary) / CONFIG_FILE, parts, semantic_ids, placement)
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
        except (
            Exception
        ) as error:  # whatever else a trial dies of is its outcome, and the search goes on
            if trial.is_of_the_machine(error):
                raise trial.MachineFailed(
                    number, trial.described(error)
                ) from None  # its cause may not travel
            record = {"status": "failed", "error": trial.described(error)}
        record |= {"curve": curve, "node": ray.get_runtime_context().get_node_id()}
        return Outcome(record, _files_of(folder, all_of_them=record["status"] == "finished"))


@functools.lru_cache(maxsize=1)
def _load_shared(inputs: Any, gpu_id: str) -> tuple[bytes, list, SemanticIDs | None]:
    """Configuration, parts and semantic IDs of a search: read once for all trials of this worker
    process.
    """
    config_text, rows, semantic_ids, folders = ray.get(inputs)
    add_search_folders(folders)  # where the search found a model of one's own
    with tempfile.TemporaryDirectory(prefix="recbole_genci-") as temporary:
        folder = Path(temporary)
        (folder / CONFIG_FILE).write_bytes(config_text)
        (folder / DATA_FILE).write_bytes(rows)
        config = Shared(folder / CONFIG_FILE, [], semantic_ids, {"gpu_id": gpu_id}).config(
            {}, folder
        )
        return config_text, load_parts(folder / DATA_FILE, config), semantic_ids


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
