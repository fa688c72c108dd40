"""Try a person's own model and metrics on a few rows before anything is trained."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_genci.config import Config
from recbole_genci.config.keys import key_table
from recbole_genci.config.kind import per_rows
from recbole_genci.config.metric_names import RECBOLE_METRICS
from recbole_genci.config.unknown_keys import undeclared
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.evaluation.scoring import check_probabilities, metrics_of, users_of_part
from recbole_genci.model.base import declarations
from recbole_genci.training.console import nothing_decays
from recbole_genci.training.losses import loss_in_parts
from recbole_genci.training.own_scores import check_methods, check_scores
from recbole_genci.training.precision import check_precision, in_training_precision
from recbole_genci.training.regularisation import has_teacher
from recbole_genci.training.unsaved_state import unsaved_state, warn_of_changes
from recbole_genci.training.weight_decay import SOME_ROWS, decaying_tables, find_decaying
from recbole_genci.utils.own_code import (
    described,
    errors_in_words,
    is_importable,
    is_reference,
    mentions,
    name_of,
    places_of,
)

_logger = logging.getLogger(__name__)

_TAKE_SPARSE = ("sgd", "adagrad")  # gradients, of weights that do not decay


def check_importable(config: Config, setting: str) -> None:
    """Refuse a model or metric that other processes cannot import.

    Args:
        config: the Config.
        setting: the setting that starts other processes, for the error.

    Raises:
        ValueError: the model or metric was defined in a program, a notebook or a function.
    """
    for key, references in {
        "model": [config.model_reference],
        "metrics": config["metrics"],
    }.items():
        for reference in references:
            if is_reference(reference) and not is_importable(reference):
                raise ValueError(
                    f"{key}: {name_of(reference)} exists in this process alone, and the other "
                    f"processes of {setting} could not import it. Write it into a file and give "
                    f"path/to/file.py:{name_of(reference)}."
                )


def check_model_settings(config: Config) -> None:
    """Check ``precision``, and call ``check_settings`` of the model.

    Raises:
        ValueError: a setting is wrong, the GPU has no bf16, or a person's own check failed; names
            its file and line.
    """
    check_precision(config)
    with _explained(config), errors_in_words("model", config["model"]):
        config.model_class.check_settings(config)


def try_model(config: Config, training_part: CTRDataset, batch_rows: int | None = None) -> int:
    """Build the model; if it is a person's own, also let it predict and learn from some rows.

    Its errors then show before training.

    Args:
        config: the model's Config.
        training_part: the model's view of the training rows.
        batch_rows: the rows of a training batch; by default not one alone.

    Returns:
        bytes of the model's weights.

    Raises:
        ValueError: a setting is wrong, or a person's own code failed; names its file and line.
    """
    if not is_reference(config.model_reference):
        model = _built(config, training_part)
        model.load_initial_weights()
        if min(batch_rows or SOME_ROWS, len(training_part)) == 1:
            _try_one_row(config, model, training_part)
        return _weight_bytes(model)
    with _explained(config, training_part), errors_in_words("model", config["model"]):
        model = config.model_class(config, training_part).to(config["device"])
        model.load_initial_weights()
        state = unsaved_state(model)
        batch = training_part[:SOME_ROWS].to(config["device"])
        check_methods(model, batch)
        with torch.no_grad():
            scores = model.eval().predict(batch)
        check_probabilities(model, scores, len(batch))
        total, parts = loss_in_parts(model, _losses_of(config, model.train(), batch))
        warn_of_changes(model, state)
        if not (torch.isfinite(scores).all() and torch.isfinite(total)):
            raise ValueError(
                f"model: {config['model']} gives scores or losses that are not finite, on the "
                f"first {len(batch)} rows and before any training. Mend the model."
            )
        _check_gradients(config, model, total)
        if min(batch_rows or SOME_ROWS, len(training_part)) == 1:
            _try_one_row(config, model, training_part)
        if has_teacher(config):
            _check_mixed_labels(config, model.eval(), batch)
        names = model.loss_names
        if names is not None and parts > 1 and len(names) != parts:
            raise ValueError(
                f"model: {config['model']}.loss_names has {len(names)} names, but calculate_loss "
                f"gives {parts} parts. Name each part."
            )
        some = training_part[:SOME_ROWS:2].to(config["device"])
        check_scores(model, batch, some, config["LABEL_FIELD"], list(config["threshold"] or ()))
    if words := _of_keys(config):  # None counts as False, and a misspelt key would go unnoticed
        _logger.warning(f"model: {config['model']}: {words}")
    return _weight_bytes(model)


@contextlib.contextmanager
def _explained(config: Config, training_part: CTRDataset | None = None) -> Iterator[None]:
    """Say of a failure in a person's own model what it may come from, where that is known."""
    config.undeclared.clear()
    try:
        yield
    except ValueError as error:
        hints = [_of_decay(config), _of_keys(config), _of_columns(config, error, training_part)]
        if not any(hints):
            raise
        words = str(error)
        if not words.startswith("model: "):  # a library's
            words = f"model: {config['model']}: {described(error)}"
        raise ValueError(" ".join([words, *filter(None, hints)])) from error


