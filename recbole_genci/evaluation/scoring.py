"""Score the rows of a loader, and compute metrics of the scores."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.register import metrics_dict
from recbole.model.abstract_recommender import AbstractRecommender
from tqdm import tqdm

from recbole_genci import compat
from recbole_genci.config import Config
from recbole_genci.config.metric_names import (
    GAUC,
    RECBOLE_METRICS,
    Metric,
    metrics_named,
    needs_users,
    takes_users,
)
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.evaluation.gauc import gauc
from recbole_genci.utils.distributed import ALONE, Processes
from recbole_genci.utils.own_code import errors_in_words, places_of
from recbole_genci.utils.value_checks import shortened

_logger = logging.getLogger(__name__)

#: The package's metrics, by name: functions of the users, labels and scores ``[R]``.
OF_PACKAGE = {GAUC: gauc}


@torch.no_grad()
def score_rows(
    model: AbstractRecommender,
    loader: AbstractDataLoader,
    device: torch.device,
    show_progress: bool = False,
    processes: Processes = ALONE,
    predict: Callable | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Predict every row of a loader.

    RecBole's collector joins the scores after every batch (collector.py:44), so that its time grows
    with the square of the rows; here they are joined once. Several processes score whole
    batches and exchange the scores: each row is scored once, as by a single process.

    Args:
        predict: instead of the model's own, which gives the same.

    Returns:
        click probabilities ``[R]`` and labels ``[R]``, in the loader's order, on the CPU.

    Raises:
        FloatingPointError: a score is not finite; scikit-learn would take it for the best score.
        ValueError: the model does not predict one probability per row.
    """
    model.eval()
    predict = predict or model.predict
    batches = []
    label_field = loader.config["LABEL_FIELD"]
    shown = tqdm(
        processes.own_batches(loader),
        desc="Evaluate",
        total=len(processes.block(len(loader))),
        dynamic_ncols=True,
        leave=False,
        disable=not show_progress,
    )
    for interaction, *_ in shown:
        scores = predict(interaction.to(device))
        check_tensor(model, scores)
        if scores.dim() == 0:  # RecBole's DSSM drops the dimension of a single row
            scores = scores.unsqueeze(0)
        batches.append((scores, interaction[label_field]))
    batches = processes.join_batches([(scores.cpu(), labels) for scores, labels in batches])
    scores, labels = map(torch.cat, zip(*batches))
    if not torch.isfinite(scores).all():
        raise FloatingPointError(
            f"{type(model).__name__} predicted {int((~torch.isfinite(scores)).sum())} of "
            f"{len(scores)} scores that are not finite. Lower learning_rate or set "
            "clip_grad_norm: {max_norm: 5.0}."
        )
    check_probabilities(model, scores, len(labels))
    return scores, labels


def check_tensor(model: AbstractRecommender, scores: object) -> None:
    """Raise ValueError for scores that are no tensor of floats."""
    if not isinstance(scores, torch.Tensor) or not scores.is_floating_point():
        what = scores.dtype if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ValueError(
            f"{type(model).__name__}.predict gives {what}; it must give a tensor of floats, one "
            "probability a row."
        )


def check_probabilities(model: AbstractRecommender, scores: torch.Tensor, rows: int) -> None:
    """Raise ValueError for scores that are not one float from 0 to 1 per row.

    LogLoss would silently clip them.
    """
    check_tensor(model, scores)
    name = type(model).__name__
    if scores.shape != (rows,):
        is_column = scores.shape == (rows, 1)
        remedy = "end forward with .squeeze(1)" if is_column else f"a tensor of shape [{rows}]"
        raise ValueError(
            f"{name}.predict gives scores of shape {list(scores.shape)} for {rows} rows; it must "
            f"give one a row: {remedy} ({places_of(type(model), ('forward', 'predict'))})."
        )
    outside = (scores < 0) | (scores > 1)
    if outside.any():
        raise ValueError(
            f"{name}.predict gives {scores[outside][0]:.4g}, which is no probability; end it with "
            "torch.sigmoid."
        )


