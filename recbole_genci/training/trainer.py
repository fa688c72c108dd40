"""RecBole's Trainer with checkpoints without pickle, named losses, and scores that are checked."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import Trainer
from safetensors.torch import save_file
from torch import nn

from recbole_genci import compat
from recbole_genci.config import Config
from recbole_genci.config.metric_names import RECBOLE_METRICS
from recbole_genci.config.patience import evaluations_in_a_row
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.evaluation.diagnostics import WHERE_EXPLAINED, as_line, diagnose, in_words
from recbole_genci.evaluation.scoring import metrics_of, score_rows, users_of
from recbole_genci.model.cuda_graphs import Replayed, uses_graphs
from recbole_genci.training.checkpoint import load_training_state, save_training_state
from recbole_genci.training.console import EpochLines, loss_names, telling_time, with_bar
from recbole_genci.training.losses import checked_loss, diverged, exploded, not_finite
from recbole_genci.training.precision import in_training_precision
from recbole_genci.training.random_state import same_random_state
from recbole_genci.training.regularisation import Regularised
from recbole_genci.training.tracking.tracked_run import TrackedRun
from recbole_genci.training.unread_loss import Unread, unread
from recbole_genci.training.weight_average import WeightAverage
from recbole_genci.training.weight_decay import decay_groups, decay_in
from recbole_genci.utils.distributed import ALONE, Processes
from recbole_genci.utils.layout import NEXT_WEIGHTS_FILE, TENSORBOARD_FOLDER, WEIGHTS_FILE
from recbole_genci.utils.logs import details
from recbole_genci.utils.sha256 import sha256_of
from recbole_genci.utils.weights import load_weights
from recbole_genci.utils.writing import naming, write_atomically

_logger = logging.getLogger(__name__)

compat.use_current_grad_scaler()
_LARGE_TABLE = 1 << 16  # rows


class CTRTrainer(Trainer):
    """Trains and evaluates any model of this plugin or of RecBole on labelled rows.

    The weights of the best validation epoch go to ``<folder>/model.safetensors``, TensorBoard's
    curves to ``<folder>/tensorboard``.

    Args:
        config: the model's Config.
        model: the model.
        folder: the run's folder.
        identity: names and hashes of the training data. If given, each evaluated epoch writes
            ``<folder>/training.safetensors``, from which ``resume`` continues exactly.
        processes: the processes that train the model together; only the first one writes.
        inputs: what the folder holds beside the weights, for the training state.
        teacher: of ``make_teacher``; it trains beside the model.
        tracked: gets losses and metrics; None shows them nowhere else.
        rows: how many rows are trained on in an epoch, by all processes. A ``weight_decay`` such as
            ``200/rows`` needs it.
        seconds_before: of training that has gone before, such as that of a pretrained teacher.

    Attributes:
        weights_sha256: digest of the weights' file, from the moment it is written.
    """

    def __init__(
        self,
        config: Config,
        model: AbstractRecommender,
        folder: Path,
        identity: dict | None = None,
        processes: Processes = ALONE,
        inputs: Mapping[str, Any] | None = None,
        teacher: nn.Module | None = None,
        tracked: TrackedRun | None = None,
        rows: int | None = None,
        seconds_before: float = 0.0,
    ) -> None:
        self.objective: Any = model
        self._decay = config["weight_decay"], rows  # as they stand; RecBole sees a number
        if teacher is not None:
            self.objective = Regularised(model, teacher, config["LABEL_FIELD"], config["sr_weight"])
        with contextlib.ExitStack() as stack:
            if processes.is_first:
                stack.enter_context(naming(folder / TENSORBOARD_FOLDER))
                stack.enter_context(compat.tensorboard_in(folder / TENSORBOARD_FOLDER))
            stack.enter_context(_as_recbole_knows(config, rows))
            super().__init__(config, model)
        self.tracked = tracked or TrackedRun()
        self.tracked.write_to(self.tensorboard)
        self.folder, self.identity, self.processes = folder, identity, processes
        self.saved_model_file = str(folder / WEIGHTS_FILE)
        self.inputs = dict(inputs or {})
        self.weights_sha256: str | None = None
        self._epoch, self._warned, self._is_first_epoch = 0, False, True
        self._rows: CTRDataset | None = None  # those that are trained on
        self._losses: list[float] = []
        self._awaits_state = False  # whether a training state follows the next weights
        self.epochs_trained = 0
        self.seconds_before, self._started = seconds_before, time.perf_counter()
        self.best_epoch: int | None = None
        self.shared_loss: torch.nn.Module | None = None
        self.average: WeightAverage | None = None
        self.lines: EpochLines | None = None
        self._valid_result: dict[str, float] = {}
        self._explained = False
        self._replayed_loss: Replayed | None = None
        self.predict: Callable = model.predict
        if uses_graphs(config):
            self.predict = Replayed(model.predict, model, self.device)

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        """RecBole's optimiser; ``weight_decay_of`` says what decays (see ``decay_groups``)."""
        if "params" not in kwargs:
            decayed = self.config["weight_decay_of"]
            kwargs["params"] = (
                decay_groups(self.objective, *self._decay, first_order=decayed == "embeddings")
                if decayed
                else list(self.objective.parameters())
            )
        optimizer = super()._build_optimizer(**kwargs)
        fused = has_large_table(self.objective) or uses_graphs(self.config)
        if isinstance(optimizer, torch.optim.Adam) and fused:
            for group in optimizer.param_groups:
                group["fused"] = True
        return optimizer

    def _count_steps(self, batches: int) -> None:
        """Set what depends on the steps of an epoch: patience, and the average of the weights."""
        between = batches * max(self.eval_step, 1)
        self.stopping_step = evaluations_in_a_row(self.config, between) - 1
        self.start_average(batches)

    def start_average(self, batches: int) -> None:
        """Average the weights from now on, if ``weight_average`` says so.

        Args:
            batches: steps of an epoch.
        """
        decay = self.config["weight_average"]
        if not decay or self.average is not None:
            return
        if self.config["weight_average_per"] == "epoch":
            decay **= 1 / batches
        average = self.average = WeightAverage(self.model, decay)
        self.optimizer.register_step_post_hook(lambda *_: average.update())

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """The model has its averaged weights inside the block; its own if none are averaged."""
        return self.average.applied() if self.average else contextlib.nullcontext()

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        self.best_epoch = epoch
        if not self.processes.is_first:
            return
        # Only weights are saved. RecBole pickles the Config and, for DIN and DIEN, an embedding
        # layer that holds the whole dataset.
        name = NEXT_WEIGHTS_FILE if self._awaits_state else WEIGHTS_FILE
        file = self.folder / name
        with self.averaged():
            weights = _without_shared_memory(self.model.state_dict())
            write_atomically(file, lambda path: save_file(weights, path))
        self.weights_sha256 = sha256_of(file)

    def resume(self, train_data: AbstractDataLoader) -> None:
        """Load the training state of the run's folder; the next ``fit`` trains the other epochs.

        Raises:
            FileNotFoundError, ValueError: there is nothing to resume, or the data differ; see
                ``load_training_state``.
        """
        assert self.identity is not None
        self._count_steps(len(train_data))
        load_training_state(self.folder, self, train_data, self.identity)
        if self._has_ended:  # a search's selected trial, or a run that was stopped in its test
            _logger.info(f"{self.folder} has been trained, and is now tested.")
        else:
            _logger.info(f"Resuming {self.folder} after epoch {self.start_epoch}.")

    @property
    def training_s(self) -> float:
        """Seconds of training so far, with those before a stop."""
        return self.seconds_before + time.perf_counter() - self._started

    @property
    def _has_ended(self) -> bool:
        """Whether a resumed run had already stopped early, or had trained its last epoch."""
        is_last = self.cur_step > self.stopping_step or self.start_epoch >= self.epochs
        return bool(self.start_epoch) and is_last

    def resume_checkpoint(self, resume_file: object) -> None:
        """Refuse RecBole's pickled checkpoints; use ``resume``."""
        raise ValueError(
            f"{resume_file}: this trainer resumes a run's folder, by --resume=<folder> or "
            "CTRTrainer.resume()."
        )

    def fit(
        self,
        train_data: AbstractDataLoader,
        valid_data: AbstractDataLoader | None = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict[str, float]]:
        """Train as RecBole does, but log one line per epoch (``EpochLines``) instead of four.

        ``verbose=False`` logs none. A resumed run that had already stopped early, or had trained
        its last epoch, is not trained further.
        """
        if self._has_ended:
            return self.best_valid_score, self.best_valid_result

        def after_evaluation(epoch: int, score: float) -> None:
            # Saved before anything else, to match the best weights, which have just been written.
            if saved and self.identity is not None:
                save_training_state(self.folder, self, epoch, train_data, self.identity)
            if self.lines:
                self.lines.evaluated(epoch, self._valid_result)
            rows = self.config["diagnostic_rows"]
            if rows and self.processes.is_first:
                with self.averaged():
                    measured = diagnose(
                        self.model, valid_data, train_data.dataset, self.device, rows
                    )
                if measured:
                    words = in_words(measured, in_full=not self._explained)
                    _logger.info(words if self._explained else f"{words}; see {WHERE_EXPLAINED}")
                    self._explained = True
                    details().info(as_line(measured))
            if callback_fn:
                # One that draws random numbers, or trains another model, changes nothing here.
                with same_random_state(train_data):
                    callback_fn(epoch, score)

        self._count_steps(len(train_data))
        evaluates = bool(valid_data) and self.eval_step > 0
        self._awaits_state = saved and self.identity is not None and evaluates
        self.lines = EpochLines(self, bool(valid_data)) if verbose else None
        return super().fit(train_data, valid_data, False, saved, show_progress, after_evaluation)

    def load_weights(self, file: str | Path) -> None:
        """Load weights that a run of the same model on the same data has saved.

        Raises:
            FileNotFoundError, ValueError: see ``recbole_genci.utils.weights.load_weights``.
        """
        if self.processes.is_first:
            is_own = str(file) == self.saved_model_file
            load_weights(self.model, Path(file), self.weights_sha256 if is_own else None)
        self.processes.share_weights(self.model)

    def _train_epoch(
        self,
        train_data: AbstractDataLoader,
        epoch_idx: int,
        loss_func: Callable | None = None,
        show_progress: bool = False,
    ) -> float | tuple[float, ...]:
        batches, self._epoch, self._rows = len(train_data), epoch_idx, train_data.dataset
        batches_of: Any = train_data
        if show_progress:
            batches_of = with_bar(train_data, f"Train epoch {epoch_idx + 1}", self.device)
        elif self._is_first_epoch and self.processes.is_first:
            batches_of = telling_time(train_data, epoch_idx)
        self._is_first_epoch = False
        loss_func = self._loss_of_batches(loss_func)
        total: Any = super()._train_epoch(batches_of, epoch_idx, loss_func, False)
        total = self._read(total)
        if self.processes.size > 1:
            parts = self.processes.mean(total if isinstance(total, tuple) else (total,))
            total = parts if isinstance(total, tuple) else parts[0]
        self.epochs_trained = epoch_idx + 1
        self._losses.append((sum(total) if isinstance(total, tuple) else total) / batches)
        if not self._warned:
            self._warn(exploded(self.config, self._losses, self._rows))
        # RecBole reports the sum over batches. A mean can be compared across batch sizes and
        # datasets.
        parts = tuple(part / batches for part in (total if isinstance(total, tuple) else (total,)))
        named = dict(zip(loss_names(self, len(parts)), parts)) if len(parts) > 1 else {}
        self.tracked.log("train", {"train_loss": self._losses[-1], **named}, epoch_idx + 1)
        return parts if isinstance(total, tuple) else parts[0]

    def _loss_of_batches(self, loss_func: Callable | None) -> Callable:
        """The loss that an epoch minimises, as the keys say how to compute it."""
        if self.processes.size > 1:
            if self.shared_loss is None:
                self.shared_loss = self.processes.shared_loss(self.objective)
            loss_func = in_training_precision(self.shared_loss, self.config)
        else:
            loss_func = (
                loss_func
                or checked_loss(self.model, self.objective, self.config)
                or self.objective.calculate_loss
            )
            loss_func = in_training_precision(loss_func, self.config)
            if uses_graphs(self.config):
                if self._replayed_loss is None:
                    self._replayed_loss = Replayed(loss_func, self.objective, self.device)
                loss_func = self._replayed_loss
        return unread(loss_func) if self.device.type == "cuda" else loss_func

    def _read(self, total: Any) -> float | tuple[float, ...]:
        """The sums of an epoch's losses, as numbers, that ``unread`` has left on a GPU."""
        parts = total if isinstance(total, tuple) else (total,)
        if isinstance(parts[0], torch.Tensor):
            parts = tuple(torch.stack(parts).tolist())
            self._check_nan(torch.tensor(sum(parts), dtype=torch.float64))
        return parts if isinstance(total, tuple) else parts[0]

    def _valid_epoch(
        self, valid_data: AbstractDataLoader, show_progress: bool = False
    ) -> tuple[float, dict[str, float]]:
        with self.averaged():
            score, self._valid_result = super()._valid_epoch(valid_data, show_progress)
        if not math.isfinite(score):  # no epoch would be better, or none after this one
            raise FloatingPointError(
                f"valid_metric: {self.config['valid_metric']} of the validation rows is {score} in "
                f"epoch {self._epoch + 1}, so that it can choose no epoch. Choose another of "
                "metrics, or mend it if it is your own."
            )
        self.tracked.log("valid", self._valid_result, self._epoch + 1)
        return score, self._valid_result

    def _add_hparam_to_tensorboard(self, best_valid_result: float) -> None:
        """Nothing: RecBole would write its table into a folder, and so a run, of its own.

        ``track: tensorboard`` writes one into the run's own event file.
        """

    def _warn(self, words: str | None) -> None:
        if words and self.processes.is_first:
            self._warned = True
            _logger.warning(words)

    def _check_nan(self, loss: torch.Tensor) -> None:
        # One that is unread is checked as part of the epoch's sum.
        if not isinstance(loss, Unread) and not torch.isfinite(loss):
            raise FloatingPointError(not_finite(self.config, loss, self._epoch, self._rows))

    def _generate_train_loss_output(
        self, epoch_idx: int, s_time: float, e_time: float, losses: float | tuple[float, ...]
    ) -> str:
        return self.lines.trained(epoch_idx, s_time, losses) if self.lines else ""

    def evaluate(
        self,
        eval_data: AbstractDataLoader,
        load_best_model: bool = True,
        model_file: str | Path | None = None,
        show_progress: bool = False,
    ) -> dict[str, float]:
        """The metrics on a loader's rows, by default of the best model, which is loaded first."""
        if load_best_model:
            self.load_weights(model_file or self.saved_model_file)
        scores, labels = score_rows(
            self.model, eval_data, self.device, show_progress, self.processes, self.predict
        )
        result = metrics_of(self.config, scores, labels, users_of(eval_data))
        # Said once during training, and of the figures that are reported.
        if load_best_model or not self._warned:
            self._warn(diverged(self.config, scores, labels, eval_data.dataset))
        if load_best_model:  # else it is a validation, which `_valid_epoch` shows
            self.tracked.log_test(result)
        return result


