"""One run: train a model on prepared parts, evaluate its best epoch, save it all in a folder."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import yaml
from recbole.data.dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed

from recbole_genci.config import Config, known_keys
from recbole_genci.config.keys import key_table
from recbole_genci.data import create_loaders
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.fingerprint import data_fingerprint, rows_fingerprint
from recbole_genci.data.storage import store_parts
from recbole_genci.evaluation.diagnostics import save_diagnostics
from recbole_genci.evaluation.latency import measure_latency
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS
from recbole_genci.tokenizer.source import item_texts, uses_published
from recbole_genci.training.callbacks import Callback, calling
from recbole_genci.training.checkpoint import read_state
from recbole_genci.training.console import Heading, early_best_hint, last_line
from recbole_genci.training.regularisation import make_teacher
from recbole_genci.training.saved_files import config_mapping
from recbole_genci.training.tracking.tracked_run import TrackedRun, tracked_run
from recbole_genci.training.trainer import CTRTrainer
from recbole_genci.training.weight_decay import SOME_ROWS, check_decay, what_decays
from recbole_genci.utils.digests import sealed
from recbole_genci.utils.distributed import ALONE, Processes
from recbole_genci.utils.files import (
    parse_yaml,
    remove_leftovers,
    sha256_of,
    write_json,
    write_text,
)
from recbole_genci.utils.imports import uncollected
from recbole_genci.utils.layout import (
    CONFIG_FILE,
    DATA_FILE,
    DIAGNOSTICS_FILE,
    LOG_FILE,
    METRICS_FILE,
    NEXT_WEIGHTS_FILE,
    SEMANTIC_ID_FOLDER,
    STATE_FILE,
    TEACHER_FOLDER,
    WEIGHTS_FILE,
)
from recbole_genci.utils.lock import only_process
from recbole_genci.utils.logs import details, log_file
from recbole_genci.utils.own_code import errors_of_own, is_reference, source_digest
from recbole_genci.utils.provenance import provenance

_logger = logging.getLogger(__name__)


def train_and_evaluate(
    config: Config,
    parts: Sequence[CTRDataset],
    semantic_ids: SemanticIDs | None = None,
    resume_folder: Path | None = None,
    test: bool = True,
    callback_fn: Callable[[int, float], None] | None = None,
    folder: Path | None = None,
    processes: Processes = ALONE,
    heading: Heading | None = None,
    callbacks: Sequence[Callback] = (),
) -> dict:
    """Train one model on prepared parts, evaluate its best epoch, and save everything in a folder.

    Args:
        config: the model's Config; its seed governs initialisation, batches and dropout.
        parts: the training, validation and test part of ``CTRDataset.build()``.
        semantic_ids: for models that read them.
        resume_folder: folder of a stopped run of this configuration, which resumes; None starts a
            new run.
        test: False does not read the test part, and leaves the folder of an unfinished run, which
            ``resume_folder`` can finish later.
        callback_fn: called with each evaluated epoch and its validation score.
        folder: folder of a new run, if it exists already.
        processes: the processes that call this function together and train one model; the first one
            saves the files.
        heading: the model's line on the console, if the caller knows more than the configuration.
        callbacks: as for ``recbole_genci.run``.

    Returns:
        dict: the content of ``metrics.json``. Without ``test``, and in later processes, only the
            part that is known.
    """
    folder = resume_folder or folder or new_run_folder(config)
    is_new = resume_folder is None
    with contextlib.ExitStack() as stack:
        tracked = _open_folder(stack, config, semantic_ids, folder, processes)
        if is_reference(config.model_reference):
            stack.enter_context(errors_of_own(config.model_class, "model"))
        train, valid, test_loader = create_loaders(config, parts, semantic_ids, processes)
        ids = semantic_ids if train.dataset.semantic_ids is not None else None
        inputs = {}
        if processes.is_first:
            saved_config = config_mapping((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            digest = _stored(config, parts, ids, folder, is_new)
            inputs = {"config": saved_config, "data_sha256": digest}
        model = _initialised(config, train.dataset, is_new, processes)
        teacher = make_teacher(config, train.dataset)
        rows = len(parts[0])
        decaying = _introduced(config, model, teacher, train.dataset, rows, heading, processes)
        _draw_dropout_apart(config, processes)
        identity = _identity(config, parts, ids)
        _make_first_optimiser()
        started = time.perf_counter()
        if is_new and model.teacher_is_pretrained:
            _pretrain_teacher(config, model, train, valid, folder, rows, processes)
        trainer = CTRTrainer(
            config,
            model,
            folder,
            identity if processes.size == 1 else None,
            processes,
            inputs,
            teacher,
            tracked,
            rows=rows,
        )
        trainer.started = started
        if not is_new:
            trainer.resume(train)
        _, best_valid = trainer.fit(
            train,
            valid,
            show_progress=config["show_progress"],
            callback_fn=callback_fn or calling(callbacks, config, folder),
        )
        training_s = trainer.seconds_before + time.perf_counter() - started
        assert trainer.best_epoch is not None
        metrics = {
            **_names(config),
            **(_tested(trainer, test_loader, processes) if test else {}),
            "best_valid": _without_nan(best_valid),
            "best_epoch": trainer.best_epoch + 1,
            "epochs": trainer.epochs_trained,
            "training_s": training_s,
            "nproc": processes.size,
            **_origin(config, model, identity),
            "resumed": not is_new,  # in early versions training_s counts the last stretch only
            "folder": str(folder),
            **provenance(),
        }
        if test and processes.is_first:
            metrics |= {"weights_sha256": trainer.weights_sha256, **inputs}
            metrics = sealed(metrics)
            _leave_results(config, model, train.dataset, valid, test_loader, folder, metrics)
            epochs = metrics["best_epoch"], metrics["epochs"]
            patience = trainer.stopping_step
            if hint := early_best_hint(config, *epochs, rows, decaying, patience):
                _logger.info(hint)
    return metrics


def _open_folder(
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


def _stored(
    config: Config,
    parts: Sequence[CTRDataset],
    semantic_ids: SemanticIDs | None,
    folder: Path,
    is_new: bool,
) -> str:
    """Save the model's rows and semantic IDs in the run's folder; return the digest of the rows.

    A stopped run keeps what it has. What is damaged or missing is written again, from the same
    rows and IDs, as ``load_training_state`` checks.
    """
    rows, ids_folder = folder / DATA_FILE, folder / SEMANTIC_ID_FOLDER
    if not is_new:
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


def _initialised(
    config: Config, training_rows: CTRDataset, is_new: bool, processes: Processes
) -> AbstractRecommender:
    """The model before its first step, the same in all processes."""
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, training_rows).to(config["device"])
    model = processes.shared_model(model)
    if is_new:
        model.load_initial_weights()
    return model


def _introduced(
    config: Config,
    model: AbstractRecommender,
    teacher: torch.nn.Module | None,
    training_rows: CTRDataset,
    rows: int,
    heading: Heading | None,
    processes: Processes,
) -> str | None:
    """Check and log with what the model will train; return what of it decays.

    Args:
        training_rows: those of this process.
        rows: how many all processes have.

    Raises:
        ValueError: the decay of a table is too large for the learning rate.
    """
    kind = config["weight_decay_of"]
    some = training_rows[:SOME_ROWS].to(config["device"])
    decaying, vectors = what_decays(model, some, kind)
    if teacher is not None:  # its weights decay too
        vectors = [*(vectors if decaying == kind else ()), *what_decays(teacher, some, kind)[1]]
        decaying = kind
    if decaying == kind:
        check_decay(config, rows, vectors)
    line = (heading or Heading.of(config)).line
    _logger.info(line(model, config, rows, decaying, processes, vectors))
    details().info(model)
    return decaying


def _make_first_optimiser() -> None:
    """Let torch import what it imports with the first optimiser of a process.

    That is its compiler, some seconds, which are no part of the first model's training time.
    """
    with uncollected():
        torch.optim.SGD([torch.zeros(1, requires_grad=True)])


def _draw_dropout_apart(config: Config, processes: Processes) -> None:
    """Give each later process its own dropout, as it has other rows; weights are already equal."""
    if not processes.is_first:
        torch.manual_seed(config["seed"] + processes.rank)


def _identity(
    config: Config, parts: Sequence[CTRDataset], semantic_ids: SemanticIDs | None
) -> dict:
    """Names and hashes of the training data and code, which must be the same on resuming."""
    model_class = config.model_class
    identity = {
        "rows": data_fingerprint(parts),
        "features": rows_fingerprint(parts),
        "semantic IDs": semantic_ids.digest if semantic_ids is not None else None,
    }
    if model_class.revision > 1:
        identity["model revision"] = model_class.revision
    if source := source_digest(model_class):
        identity["model source"] = source
    return identity


def _names(config: Config) -> dict:
    """The entries of ``metrics.json`` that say which run this is."""
    return {
        "model": config["model"],
        "model_reference": config.model_reference,
        "dataset": config["dataset"],
        "seed": config["seed"],
    }


def _origin(config: Config, model: AbstractRecommender, identity: dict) -> dict:
    """The entries of ``metrics.json`` that say how the figures were made."""
    return {
        "model_revision": config.model_class.revision,
        "model_source": identity.get("model source"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "data_fingerprint": identity["rows"],
        "rows_fingerprint": identity["features"],
        "semantic_ids": identity["semantic IDs"],
    }


def _tested(trainer: CTRTrainer, test_loader: AbstractDataLoader, processes: Processes) -> dict:
    """The test metrics of the best epoch and, in the first process, the latency."""
    config = trainer.config
    metrics = trainer.evaluate(test_loader, show_progress=config["show_progress"])
    tested = {"test": _without_nan(metrics)}
    if processes.is_first:
        tested |= measure_latency(
            trainer.model,
            test_loader,
            config["device"],
            config["latency_repeats"],
            trainer.predict,
        )
    return tested


def _leave_results(
    config: Config,
    model: AbstractRecommender,
    training_rows: CTRDataset,
    valid: AbstractDataLoader,
    test_loader: AbstractDataLoader,
    folder: Path,
    metrics: dict,
) -> None:
    """Write the files of a finished run, ``metrics.json`` last."""
    if config["diagnostic_rows"]:
        loaders = {"valid": valid, "test": test_loader}
        save_diagnostics(model, loaders, training_rows, config["device"], folder / DIAGNOSTICS_FILE)
    write_json(folder / METRICS_FILE, metrics)
    # The training state holds two copies of the weights and the optimiser's moments.
    (folder / STATE_FILE).unlink(missing_ok=True)
    _logger.info(last_line(config, metrics))


def _without_nan(metrics: dict) -> dict:
    """Metrics for JSON: an undefined one (the AUC of one class) becomes None."""
    return {name: float(value) if value == value else None for name, value in metrics.items()}


def _pretrain_teacher(
    config: Config,
    model: AbstractRecommender,
    train: AbstractDataLoader,
    valid: AbstractDataLoader,
    folder: Path,
    rows: int,
    processes: Processes,
) -> None:
    """Train the base model of Eq. 11 first (``sr_base: pretrained``), with the same trainer and
    early stopping.
    """
    _logger.info("Training the base model of the self-supervised regularisation (Eq. 11) first.")
    teacher_folder = folder / TEACHER_FOLDER
    trainer = CTRTrainer(config, model.teacher, teacher_folder, processes=processes, rows=rows)
    trainer.fit(train, valid, show_progress=config["show_progress"])
    trainer.load_weights(trainer.saved_model_file)
    assert trainer.best_epoch is not None
    _logger.info(
        f"The base model is trained (best epoch {trainer.best_epoch + 1}). Now {config['model']} "
        "itself."
    )
    model.freeze_teacher()


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
