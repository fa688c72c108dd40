"""Which metrics labelled rows have: RecBole's, GAUC, and a person's own, and in which direction
each is better."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.register import metrics_dict, smaller_metrics

from recbole_genci.utils.own_code import is_reference, load_object, name_of, reference_of
from recbole_genci.utils.validation import nearest

RECBOLE_METRICS = ("AUC", "LogLoss", "MAE", "RMSE")
#: RecBole's metric of this name needs ranks among all items; here it is that of
#: ``recbole_genci.evaluation.gauc``.
GAUC = "GAUC"
KNOWN = (*RECBOLE_METRICS, GAUC)
#: Of ``KNOWN``, in lower case.
SMALLER_IS_BETTER = frozenset(name.lower() for name in KNOWN if name.lower() in smaller_metrics)
#: What RecBole's collector gives a metric of labelled rows.
_GIVEN = {"rec.score", "data.label"}


@dataclass(frozen=True)
class Metric:
    """A metric that is measured.

    Attributes:
        name: as tables show it; in ``metrics.json`` in lower case.
        smaller_is_better: for the choice of the best epoch.
        own: a person's function or class; None of RecBole's and GAUC.
    """

    name: str
    smaller_is_better: bool
    own: Callable | None = None

    @property
    def key(self) -> str:
        """Under which results have it."""
        return self.name.lower()


def metrics_asked(asked: Sequence) -> list[Metric]:
    """The metrics that ``metrics`` of a configuration names, in its order.

    Raises:
        ValueError: an unknown metric, or a reference to what is none; names the key and what to do.
    """
    found = [_metric(each) for each in asked]
    keys = [metric.key for metric in found]
    for metric in found:
        if keys.count(metric.key) > 1:
            raise ValueError(
                f"metrics: '{metric.name}' is named twice; tables could not tell the two apart."
            )
    return found


def _metric(asked: str) -> Metric:
    if not is_reference(asked):
        known = {name.lower(): name for name in KNOWN}
        name = known.get(str(asked).lower())
        if name is None:
            raise ValueError(
                f"metrics: '{asked}' is not a metric of labelled rows.{nearest(asked, KNOWN)} "
                "Choose among "
                f"{', '.join(KNOWN)}, or give one of your own as module:function."
            )
        return Metric(name, name.lower() in SMALLER_IS_BETTER)
    own, name = load_object(asked, "metrics"), name_of(asked)
    if name.lower() in metrics_dict:
        raise ValueError(
            f"metrics: '{asked}' has the name of a metric of RecBole or of this plugin. Rename it, "
            "for example "
            f"my_{name.lower()}."
        )
    if isinstance(own, type) and issubclass(own, AbstractMetric):
        metric_class: type[AbstractMetric] = own
        needed = set(getattr(own, "metric_need", _GIVEN))
        if lacking := sorted(needed - _GIVEN):
            raise ValueError(
                f"metrics: '{asked}' needs {lacking[0]}, which rows with labels do not have; they "
                "have "
                f"{' and '.join(sorted(_GIVEN))}."
            )
        return Metric(name, bool(metric_class.smaller), own)
    if not callable(own):
        raise ValueError(
            f"metrics: '{asked}' is a {type(own).__name__}. A metric of your own is a function "
            "(labels, probabilities, "
            "users=None) that returns a number, or a subclass of RecBole's AbstractMetric."
        )
    return Metric(name, bool(getattr(own, "smaller_is_better", False)), own)


def written(asked: Sequence | str | None) -> list:
    """The names of ``metrics`` as a file can hold them: functions and classes by their reference,
    file paths absolute."""
    listed = [asked] if isinstance(asked, str) or callable(asked) else list(asked or ())
    return [reference_of(each) if is_reference(each) or callable(each) else each for each in listed]


def takes_users(function: Callable) -> bool:
    """Whether a person's function has a parameter ``users``."""
    return "users" in inspect.signature(function).parameters
