"""Console output of a training: a line per model, a line per epoch, and a hint if it overfits."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.utils import get_gpu_usage, set_color
from torch import nn
from tqdm import tqdm

from recbole_genci.config import Config
from recbole_genci.config.keys import DEFAULT_RECIPE, key_table, read_keys, recipe_files
from recbole_genci.config.kind import per_rows
from recbole_genci.data.summary import trains_in_few_steps
from recbole_genci.training.weight_decay import Decaying, decay_in
from recbole_genci.utils.distributed import ALONE, Processes
from recbole_genci.utils.durations import duration
from recbole_genci.utils.logs import details
from recbole_genci.utils.words import counted

if TYPE_CHECKING:
    from recbole.trainer import Trainer

_logger = logging.getLogger(__name__)

_EARLY = 2  # a best epoch up to this number leads to a hint
_SILENCE = 30  # seconds without a line
_KEYS = ("learning_rate", "weight_decay")
_OPTIONS = ("weight_average", "flatten_history", "sr_weight")  # shown where they are on


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


@dataclass(frozen=True)
class Heading:
    """The line that a model's training begins with.

    It is made in the process that has the original Config; another process that trains the model
    reads all keys from one file, and would not know their sources.

    Attributes:
        name: the model, which of how many it is, and its seed.
        settings: the most important keys, each as a text with its source.
    """

    name: str
    settings: dict[str, str]

    @classmethod
    def of(
        cls, config: Config, place: str | None = None, sources: Mapping[str, str] | None = None
    ) -> Heading:
        """The heading of a run.

        Args:
            config: the run's Config.
            place: which run of how many this is, and its seed; by default only the seed.
            sources: words for the sources of keys that a search or an experiment has set.
        """

        def setting(key: str) -> str:
            value, source = config[key], (sources or {}).get(key, config.source_of(key))
            which = ""
            if key == "weight_decay" and value and config["weight_decay_of"]:
                which = f" of {config['weight_decay_of']}"
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            shown = f"{value:g}" if is_number else value
            return f"{key} {shown}{which} ({source})"

        place = place or f"seed {config['seed']}"
        shown = [*_KEYS, *dropout_keys(config), *(key for key in _OPTIONS if config[key])]
        return cls(f"{config['model']}, {place}", {key: setting(key) for key in shown})

    def line(
        self,
        model: nn.Module,
        config: Config,
        rows: int,
        decaying: Decaying,
        processes: Processes = ALONE,
    ) -> str:
        """The whole line.

        Args:
            model: the model.
            config: the run's Config.
            rows: how many rows are trained on in an epoch.
            decaying: what of the model decays.
            processes: those that train the model together.
        """
        parameters, threads = sum(p.numel() for p in model.parameters()), torch.get_num_threads()
        where = f"{config['device']}, {counted(threads, 'thread')}"
        if processes.size > 1:
            where += f" in each of {processes.size} processes"
        settings, decay = dict(self.settings), config["weight_decay"]
        if decay and decaying.kind != config["weight_decay_of"]:
            settings["weight_decay"] = f"nothing decays ({nothing_decays(config, decaying.kind)})"
        elif per_rows(decay) is not None:
            settings["weight_decay"] = settings["weight_decay"].replace(
                str(decay), _decay_in_words(config, rows, decaying.table_sizes), 1
            )
        shown = ", ".join(settings.values())
        return f"{set_color(self.name, 'green')}: {parameters:,} parameters, {where}, {shown}"


def sources_of(config: Config, file: Path, words: str) -> dict[str, str]:
    """The sources of the keys that a heading may show.

    Args:
        config: the run's Config.
        file: the ``config.yaml`` of what is resumed, whose path would be repeated for every key.
        words: what it is called.
    """
    sources = {key: config.source_of(key) for key in headed_keys(config)}
    return {key: words if each.file == file else str(each) for key, each in sources.items()}


def headed_keys(config: Config) -> list[str]:
    """The keys whose values and sources a heading may show."""
    return [*_KEYS, *dropout_keys(config), *_OPTIONS]


def nothing_decays(config: Config, decaying: str | None) -> str:
    """Why ``weight_decay`` does nothing for a model, and what to set."""
    kind, shown = config["weight_decay_of"], "~" if decaying is None else decaying
    return (
        f"weight_decay_of is {kind}, and {config['model']} has none; weight_decay_of: {shown} lets "
        "its weights decay"
    )


def dropout_keys(config: Config) -> list[str]:
    """The model's own keys of dropout: those that the default recipe sets, or else all of them."""
    own = key_table([config.model_reference]).keys() - key_table().keys()
    dropouts = sorted(key for key in own if "dropout" in key)
    by_recipe = read_keys(recipe_files(DEFAULT_RECIPE))
    return [key for key in dropouts if key in by_recipe] or dropouts


