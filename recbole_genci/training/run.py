"""One run: train a model on prepared parts, evaluate its best epoch, save it all in a folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed
from torch.nn.parameter import is_lazy

from recbole_genci.config import Config
from recbole_genci.data import create_loaders
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.fingerprint import data_fingerprint, rows_fingerprint
from recbole_genci.evaluation.diagnostics import save_diagnostics
from recbole_genci.evaluation.latency import measure_latency
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.training.console import Heading, early_best_hint, last_line
from recbole_genci.training.regularisation import make_teacher
from recbole_genci.training.run_folder import new_run_folder, open_folder, store_inputs
from recbole_genci.training.saved_files import config_mapping
from recbole_genci.training.trainer import CTRTrainer
from recbole_genci.training.unsaved_state import check_restored
from recbole_genci.training.weight_decay import SOME_ROWS, Decaying, check_decay, find_decaying
from recbole_genci.utils.digests import sealed
from recbole_genci.utils.distributed import ALONE, Processes
from recbole_genci.utils.imports import uncollected
from recbole_genci.utils.layout import (
    CONFIG_FILE,
    DIAGNOSTICS_FILE,
    METRICS_FILE,
    STATE_FILE,
    TEACHER_FOLDER,
    WEIGHTS_FILE,
)
from recbole_genci.utils.logs import details
from recbole_genci.utils.own_code import errors_of_own, is_reference, source_digest
from recbole_genci.utils.provenance import provenance
from recbole_genci.utils.writing import write_json

_logger = logging.getLogger(__name__)


def train_and_evaluate(
    config: Config,
    parts: Sequence[CTRDataset],
    semantic_ids: SemanticIDs | None = None,
    *,
    folder: Path | None = None,
    resumes: bool = False,
    test: bool = True,
    after_epoch: Callable[[int, float], None] | None = None,
    processes: Processes = ALONE,
    heading: Heading | None = None,
) -> dict:
    """Train one model on prepared parts, evaluate its best epoch, and save everything in a folder.

    Args:
        config: the model's Config; its seed governs initialisation, batches and dropout.
        parts: the training, validation and test part of ``CTRDataset.build()``.
        semantic_ids: for models that read them.
        folder: an existing folder for the run; None makes one.
        resumes: ``folder`` holds a stopped run of this configuration, which goes on.
        test: False does not read the test part, and leaves the folder of an unfinished run, which a
            later call can resume and test.
        after_epoch: called with each evaluated epoch, from 0, and its validation score.
        processes: the processes that call this function together and train one model; the first one
            saves the files.
        heading: the model's line on the console, if the caller knows more than the configuration.

    Returns:
        dict: the content of ``metrics.json``. Without ``test``, and in later processes, only the
            part that is known.

    Raises:
        ValueError: a person's own model is another one when it is loaded; the folder has its
            metrics.
    """
    folder = folder or new_run_folder(config)
    with contextlib.ExitStack() as stack:
        tracked = open_folder(stack, config, semantic_ids, folder, processes)
        if is_reference(config.model_reference):
            stack.enter_context(errors_of_own(config.model_class, "model"))
        train, valid, test_loader = create_loaders(config, parts, semantic_ids, processes)
        ids = semantic_ids if train.dataset.semantic_ids is not None else None
        identity, rows = _identity(config, parts, ids), len(parts[0])
        inputs = {}
        if processes.is_first:
            digest = store_inputs(config, parts, ids, folder, resumes)
            saved_config = config_mapping((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            inputs = {"config": saved_config, "data_sha256": digest}
        model = _initialised(config, train.dataset, resumes, processes)
        teacher = make_teacher(config, train.dataset)
        decaying = _decaying(config, model, teacher, train.dataset)
        if decaying.kind == config["weight_decay_of"]:
            check_decay(config, rows, decaying.table_sizes)
        _logger.info((heading or Heading.of(config)).line(model, config, rows, decaying, processes))
        details().info(model)
        _draw_dropout_apart(config, processes)
        _make_first_optimiser()
        pretraining_s = 0.0
        if model.teacher_is_pretrained and not resumes:
            pretraining_s = _pretrain_teacher(config, model, train, valid, folder, rows, processes)
        trainer = CTRTrainer(
            config,
            model,
            folder,
            identity=identity if processes.size == 1 else None,
            processes=processes,
            inputs=inputs,
            teacher=teacher,
            tracked=tracked,
            rows=rows,
            seconds_before=pretraining_s,
        )
        if resumes:
            trainer.resume(train)
        show = config["show_progress"]
        trainer.fit(train, valid, show_progress=show, callback_fn=after_epoch)
        trained = _trained(trainer, identity, resumes)
        if not test:
            return trained
        metrics = trained | _tested(trainer, test_loader, processes)
        if processes.is_first:
            metrics = sealed(metrics | {"weights_sha256": trainer.weights_sha256, **inputs})
            _leave_results(config, model, train.dataset, valid, test_loader, folder, metrics)
            epochs, patience = (metrics["best_epoch"], metrics["epochs"]), trainer.stopping_step
            if hint := early_best_hint(config, *epochs, rows, decaying, patience):
                _logger.info(hint)
            if is_reference(config.model_reference):  # last: the metrics are in the folder
                check_restored(config, model, train.dataset, folder / WEIGHTS_FILE)
    return metrics


def _initialised(
    config: Config, training_rows: CTRDataset, resumes: bool, processes: Processes
) -> AbstractRecommender:
    """The model before its first step, the same in all processes."""
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, training_rows).to(config["device"])
    if any(map(is_lazy, model.parameters())):  # as nn.LazyLinear's, which has no size before
        with torch.no_grad():
            model.eval().predict(training_rows[:SOME_ROWS].to(config["device"]))
        model.train()
    model = processes.shared_model(model)
    if not resumes:
        model.load_initial_weights()
    return model


def _decaying(
    config: Config,
    model: AbstractRecommender,
    teacher: torch.nn.Module | None,
    training_rows: CTRDataset,
) -> Decaying:
    """Which tables of the model, and of a teacher that trains beside it, decay."""
    kind, some = config["weight_decay_of"], training_rows[:SOME_ROWS].to(config["device"])
    found = find_decaying(model, some, kind)
    if teacher is None:
        return found
    of_model = found.table_sizes if found.kind == kind else ()
    return Decaying(kind, (*of_model, *find_decaying(teacher, some, kind).table_sizes))


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


def _trained(trainer: CTRTrainer, identity: dict, resumed: bool) -> dict:
    """The entries of ``metrics.json`` that are known before the test."""
    assert trainer.best_epoch is not None
    config, model = trainer.config, trainer.model
    return {
        "model": config["model"],
        "model_reference": config.model_reference,
        "dataset": config["dataset"],
        "seed": config["seed"],
        "best_valid": _without_nan(trainer.best_valid_result),
        "best_epoch": trainer.best_epoch + 1,
        "epochs": trainer.epochs_trained,
        "training_s": trainer.training_s,
        "nproc": trainer.processes.size,
        "model_revision": config.model_class.revision,
        "model_source": identity.get("model source"),
        "parameters": sum(each.numel() for each in model.parameters()),
        "data_fingerprint": identity["rows"],
        "rows_fingerprint": identity["features"],
        "semantic_ids": identity["semantic IDs"],
        "resumed": resumed,
        "folder": str(trainer.folder),
        **provenance(),
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
) -> float:
    """Train the base model of Eq. 11 first (``sr_base: pretrained``), with the same trainer and
    early stopping; return how many seconds it took.
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
    return trainer.training_s
