"""RecBole's Trainer with checkpoints that need no pickle, named loss parts, and scores checked
before they are measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import Trainer
from safetensors.torch import save_file
from torch import nn

from recbole_genci import compat
from recbole_genci.config import Config
from recbole_genci.config.metric_names import RECBOLE_METRICS
from recbole_genci.evaluation.diagnostics import WHERE_EXPLAINED, as_line, diagnose, in_words
from recbole_genci.evaluation.scoring import metrics_of, score_rows, users_of
from recbole_genci.training.checkpoint import load_training_state, save_training_state
from recbole_genci.training.console import EpochLines, with_bar
from recbole_genci.training.tracking import count_on
from recbole_genci.utils.distributed import ALONE, Processes
from recbole_genci.utils.files import write_atomically
from recbole_genci.utils.layout import TENSORBOARD_FOLDER, WEIGHTS_FILE
from recbole_genci.utils.logs import details
from recbole_genci.utils.weights import load_weights

compat.use_current_grad_scaler()


class CTRTrainer(Trainer):
    """Trains and evaluates any model of this plugin or of RecBole on labelled rows.

    The weights of the best validation epoch are at ``<folder>/model.safetensors``, TensorBoard's
    curves in ``<folder>/tensorboard``.

    Args:
        config: the model's Config.
        model: the model.
        folder: the run's folder.
        identity: names and hashes of what the model is trained on. When given, each evaluated epoch
            leaves ``<folder>/training.pt``, from which ``resume`` goes on exactly.
        processes: that train the model together; only the first of them writes.
    """

    def __init__(
        self,
        config: Config,
        model: AbstractRecommender,
        folder: Path,
        identity: dict | None = None,
        processes: Processes = ALONE,
    ) -> None:
        with (
            compat.tensorboard_in(folder / TENSORBOARD_FOLDER)
            if processes.is_first
            else contextlib.nullcontext()
        ):
            with _metrics_of_recbole(config):
                super().__init__(config, model)
        self.folder, self.identity, self.processes = folder, identity, processes
        self.saved_model_file = str(folder / WEIGHTS_FILE)
        self.epochs_trained = 0
        self.best_epoch: int | None = None
        self.shared_loss: torch.nn.Module | None = None
        self.lines: EpochLines | None = None
        self._valid_result: dict[str, float] = {}
        self._explained = False

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        """RecBole's optimiser, with the weight decay of ``weight_decay_of`` (see ``decay_groups``)."""
        if self.config["weight_decay_of"] == "embeddings" and "params" not in kwargs:
            kwargs["params"] = decay_groups(self.model)
        return super()._build_optimizer(**kwargs)

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        self.best_epoch = epoch
        if not self.processes.is_first:
            return
        # Weights only: RecBole pickles the Config and, for DIN and DIEN, an embedding layer that
        # holds the whole dataset.
        weights = {
            name: tensor.detach().contiguous() for name, tensor in self.model.state_dict().items()
        }
        write_atomically(
            Path(self.saved_model_file),
            lambda path: save_file(_without_shared_memory(weights), path),
        )

    def resume(self, train_data: AbstractDataLoader) -> None:
        """Continue the run whose folder this is: the next ``fit`` trains the epochs that are left.

        Raises:
            FileNotFoundError, ValueError: nothing to resume, or other data; see
                ``load_training_state``.
        """
        assert self.identity is not None
        load_training_state(self.folder, self, train_data, self.identity)
        count_on(self)
        self.logger.info(f"Resuming {self.folder} after epoch {self.start_epoch}.")

    def resume_checkpoint(self, resume_file: object) -> None:
        """RecBole's pickled checkpoints are not read; use ``resume``."""
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
        """As RecBole's, with one line an epoch (``EpochLines``) for its four; ``verbose=False``
        writes none. A run that had stopped early or trained its last epoch before it was resumed
        trains no more.
        """
        if self.start_epoch and (
            self.cur_step > self.stopping_step or self.start_epoch >= self.epochs
        ):
            return self.best_valid_score, self.best_valid_result

        def after_evaluation(epoch: int, score: float) -> None:
            if (
                saved and self.identity is not None
            ):  # first of all, as the best weights have just been written
                save_training_state(self.folder, self, epoch, train_data, self.identity)
            if self.lines:
                self.lines.evaluated(epoch, self._valid_result)
            rows = self.config["diagnostic_rows"]
            if rows and self.processes.is_first:
                found = diagnose(self.model, valid_data, train_data.dataset, self.device, rows)
                if found:
                    self.logger.info(
                        in_words(found) + ("" if self._explained else f"; see {WHERE_EXPLAINED}")
                    )
                    self._explained = True
                    details().info(as_line(found))
            if callback_fn:
                callback_fn(epoch, score)

        self.lines = EpochLines(self, bool(valid_data)) if verbose else None
        return super().fit(train_data, valid_data, False, saved, show_progress, after_evaluation)

    def load_weights(self, file: str | Path) -> None:
        """Load weights saved by a run of the same model on the same data.

        Raises:
            FileNotFoundError, ValueError: see ``recbole_genci.utils.weights.load_weights``.
        """
        if self.processes.is_first:
            load_weights(self.model, Path(file))
        self.processes.share_weights(self.model)

    def _train_epoch(
        self,
        train_data: AbstractDataLoader,
        epoch_idx: int,
        loss_func: Callable | None = None,
        show_progress: bool = False,
    ) -> float | tuple[float, ...]:
        batches = len(train_data)
        if show_progress:
            train_data, show_progress = (
                with_bar(train_data, f"Train epoch {epoch_idx + 1}", self.device),
                False,
            )
        if self.processes.size > 1:
            if self.shared_loss is None:
                self.shared_loss = self.processes.shared_loss(self.model)
            total = super()._train_epoch(train_data, epoch_idx, self.shared_loss, show_progress)
            parts = self.processes.mean(total if isinstance(total, tuple) else (total,))
            total = parts if isinstance(total, tuple) else parts[0]
        else:
            total = super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)
        self.epochs_trained = epoch_idx + 1
        # RecBole reports the sum over batches; a mean can be compared between batch sizes and
        # datasets.
        return (
            tuple(part / batches for part in total) if isinstance(total, tuple) else total / batches
        )

    def _valid_epoch(
        self, valid_data: AbstractDataLoader, show_progress: bool = False
    ) -> tuple[float, dict[str, float]]:
        score, self._valid_result = super()._valid_epoch(valid_data, show_progress)
        return score, self._valid_result

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
        """Metrics of a loader's rows; the best model is read from the run's safetensors file."""
        if load_best_model:
            self.load_weights(model_file or self.saved_model_file)
        scores, labels = score_rows(
            self.model, eval_data, self.device, show_progress, self.processes
        )
        result = metrics_of(self.config, scores, labels, users_of(eval_data))
        # The test; RecBole (trainer.py:629) also puts each validation there, which fit logs on its
        # own
        if load_best_model:
            self.wandblogger.log_eval_metrics(result, head="eval")
        return result


