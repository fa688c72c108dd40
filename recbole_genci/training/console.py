"""What a person sees of a training: one line a model, one line an epoch, a hint where the best
epoch comes early.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from recbole.utils import get_gpu_usage, set_color
from tqdm import tqdm

from recbole_genci.config.keys import key_table
from recbole_genci.utils.distributed import ALONE, Processes
from recbole_genci.utils.durations import duration
from recbole_genci.utils.logs import details

_logger = logging.getLogger(__name__)

_EARLY = 2  # a best epoch up to this one is worth a hint
_KEYS = ("learning_rate", "weight_decay")


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


@dataclass(frozen=True)
class Heading:
    """A model's line, made where its Config is: a process that trains it has the keys from one
    file.

    Attributes:
        name: of the model, which of how many it is, its seed.
        settings: the keys that decide most, each with its source.
    """

    name: str
    settings: str

    @classmethod
    def of(
        cls, config, place: str | None = None, sources: Mapping[str, str] | None = None
    ) -> Heading:
        """The heading of one run.

        Args:
            config: of the run.
            place: which run of how many this is, with its seed; by default the seed alone.
            sources: words for kinds of sources (``KeySource.kind``), where a search or an
                experiment has set them.
        """

        def setting(key: str) -> str:
            source = config.source_of(key)
            value = config[key]
            of = (
                f" of {config['weight_decay_of']}"
                if key == "weight_decay" and value and config["weight_decay_of"]
                else ""
            )
            shown = f"{value:g}" if isinstance(value, (int, float)) else value
            return f"{key} {shown}{of} ({(sources or {}).get(source.kind, source)})"

        place = place or f"seed {config['seed']}"
        return cls(f"{config['model']}, {place}", ", ".join(map(setting, _KEYS)))

    def line(self, model, device, processes: Processes = ALONE) -> str:
        """The whole line."""
        parameters, threads = sum(p.numel() for p in model.parameters()), torch.get_num_threads()
        where = f"{device}, {threads} thread{'s' if threads > 1 else ''}"
        if processes.size > 1:
            where += f" in each of {processes.size} processes"
        return (
            f"{set_color(self.name, 'green')}: {parameters:,} parameters, {where}, {self.settings}"
        )


def legend(config) -> str:
    """How to read an epoch's line."""
    metric, evaluations = config["valid_metric"], config["stopping_step"] + 1
    return (
        f"Training ends after {evaluations} evaluations in a row without a better validation "
        f"{metric}, or after "
        f"{config['epochs']} epochs. In an epoch's line, patience is how many of these evaluations "
        "are left; the time "
        "that they take is in brackets."
    )


