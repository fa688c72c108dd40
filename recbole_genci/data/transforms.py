"""Numbers as models read them: logarithms, scales and buckets, fitted on training rows.

A transform is written once, with torch alone: training, serving and an exported program share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recbole_genci.config.fitted import BUCKETS, CRITEO, LOG, MINMAX, STANDARD
from recbole_genci.config.fitted import Step as WrittenStep
from recbole_genci.utils.static import is_static


class Step(NamedTuple):
    """A step with what was fitted.

    Attributes:
        name: of ``config.fitted``.
        numbers: mean and deviation, or least value and range; the upper ends of all buckets but
            the last; or Criteo's categories in the order of their ids.
    """

    name: str
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Transform:
    """How the numbers of a column become what models read.

    Numbers count as float32 has them, whatever file they come from.

    Attributes:
        steps: what is done, in this order.
        low, high: the least and the largest number in training rows.
        missing: what a missing number becomes: the mean of the training rows, after all steps.
        unknown: the id of a category that training does not have: 0, as if missing, or 1, the rare
            one.
    """

    steps: tuple[Step, ...]
    low: float
    high: float
    missing: float = 0.0
    unknown: int = 0

    @property
    def makes_tokens(self) -> bool:
        """Whether the column becomes one of ids, 0 where a number is missing."""
        return self.steps[-1].name in (BUCKETS, CRITEO)

    def tokens(self) -> list[str]:
        """The names of ids from ``unknown + 1`` on."""
        name, numbers = self.steps[-1]
        if name == CRITEO:
            return [str(int(number)) for number in numbers]
        last = f"> {numbers[-1]!r}" if numbers else "any"
        return [*(f"<= {number!r}" for number in numbers), last]

    def __call__(self, values: Tensor) -> Tensor:
        """Ids int64 or numbers float32, of the shape of ``values``, in which NaN is missing."""
        missing, numbers = values.isnan(), values.float().double()
        for step in self.steps:
            numbers = self._done(step, numbers)
        if self.makes_tokens:
            return torch.where(missing, 0, numbers)
        return torch.where(missing, self.missing, numbers).float()

    def _done(self, step: Step, numbers: Tensor) -> Tensor:
        if step.name == LOG:
            return numbers.sign() * numbers.abs().log1p()
        if step.name in (STANDARD, MINMAX):
            shift, span = step.numbers
            return (numbers - shift) / span
        known = torch.tensor(step.numbers, dtype=torch.float64, device=numbers.device)
        if step.name == BUCKETS:
            # A logarithm's last bits must not decide on which side of an end a number lies.
            numbers, known = _as_float32(numbers), _as_float32(known)
            # A traced program compares with all ends, as ONNX has no search.
            above = (
                (numbers.unsqueeze(-1) > known).sum(-1)
                if is_static()
                else torch.bucketize(numbers, known)
            )
            return above + 1
        return _place(_criteo(numbers), known, self.unknown)

    def as_json(self) -> list[Any]:
        """The transform as JSON values."""
        return [
            [list(step) for step in self.steps],
            self.low,
            self.high,
            self.missing,
            self.unknown,
        ]

    @classmethod
    def of_json(cls, values: Sequence[Any]) -> Transform:
        """The transform that `as_json` gave."""
        steps, *others = values
        return cls(tuple(Step(name, tuple(numbers)) for name, numbers in steps), *others)


def fitted(values: Tensor, steps: Sequence[WrittenStep], least: int | None = None) -> Transform:
    """Fit a transform.

    Args:
        values: ``[N]`` the numbers of training rows, none of them missing; at least one.
        steps: as ``config.fitted.transforms_of`` gives them.
        least: how often one of Criteo's categories must be there to count for itself; None: others
            count as missing.
    """
    numbers, done = values.float().double(), list[Step]()
    low, high, unknown = float(numbers.min()), float(numbers.max()), int(least is not None)
    for name, count in steps:
        step = _fitted(name, count, numbers, least or 1)
        done.append(step)
        transform = Transform(tuple(done), low, high, 0.0, unknown)
        numbers = transform._done(step, numbers)
    mean = 0.0 if transform.makes_tokens else _rounded(numbers.numpy().mean())
    return Transform(tuple(done), low, high, mean, unknown)


def _as_float32(numbers: Tensor) -> Tensor:
    """Numbers as float32 has them, still float64."""
    return numbers.float().double()


def _rounded(number: float | Tensor) -> float:
    """A number as float32 has it: sums and logarithms differ in last bits between processors."""
    return float(torch.as_tensor(number, dtype=torch.float32))


def _fitted(name: str, count: int, numbers: Tensor, least: int) -> Step:
    if name == STANDARD:
        mean, deviation = _rounded(numbers.numpy().mean()), _rounded(numbers.numpy().std())
        if numbers.min() == numbers.max():
            deviation = 0.0  # the sum of many equal numbers is not exact, and so neither is theirs
        return Step(name, (mean, deviation or 1.0))
    if name == MINMAX:
        low, high = _rounded(numbers.min()), _rounded(numbers.max())
        return Step(name, (low, high - low or 1.0))
    if name == BUCKETS:
        return Step(name, _ends(_as_float32(numbers), count))
    if name == CRITEO:
        found, counts = _criteo(numbers).unique(return_counts=True)
        found, counts = found[counts >= least], counts[counts >= least]
        return Step(name, tuple(found[counts.argsort(descending=True, stable=True)].tolist()))
    return Step(name)


def _ends(numbers: Tensor, count: int) -> tuple[float, ...]:
    """The upper ends of all buckets but the last, which is open.

    Ends are numbers of the column, so that each bucket has one. Where many numbers are equal, there
    are fewer buckets.
    """
    ordered = numbers.sort().values
    share = torch.arange(1, count) * len(ordered)
    ends = ordered[(share + count - 1) // count - 1].unique()
    return tuple(ends[ends < ordered[-1]].tolist())


def _criteo(numbers: Tensor) -> Tensor:
    """The whole part of a number up to 2, and of its squared logarithm above.

    So did the winners of the Criteo challenge, and so do FuxiCTR and BARS.
    """
    return torch.where(numbers > 2, numbers.log().square().floor(), numbers.trunc())


def _place(values: Tensor, known: Tensor, unknown: int) -> Tensor:
    """The ids of values: ``unknown + 1`` for the first of ``known``, and so on."""
    if is_static():
        same = values.unsqueeze(-1) == known
        ids = torch.arange(len(known), device=known.device) + 1
        return (same * ids).sum(-1) + unknown
    ordered, ids = known.sort()
    if not len(known):
        return torch.full_like(values, unknown, dtype=torch.int64)
    place = torch.searchsorted(ordered, values).clamp_(max=len(known) - 1)
    return torch.where(ordered[place] == values, ids[place] + unknown + 1, unknown)