@contextlib.contextmanager
def _metrics_of_recbole(config: Config) -> Iterator[None]:
    """RecBole's trainer makes an evaluator of its own (trainer.py:127), which nothing asks, and
    which knows only its metrics.
    """
    asked = config["metrics"]
    config["metrics"] = [
        name for name in asked if str(name).lower() in map(str.lower, RECBOLE_METRICS)
    ]
    try:
        yield
    finally:
        config["metrics"] = asked


def decay_groups(model: nn.Module) -> list[dict]:
    """A model's parameters for an optimiser that decays its embedding tables alone, whatever the
    model calls them.

    Fields' embeddings overfit where rows are few; layers that act on all rows do not, and L2 within
    Adam can switch a branch off whose gradients are small. FuxiCTR's ``embedding_regularizer``
    makes the same cut. GenCI's code embeddings, which its generator's output shares, and the tables
    of its teacher are among them.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    parameters = list(model.parameters())
    return [
        {"params": [each for each in parameters if id(each) in tables]},
        {"params": [each for each in parameters if id(each) not in tables], "weight_decay": 0.0},
    ]


def _without_shared_memory(tensors: dict) -> dict:
    """Copy tensors that share memory with an earlier one; safetensors stores each name on its own."""
    seen, separate = set(), {}
    for name, tensor in tensors.items():
        separate[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return separate


def measure_latency(
    model: AbstractRecommender, loader: AbstractDataLoader, device: torch.device, repeats: int
) -> dict:
    """Time whole passes over a split: attaching the batch's columns, and predicting.

    Returns:
        ``latency_s``: median of ``repeats`` passes after one warm-up; ``rows_per_s``: rows over
        that median.
    """
    from time import perf_counter

    model.eval()
    passes = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = perf_counter()
            for interaction, *_ in loader:
                model.predict(interaction.to(device))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            passes.append(perf_counter() - start)
    latency = float(np.median(passes[1:]))
    return {"latency_s": latency, "rows_per_s": loader.sample_size / latency}