class EpochLines:
    """Writes one line an epoch: losses by name, validation metrics, the best so far, seconds,
    patience and time left.

    Epochs count from 1. The time left is that of the evaluations that follow if none is better, at
    the mean pace since this training began or was resumed; to the last epoch of ``epochs`` it would
    be a bound that no run comes near.

    Args:
        trainer: whose training it is.
        evaluates: whether there are validation rows.
    """

    def __init__(self, trainer, evaluates: bool = True):
        self.trainer, self.evaluates = trainer, evaluates
        self._metrics = metric_names(trainer.config)
        self._began, self._evaluations = time.perf_counter(), 0
        self._epoch_began, self._losses, self._in_full = None, "", ()

    def trained(self, epoch: int, began: float, losses) -> str:
        """Remember an epoch's losses, and write its line if no evaluation follows.

        Args:
            epoch: from 0, as RecBole counts.
            began: when, by ``time.time()``.
            losses: a number, or a tuple of parts, which the model's ``loss_names`` name.

        Returns:
            the losses in words.
        """
        self._epoch_began, self._losses, self._in_full = began, self._in_words(losses), losses
        if not self._will_be_evaluated(epoch):
            _logger.info("  ".join([_epoch(epoch), self._losses, self._seconds()]))
        return self._losses

    def evaluated(self, epoch: int, result: Mapping[str, float]) -> None:
        """Write the line of an epoch with its validation metrics, once the trainer knows whether it
        is the best.
        """
        trainer = self.trainer
        self._evaluations += 1
        metrics = " ".join(
            f"{self._metrics.get(name, name)} {value:.4f}" for name, value in result.items()
        )
        best = epoch - trainer.cur_step * trainer.eval_step
        groups = [
            _epoch(epoch),
            self._losses,
            metrics,
            f"best {trainer.best_valid_score:.4f} (epoch {best + 1})",
            self._seconds(),
            self._ahead(epoch),
        ]
        _logger.info("  ".join(groups))
        details().info(f"epoch {epoch + 1} in full: {dict(result)}, losses {self._in_full}")

    def _will_be_evaluated(self, epoch: int) -> bool:
        return (
            self.evaluates
            and self.trainer.eval_step > 0
            and (epoch + 1) % self.trainer.eval_step == 0
        )

    def _in_words(self, losses) -> str:
        parts = losses if isinstance(losses, tuple) else (losses,)
        names = getattr(self.trainer.model, "loss_names", None)
        if names is None or len(parts) == 1:
            names = (
                ["loss"]
                if len(parts) == 1
                else [f"loss {number}" for number in range(1, len(parts) + 1)]
            )
        places = self.trainer.config["loss_decimal_place"] or 4
        return "  ".join(
            f"{name} {loss:.{places}f}" for name, loss in zip(names, parts, strict=True)
        )

    def _seconds(self) -> str:
        return _short(time.time() - self._epoch_began)

    def _ahead(self, epoch: int) -> str:
        trainer = self.trainer
        patience = trainer.stopping_step + 1 - trainer.cur_step
        left = max(0, min(patience, (trainer.epochs - epoch - 1) // trainer.eval_step))
        pace = (time.perf_counter() - self._began) / self._evaluations
        return f"patience {patience} ({_short(left * pace) if left else 'end'})"


def _epoch(epoch: int) -> str:
    return set_color(f"epoch {epoch + 1}", "green")


def metric_names(config) -> dict[str, str]:
    """The metrics as the user has written them, by the names of RecBole's results."""
    return {str(name).lower(): str(name) for name in config["metrics"]}


def with_bar(loader, description: str, device) -> Iterator:
    """The batches of a loader behind a bar that is gone when they end; RecBole's counts epochs from
    0, in colour.
    """
    with tqdm(loader, desc=description, dynamic_ncols=True, leave=False) as shown:
        for batch in shown:
            yield batch
            if device.type == "cuda":
                shown.set_postfix_str(f"GPU RAM: {get_gpu_usage(device)}", refresh=False)


def last_line(config, metrics: Mapping) -> str:
    """What a finished run came to, from the content of its ``metrics.json``."""
    names = metric_names(config)
    shown = ", ".join(
        f"{names.get(name, name)} {'undefined' if value is None else format(value, '.4f')}"
        for name, value in metrics["test"].items()
    )
    return (
        f"{metrics['model']}, seed {metrics['seed']}: test {shown}; best epoch "
        f"{metrics['best_epoch']} of "
        f"{metrics['epochs']}, {_short(metrics['training_s'])} of training. Everything is in "
        f"{metrics['folder']}/"
    )


def early_best_hint(config, best_epoch: int, epochs: int) -> str | None:
    """What to try where the best epoch came first or second and training went on after it; else
    None.

    Args:
        config: of the run.
        best_epoch: counted from 1.
        epochs: that were trained.
    """
    if best_epoch > _EARLY or epochs <= best_epoch:
        return None
    own = (
        key_table([config.model_reference]).keys() - key_table().keys()
    )  # no other model's dropout
    dropouts = sorted(key for key in own if "dropout" in key)
    dropouts = [key for key in dropouts if key == "dropout_prob"] or dropouts
    larger = [] if str(config["learner"]).lower() == "sparse_adam" else ["weight_decay"]
    tries = [f"a smaller learning_rate (now {config['learning_rate']})"]
    tries += [f"a larger {key} (now {config[key]})" for key in [*larger, *dropouts]]
    listed = ", ".join(tries[:-1]) + f" or {tries[-1]}" if len(tries) > 1 else tries[0]
    return (
        f"{config['model']} was best in epoch {best_epoch} of {epochs}: it learns too fast, or "
        f"overfits. Try {listed}; "
        "run_hyper.py searches them by validation."
    )