def users_of(loader: AbstractDataLoader) -> np.ndarray | None:
    """User id of each row ``[R]`` of a loader that does not shuffle; None without users."""
    return users_of_part(loader.dataset)


def users_of_part(part: CTRDataset) -> np.ndarray | None:
    """User id of each row ``[R]`` of a part; None if rows have no user."""
    return None if part.uid_field is None else part.inter_feat[part.uid_field].numpy()


def metrics_of(
    config: Config, scores: torch.Tensor, labels: torch.Tensor, users: np.ndarray | None = None
) -> dict[str, float]:
    """The configured metrics of scores ``[R]`` against labels ``[R]``, by name in lower case.

    Args:
        config: the Config, whose ``metrics`` are computed.
        scores: click probabilities ``[R]``.
        labels: labels ``[R]``.
        users: users ``[R]``, for GAUC and for a person's own metrics with a parameter ``users``;
            None if rows have no user.

    Raises:
        ValueError: a person's own metric fails or returns no number; names its file and line.
    """
    return {
        metric.key: _measured(metric, config, scores, labels, users)
        for metric in metrics_named(config["metrics"])
    }


def _measured(
    metric: Metric,
    config: Config,
    scores: torch.Tensor,
    labels: torch.Tensor,
    users: np.ndarray | None,
) -> float:
    if metric.name in RECBOLE_METRICS:
        return _of_recbole(metrics_dict[metric.key], config, scores, labels)
    if metric.own is None:
        assert users is not None  # GAUC is refused where rows have none
        value = OF_PACKAGE[metric.name](users, labels.numpy(), scores.numpy())
    else:
        with errors_in_words("metrics", metric.name):
            given = _own(metric.own, config, scores, labels, users)
        try:
            value = float(given)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"metrics: {metric.name} returned {shortened(given)}; a metric returns one number."
            ) from error
        if np.isinf(value):  # JSON has no form for it, and no epoch would be better
            _logger.warning(
                f"metrics: {metric.name} gave {value}, which counts as undefined. Let it return a "
                "finite number, or nan where it has none."
            )
            value = float("nan")
    return round(value, config["metric_decimal_place"])


def _own(
    own: Callable,
    config: Config,
    scores: torch.Tensor,
    labels: torch.Tensor,
    users: np.ndarray | None,
) -> Any:
    if isinstance(own, type) and issubclass(own, AbstractMetric):
        return _of_recbole(own, config, scores, labels)
    function = own() if isinstance(own, type) else own
    if users is None and needs_users(function):
        name = getattr(function, "__name__", type(function).__name__)
        raise ValueError(
            f"metrics: {name} needs users, and the rows have none (USER_ID_FIELD). Leave it out, "
            "or give it users=None."
        )
    more = {} if users is None or not takes_users(function) else {"users": users.copy()}
    # Copies: what a function does to its arguments must not reach the dataset's labels.
    return function(labels.numpy().copy(), scores.double().numpy().copy(), **more)


def _of_recbole(
    metric_class: type, config: Config, scores: torch.Tensor, labels: torch.Tensor
) -> float:
    if len(labels) == 1:
        # RecBole squeezes the last axis, which must not be that of rows (base_metric.py:119). Its
        # own metrics are means: two equal rows give the same, and with numpy 1 its LogLoss makes
        # a scalar of one (metrics.py:452).
        rows = 2 if metric_class.__module__.startswith("recbole.") else 1
        scores, labels = scores.expand(rows)[:, None], labels.expand(rows)[:, None]
    collected = DataStruct()
    collected.set("rec.score", scores.clone())
    collected.set("data.label", labels.clone())
    with compat.without_words_of_one_class():
        values = metric_class(config).calculate_metric(collected)
    if len(values) != 1:
        raise ValueError(
            f"metrics: {metric_class.__name__} gives {len(values)} values, {', '.join(values)}; "
            "one is needed."
        )
    return float(next(iter(values.values())))