@contextlib.contextmanager
def _as_recbole_knows(config: Config, rows: int | None) -> Iterator[None]:
    """Leave only RecBole's metrics in ``config`` inside the block, no W&B, and a number as decay.

    RecBole's trainer builds an evaluator (trainer.py:144), which knows no others and is never used,
    a logger for W&B (trainer.py:116), where `TrackedRun` stands instead, and an optimiser with
    ``weight_decay`` as it stands (trainer.py:134).
    """
    keys = ("metrics", "log_wandb", "weight_decay")
    metrics, log_wandb, decay = (config[key] for key in keys)
    # The decay of no table: groups have their own (`decay_groups`), or all weights this one.
    config["log_wandb"], config["weight_decay"] = False, decay_in(decay, rows, vectors=1)
    config["metrics"] = [
        name for name in metrics if str(name).lower() in map(str.lower, RECBOLE_METRICS)
    ]
    try:
        yield
    finally:
        config["metrics"], config["log_wandb"], config["weight_decay"] = metrics, log_wandb, decay


def has_large_table(model: nn.Module) -> bool:
    """Whether a step of Adam should be fused: on a CPU, with an embedding table of many rows.

    Adam moves every row at every step, with or without a gradient, because of its moments. The
    fused step computes the same in one pass over memory instead of a dozen: 26 ms instead of 150
    for 1,000,000 x 16 numbers on one core (docs/growth.md). Skipping rows, and
    catching up when they are next read, could save no more than those 26 ms of a step of a second.
    Smaller models keep torch's default, whose last bits the published runs have.
    """
    return any(
        isinstance(module, nn.Embedding)
        and len(module.weight) > _LARGE_TABLE
        and module.weight.device.type == "cpu"
        for module in model.modules()
    )


def _without_shared_memory(tensors: dict) -> dict:
    """Contiguous tensors; those that share memory with an earlier one are copied, as safetensors
    needs separate ones.
    """
    seen, separate = set(), {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        memory = tensor.untyped_storage().data_ptr()  # of two views, too, that begin apart
        separate[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return separate
