"""Start the processes that train one model together.

RecBole's keys nproc, world_size, ip, port and offset describe them.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import process
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException

from recbole_genci.config import Config
from recbole_genci.config.config import TRUST
from recbole_genci.config.protocol import world_size
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.fingerprint import data_fingerprint, fingerprints, take_over
from recbole_genci.data.storage import load_prepared, mapped_file, save_prepared
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS
from recbole_genci.training.saved_files import PLACE_KEYS
from recbole_genci.training.stopped import ProcessDied
from recbole_genci.utils import interrupts
from recbole_genci.utils.answers import ANSWERED, sentence
from recbole_genci.utils.distributed import Processes
from recbole_genci.utils.layout import CONFIG_FILE, DATA_FILE, METRICS_FILE, SEMANTIC_ID_FOLDER
from recbole_genci.utils.logs import start_console
from recbole_genci.utils.mappings import parse_yaml
from recbole_genci.utils.network import interface_towards
from recbole_genci.utils.own_code import name_of
from recbole_genci.utils.writing import write_text

_logger = logging.getLogger(__name__)

#: Keys that each machine may have its own value of. Rows and semantic IDs are compared themselves.
_OF_A_MACHINE = (
    PLACE_KEYS - {"eval_batch_size", "world_size", "seeds"}
    | TOKENIZER_KEYS
    | {"model", "semantic_id_path"}
)
_FINGERPRINTS = "fingerprints.json"
_FAILURE = "failure-"  # name of a file in which a process says why it failed
_PLACE = "RECBOLE_GENCI_FAILURES"  # environment variable: the folder of such files
#: Signals by which a system ends a process for want of memory: all of it, or shared memory.
_WANT_OF_MEMORY = ("SIGKILL", "SIGBUS")
#: Exit statuses of a process that a signal stopped, and that cleaned up.
_OF_SIGNALS = [128 + each for each in (signal.SIGINT, signal.SIGTERM)]


def check_is_guarded() -> None:
    """Refuse to go on in a process that only imports the script anew which has started it.

    ``spawn`` imports the script in each process. Without a guard the script trains there too.

    Raises:
        RuntimeError: the process is such a one, and some other code has started it. If ``nproc``
            did, the process tells the one that has started it, and ends.
    """
    # So multiprocessing itself finds it out (spawn.py, _check_not_importing_main), but only when
    # the process starts others.
    if not getattr(process.current_process(), "_inheriting", False):
        return
    script = Path(getattr(sys.modules.get("__mp_main__"), "__file__", None) or sys.argv[0]).name
    words = (
        f"nproc: each process that {script} starts imports it again, and so trains anew. Put the "
        'part of it that trains below the line: if __name__ == "__main__":'
    )
    if place := os.environ.get(_PLACE):
        with contextlib.suppress(OSError):  # its folder has gone with the process that started it
            write_text(Path(place) / f"{_FAILURE}{os.getpid()}", words)
        os._exit(1)  # a traceback would hide the sentence
    raise RuntimeError(words)


@contextlib.contextmanager
def _failures_told_in(folder: Path) -> Iterator[None]:
    """Let processes that are started inside the block know where to say why they fail."""
    os.environ[_PLACE] = str(folder)
    try:
        yield
    finally:
        del os.environ[_PLACE]


def train_together(
    train: Callable,
    config: Config,
    config_text: str,
    parts: Sequence[CTRDataset],
    semantic_ids: SemanticIDs | None,
    folder: Path,
) -> dict:
    """Train and evaluate one model by ``nproc`` processes of this machine.

    If ``world_size`` is larger, processes of other machines take part.

    Args:
        train: ``train_and_evaluate``, which is called in each process.
        config, parts, semantic_ids: as for ``train_and_evaluate``; each process reads them from
            files.
        config_text: the configuration as YAML.
        folder: the run's folder; it stays empty on a machine whose ``offset`` is not 0.

    Returns:
        dict: the content of ``metrics.json`` on the first machine; on others, the part of it that
            the first process sends.

    Raises:
        RuntimeError: a process failed; says why. The others have been ended.
        ProcessDied: a process was killed. The others have been ended.
    """
    with tempfile.TemporaryDirectory(prefix="recbole_genci-") as temporary:
        shared = Path(temporary)
        write_text(shared / CONFIG_FILE, config_text)
        if kept := mapped_file(parts):
            (shared / DATA_FILE).symlink_to(kept.resolve())
        else:
            save_prepared(parts, shared / DATA_FILE)
        # Computed once a machine: it reads all rows.
        write_text(shared / _FINGERPRINTS, json.dumps(fingerprints(parts)))
        if semantic_ids is not None:
            semantic_ids.save_with_tokenizer(shared / SEMANTIC_ID_FOLDER)
        threads = max(1, torch.get_num_threads() // config["nproc"])
        arguments = (train, shared, folder, threads)
        if config["port"] is not None:
            _logger.info(
                "Waits at %s:%d until all %d processes are there; on this machine are %d.",
                config["ip"],
                config["port"],
                world_size(config),
                config["nproc"],
            )
        with interrupts.deferred(), interrupts.not_inherited(), _failures_told_in(shared):
            group = torch.multiprocessing.start_processes(
                _worker, args=arguments, nprocs=config["nproc"], join=False, start_method="spawn"
            )
        try:
            while not group.join():
                pass
        except KeyboardInterrupt:
            interrupts.end_processes(group.processes)
            raise
        except ProcessException as error:
            has_traceback = not isinstance(error, ProcessExitedException)
            words = _in_words(error, shared, config["nproc"])
            raise words from (error if has_traceback else None)
        return json.loads((shared / METRICS_FILE).read_text(encoding="utf-8"))


def _in_words(error: ProcessException, shared: Path, processes: int) -> RuntimeError:
    """The failure of a process: why it failed, if it could say so."""
    which = f"process {error.error_index + 1} of {processes}"
    # A process whose partner has gone fails too; the first one says why.
    if told := sorted(shared.glob(f"{_FAILURE}*"), key=lambda file: file.stat().st_mtime_ns):
        return RuntimeError(told[0].read_text(encoding="utf-8"))
    if not isinstance(error, ProcessExitedException):
        return RuntimeError(f"{which} failed: {str(error).strip().splitlines()[-1]}")
    if error.signal_name:
        ended = f"{which} ended by {error.signal_name}, and the others were ended."
        if error.signal_name not in _WANT_OF_MEMORY:
            return ProcessDied(ended)
        return ProcessDied(
            f"{ended} If nobody ended it, the system did, for want of memory: lower nproc or "
            "train_batch_size."
        )
    ended = f"{which} ended with exit status {error.exit_code}, and the others were ended."
    if error.exit_code in _OF_SIGNALS:
        return ProcessDied(ended)
    return RuntimeError(
        f"{ended} What it printed above says why; nproc imports the script that starts it, and "
        "your own models, in each process."
    )


def _worker(local_rank: int, train: Callable, shared: Path, folder: Path, threads: int) -> None:
    """The work of one process: read configuration and rows from ``shared``, and train."""
    interrupts.follow_parent()
    gc.freeze()  # what was imported stays, as after `uncollected(own_process=True)`
    try:
        _train_share(local_rank, train, shared, folder, threads)
    except KeyboardInterrupt as stop:
        # There is nothing to clean up, and torch's own exit takes seconds.
        os._exit(interrupts.exit_status(stop))
    except ANSWERED as error:
        write_text(shared / f"{_FAILURE}{local_rank}", sentence(error))
        raise


def _train_share(
    local_rank: int, train: Callable, shared: Path, folder: Path, threads: int
) -> None:
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # as in a run of one process
    ids = (
        SemanticIDs.load(shared / SEMANTIC_ID_FOLDER)
        if (shared / SEMANTIC_ID_FOLDER).is_dir()
        else None
    )
    config = _config(shared / CONFIG_FILE, local_rank)
    processes = Processes(config["offset"] + local_rank, world_size(config))
    start_console(config["state"] if processes.is_first else "ERROR")
    parts, _ = load_prepared(shared / DATA_FILE, config)  # all processes share the memory
    take_over(parts, json.loads((shared / _FINGERPRINTS).read_text(encoding="utf-8")))
    on_gpu = config["device"].type == "cuda"
    if config["port"] is None:  # one machine: a file cannot be in use by others, as a port can
        meeting = f"file://{shared / 'meeting'}"
    else:
        meeting = f"tcp://{config['ip']}:{config['port']}"
        if not on_gpu:  # else gloo takes the address of the machine's name, often 127.0.0.1
            way = interface_towards(config["ip"], config["port"])
            os.environ.setdefault("GLOO_SOCKET_IFNAME", way)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=meeting,
        rank=processes.rank,
        world_size=processes.size,
    )
    processes.check_same("rows", data_fingerprint(parts))
    processes.check_same("semantic IDs", ids.digest if ids else "")
    processes.check_same_settings(_shared_settings(shared / CONFIG_FILE))
    # RecBole writes into the current folder (tensorboard). Only the first process keeps its files.
    if not processes.is_first:
        folder = folder.resolve()
    own = contextlib.nullcontext(".") if processes.is_first else tempfile.TemporaryDirectory()
    with own as current, contextlib.chdir(current):
        metrics = train(config, parts, ids, folder=folder, processes=processes)
    if local_rank == 0:
        write_text(shared / METRICS_FILE, json.dumps(metrics))
    dist.destroy_process_group()  # only without an error, or it might wait for others for ever


def _shared_settings(file: Path) -> dict[str, Any]:
    """The settings that all machines must have, of a configuration file."""
    saved = parse_yaml(file.read_text(encoding="utf-8"))
    # A person's own metric lies in another folder on each machine.
    saved["metrics"] = list(map(name_of, saved["metrics"]))
    saved["valid_metric"] = name_of(saved["valid_metric"])
    return {key: value for key, value in saved.items() if key not in _OF_A_MACHINE}


def _config(file: Path, local_rank: int) -> Config:
    saved = parse_yaml(file.read_text(encoding="utf-8"))
    # The process that started this one has written the file.
    config = Config(saved["model"], saved["dataset"], [str(file)], {TRUST: True})
    if config["device"].type == "cuda":
        torch.cuda.set_device(local_rank)
        config["device"] = torch.device("cuda", local_rank)
    config["show_progress"] = bool(config["show_progress"]) and local_rank == 0
    return config