def _decay_in_words(config: Config, rows: int, vectors: Sequence[int] = ()) -> str:
    """``0.003``, or ``200/rows = 0.0034``; of several tables the range, of unknown ones the key."""
    decay = config["weight_decay"]
    text = per_rows(decay)
    if text is None or text.per_vector and not vectors:
        return str(decay)
    sizes = (min(vectors), max(vectors)) if text.per_vector else (1,)
    numbers = [f"{decay_in(decay, rows, each):.2g}" for each in sizes]
    return f"{decay} = {' to '.join(dict.fromkeys(numbers))}"


def legend(configs: Mapping[str, Config]) -> str:
    """Sentences that say when training ends, and how to read the line of an epoch.

    Args:
        configs: the Configs that are trained, by the names of models or of a table's lines. If they
            end in different ways, each way has a sentence, with its names.
    """
    names: dict[str, list[str]] = {}
    for name, config in configs.items():
        names.setdefault(_end_in_words(config), []).append(name)
    if len(names) == 1:
        ends = [f"Training ends {each}." for each in names]
    else:
        ends = [f"{', '.join(these)}: training ends {each}." for each, these in names.items()]
    return (
        f"{' '.join(ends)} At the end of a line, 'patience 2 (9 s)' means: it ends after 2 more "
        "evaluations without improvement (about 9 s, or until the last epoch if that is sooner)."
    )


def _end_in_words(config: Config) -> str:
    metric, patience = config["valid_metric"], counted(config["stopping_step"] + 1, "evaluation")
    if steps := config["min_patience_steps"]:
        patience += f" and for {counted(steps, 'step')}"
    return (
        f"when validation {metric} has not improved for {patience}, or after epoch "
        f"{config['epochs']}"
    )


class EpochLines:
    """Writes one line per epoch: losses by name, validation metrics, best so far, time, patience.

    Epochs count from 1. The time in brackets is that of the evaluations until training ends if none
    of them is better, at the mean pace since this training began or was resumed. Time until the
    last epoch of ``epochs`` would be much too long, as no run comes near it.

    Args:
        trainer: the trainer.
        evaluates: whether there are validation rows.
    """

    def __init__(self, trainer: Trainer, evaluates: bool = True) -> None:
        self.trainer, self.evaluates = trainer, evaluates
        self._metrics = metric_names(trainer.config)
        self._began, self._evaluations = time.perf_counter(), 0
        self._epoch_began, self._losses = 0.0, ""
        self._in_full: float | tuple[float, ...] = ()

    def trained(self, epoch: int, began: float, losses: float | tuple[float, ...]) -> str:
        """Remember an epoch's losses, and write its line if no evaluation follows.

        Args:
            epoch: number of the epoch from 0, as RecBole counts.
            began: when the epoch began, by ``time.time()``.
            losses: a number, or a tuple of parts whose names are the model's ``loss_names``.

        Returns:
            the losses in words.
        """
        self._epoch_began, self._losses, self._in_full = began, self._in_words(losses), losses
        if not self._will_be_evaluated(epoch):
            _logger.info("  ".join([_epoch(epoch), self._losses, self._seconds()]))
        return self._losses

    def evaluated(self, epoch: int, result: Mapping[str, float]) -> None:
        """Write the line of an epoch; the trainer already knows whether it is the best."""
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

    def _in_words(self, losses: float | tuple[float, ...]) -> str:
        parts = losses if isinstance(losses, tuple) else (losses,)
        names = loss_names(self.trainer, len(parts))
        places = self.trainer.config["loss_decimal_place"]
        places = 4 if places is None else places
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