def _of_decay(config: Config) -> str:
    """What ``weight_decay`` is, if the model may take it for a number."""
    decay = config["weight_decay"]
    is_own = is_reference(config.model_reference)
    if not is_own or per_rows(decay) is None or not mentions(config.model_class, "weight_decay"):
        return ""
    return (
        f"Its file reads weight_decay, here the text '{decay}'; the number is "
        "recbole_genci.training.weight_decay.decay_in(config['weight_decay'], len(dataset), "
        "vectors), of a table of so many vectors. Or give a number: --weight_decay=0.001."
    )


def _of_keys(config: Config) -> str:
    """The keys that the model has read and no file declares."""
    return undeclared(config.entry, list(config.undeclared)) if config.undeclared else ""


def _of_columns(config: Config, error: ValueError, part: CTRDataset | None) -> str:
    """What a model must declare to read a column that its batches lack, or which they have."""
    cause = error.__cause__
    if part is None or not isinstance(cause, (KeyError, AttributeError)):
        return ""
    column = cause.args[0] if isinstance(cause, KeyError) else cause.name
    if declaration := declarations(config).get(str(column)):
        return f"Batches have '{column}' if the class sets {declaration} = True."
    place = Path(traceback.extract_tb(cause.__traceback__)[-1].filename).name
    if place not in ("batches.py", "table.py", "interaction.py"):
        return ""
    return (
        f"Batches have the columns {', '.join(part[:1].interaction)}. Of the dataset's files "
        "load_col says what is read."
    )


def _losses_of(config: Config, model: Any, batch: Any) -> Any:
    if config["precision"] == "fp32":
        return model.calculate_loss(batch)
    with errors_in_words("model", _in_bf16(config)):
        return in_training_precision(model.calculate_loss, config)(batch)


def _check_gradients(config: Config, model: Any, total: torch.Tensor) -> None:
    """Refuse a loss without gradients, or with sparse ones that the optimiser does not take."""
    what = config["model"] if config["precision"] == "fp32" else _in_bf16(config)
    with errors_in_words("model", what):
        # Torch's checkpoints compute again here, in bf16 without float32 sums, and then refuse.
        total.backward()
    learner, kind = str(config["learner"]).lower(), config["weight_decay_of"]
    tables = decaying_tables(model, first_order=kind == "embeddings")
    for name, weight in model.named_parameters():
        decays = bool(config["weight_decay"]) and (not kind or id(weight) in tables)
        is_sparse = weight.grad is not None and weight.grad.is_sparse
        if is_sparse and (decays or learner not in _TAKE_SPARSE):
            raise ValueError(
                f"model: {config['model']}: the gradient of {name} is sparse, which learner "
                f"{learner}{' with weight_decay' if decays else ''} does not take. Make its layer "
                "without sparse=True."
            )
    model.zero_grad()


def _in_bf16(config: Config) -> str:
    return f"{config['model']}, with --precision=bf16 (fp32 may run)"


