"""The folder of a run: its name, its configuration, and the rows and semantic IDs of the model."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from recbole_genci.config import Config, known_keys
from recbole_genci.config.keys import key_table
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.storage import store_parts
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS
from recbole_genci.tokenizer.source import item_texts, uses_published
from recbole_genci.training.checkpoint import read_state
from recbole_genci.training.tracking.tracked_run import TrackedRun, tracked_run
from recbole_genci.utils.distributed import Processes
from recbole_genci.utils.layout import (
    CONFIG_FILE,
    DATA_FILE,
    LOG_FILE,
    NEXT_WEIGHTS_FILE,
    SEMANTIC_ID_FOLDER,
    STATE_FILE,
    WEIGHTS_FILE,
)
from recbole_genci.utils.lock import only_process
from recbole_genci.utils.logs import log_file
from recbole_genci.utils.mappings import parse_yaml
from recbole_genci.utils.sha256 import sha256_of
from recbole_genci.utils.writing import remove_leftovers, write_text

_logger = logging.getLogger(__name__)


def new_run_folder(config: Config) -> Path:
    """Make ``<checkpoint_dir>/<model>-<dataset>-<time>``."""
    return new_folder(Path(config["checkpoint_dir"]), f"{config['model']}-{config['dataset']}")


def new_folder(parent: Path, name: str) -> Path:
    """Make ``<parent>/<name>-<time>``; two runs that start in one second get two folders."""
    stem = parent / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in range(1, 1000):
        folder = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise FileExistsError(f"{stem} and 998 more of that name exist already; wait a second.")


def config_as_yaml(config: Config, semantic_ids: SemanticIDs | None = None) -> str:
    """The final configuration as YAML, which ``--config_files`` of a later run can read.

    With published ``semantic_ids`` the tokenizer's keys are left out: they had no effect, and a run
    with one of them would build its own IDs.
    """
    internal = {
        "MODEL_TYPE",
        "MODEL_INPUT_TYPE",
        "eval_type",
        "device",
        "valid_neg_sample_args",
        "test_neg_sample_args",
        "single_spec",
        "local_rank",
        "valid_metric_bigger",
        "data_path",
        "checkpoint_dir",  # of a trial or an experiment's run it is that run's own folder
    }
    header = (
        f"# {config['model']} on {config['dataset']}, device {config['device']}, torch "
        f"{torch.__version__}\n"
    )
    if semantic_ids is not None and uses_published(config, semantic_ids):
        internal |= TOKENIZER_KEYS | {"semantic_id_dir"}
        header += (
            f"# Semantic IDs: the published ones, digest {semantic_ids.digest[:12]}; no tokenizer "
            "key had an effect.\n"
        )
    table = key_table([config.model_reference], config["dataset"])
    # Else whoever reads the file again would be warned of keys that nobody had set.
    internal |= {name for name, key in table.items() if key.does_nothing}
    # Not the keys of models that it was compared with.
    own = known_keys([config.model_reference], config["dataset"]) - internal
    plain = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in config.final_config_dict.items()
        if key in own
    }
    plain["train_neg_sample_args"] = None
    plain["model"] = config.model_reference  # lets another process find a person's own model
    plain["data_path"] = str(Path(config["data_path"]).parent)
    return header + yaml.safe_dump(plain, sort_keys=True)


def open_folder(
    stack: contextlib.ExitStack,
    config: Config,
    semantic_ids: SemanticIDs | None,
    folder: Path,
    processes: Processes,
) -> TrackedRun:
    """Let only the first process write into ``folder``, and show the run elsewhere (``track``).

    Lock, log and tracked run end with ``stack``.
    """
    if not processes.is_first:
        return TrackedRun()
    stack.enter_context(only_process(folder))
    remove_leftovers(folder, (STATE_FILE, WEIGHTS_FILE, NEXT_WEIGHTS_FILE, DATA_FILE))
    stack.enter_context(log_file(folder / LOG_FILE, with_details=True))
    text = config_as_yaml(config, semantic_ids)
    write_text(folder / CONFIG_FILE, text)
    return stack.enter_context(tracked_run(config, folder, parse_yaml(text)))


def store_inputs(
    config: Config,
    parts: Sequence[CTRDataset],
    semantic_ids: SemanticIDs | None,
    folder: Path,
    resumes: bool,
) -> str:
    """Save the model's rows and semantic IDs in the run's folder; return the digest of the rows.

    A run that ``resumes`` keeps what it has. What is damaged or missing is written again, from the
    same rows and IDs, as ``load_training_state`` checks.
    """
    rows, ids_folder = folder / DATA_FILE, folder / SEMANTIC_ID_FOLDER
    if resumes:
        digest = read_state(folder).facts["data_sha256"]
        has_ids = semantic_ids is None or _holds(ids_folder, semantic_ids)
        if has_ids and rows.is_file() and sha256_of(rows) == digest:
            return digest
        _logger.warning(
            f"{folder} has lost its rows or semantic IDs, or they are damaged. They are written "
            "again, from the dataset's files."
        )
        if ids_folder.exists():
            shutil.rmtree(ids_folder)
    if semantic_ids is not None:
        semantic_ids.save_with_tokenizer(
            ids_folder, lambda: item_texts(config, semantic_ids, parts[0].item_file)
        )
    return store_parts(parts, rows)


def _holds(folder: Path, semantic_ids: SemanticIDs) -> bool:
    try:
        return SemanticIDs.load(folder).digest == semantic_ids.digest
    except (ValueError, FileNotFoundError):
        return False