def loss_names(trainer: Trainer, number: int) -> list[str]:
    """Names of the parts of a loss, of which there are ``number``."""
    has_teacher = trainer.objective is not trainer.model
    own = number - has_teacher  # the teacher's is last
    names = list(trainer.model.loss_names or ())
    if own == 1:
        names = ["loss"]
    elif not names:
        names = [f"loss {part}" for part in range(1, own + 1)]
    return names + ["teacher"] * has_teacher


def _epoch(epoch: int) -> str:
    return set_color(f"epoch {epoch + 1}", "green")


def metric_names(config: Config) -> dict[str, str]:
    """The user's spelling of each metric, by its name in RecBole's results."""
    return {str(name).lower(): str(name) for name in config["metrics"]}


def with_bar(loader: AbstractDataLoader, description: str, device: torch.device) -> Iterator:
    """Yield a loader's batches with a progress bar, which disappears at the end.

    RecBole's own bar counts epochs from 0, and is coloured.
    """
    with tqdm(loader, desc=description, dynamic_ncols=True, leave=False) as shown:
        for batch in shown:
            yield batch
            if device.type == "cuda":
                shown.set_postfix_str(f"GPU RAM: {get_gpu_usage(device)}", refresh=False)


def telling_time(loader: AbstractDataLoader, epoch: int) -> Iterator:
    """Yield a loader's batches; after half a minute, one line says how long the epoch takes.

    For a first epoch without a bar, of which nothing would be seen until it ends.
    """
    began, told = time.monotonic(), False
    for number, batch in enumerate(loader):
        passed = time.monotonic() - began
        if number and not told and passed > _SILENCE:
            took = _short(passed / number * len(loader))
            _logger.info(f"{_epoch(epoch)}  training it takes about {took} here")
            told = True
        yield batch


def last_line(config: Config, metrics: Mapping) -> str:
    """The line of a finished run, from the content of its ``metrics.json``."""
    names = metric_names(config)
    shown = ", ".join(
        f"{names.get(name, name)} {'undefined' if value is None else format(value, '.4f')}"
        for name, value in metrics["test"].items()
    )
    return (
        f"{metrics['model']}, seed {metrics['seed']}: test {shown}; best epoch "
        f"{metrics['best_epoch']} of {metrics['epochs']}, {_short(metrics['training_s'])} of "
        f"training. Everything is in {metrics['folder']}/"
    )


def early_best_hint(
    config: Config,
    best_epoch: int,
    epochs: int,
    rows: int,
    decaying: Decaying,
    stopping_step: int,
) -> str | None:
    """A hint what to try if the first or second epoch was the best and others followed; else None.

    There is none if an epoch has only a few steps: then the model has hardly learned anything yet.
    Nor if ``epochs`` ended the run before early stopping could: a later epoch may be better.

    Args:
        config: the run's Config.
        best_epoch: number of the best epoch, from 1.
        epochs: number of epochs that were trained.
        rows: how many rows are trained on in an epoch.
        decaying: what of the model decays.
        stopping_step: how many evaluations in a row may bring nothing better.
    """
    if best_epoch > _EARLY or epochs <= best_epoch:
        return None
    patience = stopping_step * config["eval_step"]
    if epochs >= config["epochs"] and epochs - best_epoch <= patience:
        return None
    if trains_in_few_steps(rows, config["train_batch_size"]):
        return None
    decays = decaying.kind == config["weight_decay_of"]
    tries = [f"a smaller learning_rate (now {config['learning_rate']})"]
    if decays:
        now = _decay_in_words(config, rows)
        tries.append(f"a larger weight_decay (now {now})")
    # The model's own keys: dropout of another model would not help.
    tries += [f"a larger {key} (now {config[key]})" for key in dropout_keys(config)]
    if not decays:
        now = f"now {config['weight_decay_of']}, of which {config['model']} has none"
        tries.append(f"weight_decay_of: {decaying.kind or '~'} ({now})")
    listed = ", ".join(tries[:-1]) + f" or {tries[-1]}" if len(tries) > 1 else tries[0]
    return (
        f"{config['model']} was best in epoch {best_epoch} of {epochs}: it learns too fast, or "
        f"overfits. Try {listed}; run_hyper.py searches them by validation."
    )