def _check_mixed_labels(config: Config, model: Any, batch: Any) -> None:
    """Refuse a loss that takes labels for classes, as ``label.long()`` does.

    With ``sr_weight`` they are mixed with probabilities, and such a loss would learn from no click.
    """
    field, losses = config["LABEL_FIELD"], []
    for low in (0.25, 0.3):
        columns = {**batch.interaction, field: batch[field] / 2 + low}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            losses.append(loss_in_parts(model, model.calculate_loss(Interaction(columns)))[0])
    if torch.equal(*losses):
        raise ValueError(
            f"sr_weight: {config['model']} has one loss for labels of 0.25 and 0.75 and for those "
            "of 0.3 and 0.8, as if it took labels for classes, and sr_weight mixes them with "
            "probabilities. Let calculate_loss read them as numbers, as "
            "binary_cross_entropy_with_logits does, or leave sr_weight out."
        )


def _weight_bytes(model: nn.Module) -> int:
    return sum(each.numel() * each.element_size() for each in model.state_dict().values())


def why_nothing_decays(config: Config, training_part: CTRDataset) -> str | None:
    """Why ``weight_decay`` does nothing for the model, and what to set; None if it does something.

    Args:
        config: the model's Config.
        training_part: the model's view of the training rows.
    """
    kind = config["weight_decay_of"]
    if not kind or has_teacher(config):
        return None
    model = config.model_class(config, training_part).to(config["device"])
    decaying = find_decaying(model, training_part[:SOME_ROWS].to(config["device"]), kind)
    return None if decaying.kind == kind else nothing_decays(config, decaying.kind)


def _built(config: Config, training_part: CTRDataset) -> Any:
    try:
        return config.model_class(config, training_part)
    except (MemoryError, OverflowError, RuntimeError, TypeError) as error:  # torch's, of sizes
        sizes = [f"{name}={value}" for name, value in _largest_sizes(config)]
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"model: {config['model']} cannot be built with sizes like {', '.join(sizes)}: "
            f"{reason}. Make them smaller."
        ) from error


def _largest_sizes(config: Config) -> list[tuple[str, object]]:
    """The three keys of the model that count or list the largest sizes, the largest first."""
    common = set(key_table()) - {"embedding_size"}
    sizes: list[tuple[int, str, object]] = []
    for name, key in key_table([config.model_reference]).items():
        kind, value = key.kind, config[name]
        is_list = kind is not None and kind.element is not None and kind.element.base == "int"
        if name not in common and kind is not None and (kind.base == "int" or is_list):
            sizes.append((max(value) if is_list else value, name, value))
    return [(name, value) for _, name, value in sorted(sizes, reverse=True)[:3]]


def _try_one_row(config: Config, model: Any, training_part: CTRDataset) -> None:
    """Refuse batches of one row for a model that cannot train on them."""
    model = model.to(config["device"]).train()
    try:
        with torch.no_grad():
            model.calculate_loss(training_part[:1].to(config["device"]))
    except Exception as error:  # a person's own code may raise anything
        is_own = is_reference(config.model_reference)
        if not is_own and not isinstance(error, ValueError):  # torch's, of batch normalisation
            raise
        who, why = f"the batch normalisation of {config['model']}", ""
        if is_own:
            places = places_of(type(model), ("forward", "calculate_loss"))
            who, why = config["model"], f" ({places}): {described(error).rstrip('.')}"
        rows = "the training part has one row" if len(training_part) == 1 else "a batch has one row"
        remedy = " or write .squeeze(1) for a bare .squeeze()" if is_own else ""
        raise ValueError(
            f"train_batch_size: {rows}, and {who} cannot train on one row alone{why}. Give at "
            f"least two rows{remedy}."
        ) from error


def try_metrics(config: Config, valid_part: CTRDataset) -> None:
    """Try GAUC and a person's own metrics on random scores of the validation rows.

    Their errors then show before training.

    Raises:
        ValueError: a metric failed, or ``valid_metric`` is undefined on these rows.
    """
    if all(name in RECBOLE_METRICS for name in config["metrics"]):
        return
    labels = valid_part.inter_feat[valid_part.label_field]
    scores = torch.rand(len(labels), generator=torch.Generator().manual_seed(0))
    values = metrics_of(config, scores, labels, users_of_part(valid_part))
    chosen = str(config["valid_metric"])
    if values[chosen.lower()] != values[chosen.lower()]:
        raise ValueError(
            f"valid_metric: {chosen} of the validation rows is undefined, so that no epoch would "
            "be the best. Choose another of metrics."
        )
