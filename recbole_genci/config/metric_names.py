"""The metrics of labelled rows: RecBole's, GAUC and a person's own, each with its direction."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.register import metrics_dict, smaller_metrics

from recbole_genci.utils.own_code import (
    is_known,
    is_reference,
    load_object,
    name_of,
    reference_of,
)
from recbole_genci.utils.value_checks import nearest, shortened

RECBOLE_METRICS = ("AUC", "LogLoss", "MAE", "RMSE")
#: ``recbole_genci.evaluation.gauc``. RecBole's metric of this name needs ranks among all items.
GAUC = "GAUC"
KNOWN = (*RECBOLE_METRICS, GAUC)
#: Of ``KNOWN``, in lower case.
SMALLER_IS_BETTER = frozenset(name.lower() for name in KNOWN if name.lower() in smaller_metrics)
#: What RecBole's collector offers to a metric of labelled rows.
_AVAILABLE = {"rec.score", "data.label"}


@dataclass(frozen=True)
class Metric:
    """A metric of labelled rows.

    Attributes:
        name: its name in tables; ``metrics.json`` has it in lower case.
        smaller_is_better: whether the best epoch has the smallest value.
        own: a person's function or class; None for RecBole's metrics and the package's.
    """

    name: str
    smaller_is_better: bool
    own: Callable | None = None

    @property
    def key(self) -> str:
        """The metric's name in results."""
        return self.name.lower()


def metrics_named(names: Sequence) -> list[Metric]:
    """The metrics that the key ``metrics`` names, in its order.

    Raises:
        ValueError: a metric is unknown, or a reference names something else; says what to do.
    """
    metrics = [_metric(name) for name in names]
    keys = [metric.key for metric in metrics]
    for metric in metrics:
        if keys.count(metric.key) > 1:
            raise ValueError(
                f"metrics: '{metric.name}' is named twice; tables could not tell the two apart. "
                "Name it once."
            )
    return metrics


def _metric(reference: str) -> Metric:
    if not is_reference(reference):
        known = {name.lower(): name for name in KNOWN}
        name = known.get(str(reference).lower())
        if name is None:
            raise ValueError(
                f"metrics: '{reference}' is not a metric of labelled rows."
                f"{nearest(reference, KNOWN)} Choose among {', '.join(KNOWN)}, or give one of "
                "your own as module:function."
            )
        return Metric(name, name.lower() in SMALLER_IS_BETTER)
    own, name = load_object(reference, "metrics"), name_of(reference)
    if name.lower() in metrics_dict:
        raise ValueError(
            f"metrics: '{reference}' has the name of a metric of RecBole or of this plugin. "
            f"Rename it, for example my_{name.lower()}."
        )
    if isinstance(own, type) and issubclass(own, AbstractMetric):
        metric_class: type[AbstractMetric] = own
        needed = set(getattr(own, "metric_need", _AVAILABLE))
        if lacking := sorted(needed - _AVAILABLE):
            raise ValueError(
                f"metrics: '{reference}' needs {lacking[0]}, which rows with labels do not have; "
                f"they have {' and '.join(sorted(_AVAILABLE))}."
            )
        return Metric(name, bool(metric_class.smaller), own)
    if not callable(own):
        raise ValueError(
            f"metrics: '{reference}' is a {type(own).__name__}. A metric of your own is a function "
            "(labels, probabilities, users=None) that returns a number, or a subclass of RecBole's "
            "AbstractMetric."
        )
    return Metric(name, bool(getattr(own, "smaller_is_better", False)), own)


def is_better_when_smaller(name: str, metrics: Sequence) -> bool | None:
    """The direction of a metric of some name, in any case; None if it is not known.

    Args:
        name: the metric's name in results.
        metrics: the key ``metrics`` of the run that has measured it. What a person's own says of
            itself counts if this process has imported it; nothing is imported here.
    """
    for each in (*KNOWN, *metrics):
        is_here = not is_reference(each) or is_known(each)
        if name_of(each).lower() == name.lower() and is_here:
            return _metric(each).smaller_is_better
    return None


def written(metrics: Sequence | str | None) -> list:
    """The names of ``metrics`` as a file can hold them.

    Functions and classes become references, and file paths become absolute.

    Raises:
        ValueError: an object has no name of its own, as one made by ``functools.partial``.
    """
    listed = metrics if isinstance(metrics, (list, tuple)) else [] if metrics is None else [metrics]
    for each in listed:
        if callable(each) and not hasattr(each, "__qualname__"):
            raise ValueError(
                f"metrics: {shortened(each)} has no name by which it could be found again. Give it "
                "one in a file, and give module:name; or define a function by def."
            )
    return [reference_of(each) if is_reference(each) or callable(each) else each for each in listed]


def takes_users(function: Callable) -> bool:
    """Whether a person's function has a parameter ``users``."""
    return "users" in inspect.signature(function).parameters


def needs_users(function: Callable) -> bool:
    """Whether a person's function cannot be called without ``users``."""
    users = inspect.signature(function).parameters.get("users")
    return users is not None and users.default is users.empty
