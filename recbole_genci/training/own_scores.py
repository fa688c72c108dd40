"""What the scores of a person's own model must not do, tried on a few rows before training."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_genci.data.batches import Batch
from recbole_genci.model.base import ClickModel
from recbole_genci.utils.own_code import places_of

_logger = logging.getLogger(__name__)

_ROUNDING = 1e-6  # of a sigmoid in float32
_CHANGE = 1e-5  # of a score, more than rounding on a GPU
_OF_SPREAD = 1e-4  # the same, relative to the spread of scores
_DRAWS = 3
_METHODS = ("forward", "predict")
_RETURNED = {
    "forward": "the click logits of the rows, a tensor [B]",
    "predict": "the click probabilities of the rows, a tensor [B]",
    "calculate_loss": "the loss of the batch, a scalar tensor",
}


@torch.no_grad()
def check_methods(model: AbstractRecommender, batch: Batch) -> None:
    """Refuse a model that lacks a method, or whose ``forward`` gives ``ClickModel`` no tensor.

    Raises:
        ValueError: says what the class must define; names the file and line of ``forward``.
    """
    kind = type(model)
    by_forward = kind.predict is ClickModel.predict
    for name in ("forward" if by_forward else "predict", "calculate_loss"):
        base = torch.nn.Module if name == "forward" else AbstractRecommender
        if getattr(kind, name) is getattr(base, name):
            raise ValueError(
                f"model: {kind.__name__} in {places_of(kind, ())} has no {name}. Define "
                f"{name}(self, interaction), which returns {_RETURNED[name]}."
            )
    logits = model.eval().forward(batch) if by_forward else None
    if by_forward and not isinstance(logits, torch.Tensor):
        raise ValueError(
            f"model: {kind.__name__}: forward gives a {type(logits).__name__}, not a tensor "
            f"({places_of(kind, ('forward',))}). Let it return {_RETURNED['forward']} alone."
        )


def check_scores(
    model: AbstractRecommender, batch: Batch, some: Batch, label: str, sources: Sequence[str]
) -> None:
    """Refuse scores that read the label; warn of those that read other rows, or look like logits'
    probabilities taken twice.

    The model is only tried: it keeps weights that are drawn here.

    Args:
        model: the model, with fresh weights.
        batch: some rows.
        some: every second one of them.
        label: the label's column.
        sources: the columns that the label is made of; RecBole drops them, unless a model's
            batches have them all the same.

    Raises:
        ValueError: scores change with one of these columns; names the class and where it is.
    """
    columns = [each for each in (label, *sources) if each in batch.interaction]
    for column in columns:
        if changes_with(model, batch, column):
            raise _read_label(model, column)
    if reads_other_rows(model, batch, some):
        _logger.warning(
            f"model: {type(model).__name__} gives a row another score if other rows are in its "
            f"batch ({places_of(type(model), _METHODS)}), so that scores and metrics change with "
            "eval_batch_size. If you do not mean this, compute each row's score from that row "
            "alone."
        )
    _warn_of_two_sigmoids(model, batch)
    # A weight that begins as 0 may have hidden a column.
    for column in columns if _draw_weights(model, 0) else ():
        try:
            changes = changes_with(model, batch, column)
        except Exception:  # weights like these are not the model's
            continue
        if changes:
            raise _read_label(model, column)


def _read_label(model: AbstractRecommender, column: str) -> ValueError:
    name = type(model).__name__
    return ValueError(
        f"model: {name}: its scores change with the column '{column}'; see "
        f"{places_of(type(model), _METHODS)}. The label is no feature (docs/protocol.md): let only "
        f"calculate_loss read '{column}'."
    )


@torch.no_grad()
def changes_with(model: AbstractRecommender, batch: Batch, column: str) -> bool:
    """Whether scores are others if a column of 0 and 1 is turned around."""
    turned = {**batch.interaction, column: 1 - batch[column]}
    same, again, other = (
        scores_of(model, Batch(columns))
        for columns in (batch.interaction, batch.interaction, turned)
    )
    # Scores that differ anyway, as a random model's, say nothing.
    return equal_scores(same, again) and not equal_scores(same, other)


@torch.no_grad()
def reads_other_rows(model: AbstractRecommender, batch: Batch, some: Batch) -> bool:
    """Whether the scores of every second row, ``some``, are others without the rows between."""
    scores, again, alone = (scores_of(model, each) for each in (batch, batch, some))
    change = max(_CHANGE, _OF_SPREAD * float(scores.max() - scores.min()))
    return equal_scores(scores, again) and not equal_scores(scores[::2], alone, change)


@torch.no_grad()
def scores_of(model: AbstractRecommender, batch: Batch, method: str = "predict") -> torch.Tensor:
    """Scores ``[B]`` of a batch in evaluation mode, with the same random numbers each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(model.eval(), method)(batch)


def equal_scores(one: torch.Tensor, other: torch.Tensor, change: float = _CHANGE) -> bool:
    """Whether two tensors of scores ``[B]`` are the same but for rounding."""
    return torch.allclose(one, other, rtol=0, atol=change, equal_nan=True)


@torch.no_grad()
def _warn_of_two_sigmoids(model: AbstractRecommender, batch: Batch) -> None:
    """Warn if ``forward`` seems to return probabilities, of which ``predict`` or the loss takes the
    sigmoid.

    The scores are then those of logits from 0 to 1, whatever the weights are. Fresh weights often
    give such scores too, so others are drawn. A model with a ``predict`` of its own may give right
    scores, but learns by wrong ones: of those that have the loss of ``ClickModel`` logits are read.
    """
    name, kind = type(model).__name__, type(model)
    only_loss = (
        kind.calculate_loss is ClickModel.calculate_loss and kind.predict is not ClickModel.predict
    )
    method = "forward" if only_loss else "predict"
    limits = [0.0, 1.0] if only_loss else torch.tensor([0.0, 1.0]).sigmoid().tolist()

    def lies_between(values: torch.Tensor) -> bool:
        return bool(((values >= limits[0] - _ROUNDING) & (values <= limits[1] + _ROUNDING)).all())

    if not lies_between(scores_of(model, batch, method)):
        return
    for seed in range(_DRAWS):
        if not _draw_weights(model, seed):
            return
        try:
            drawn_scores = scores_of(model, batch, method)
        except Exception:  # weights like these are not the model's
            return
        if not lies_between(drawn_scores):
            return
    low, high = limits
    gives = f"gives click probabilities from {low:g} to {high:.2f} alone"
    who = "predict and the loss apply"
    if only_loss:
        gives, who = "trains by logits from 0 to 1 alone", "the loss applies"
    _logger.warning(
        f"model: {name} {gives}, whatever its weights are, as if forward returned probabilities; "
        f"let it return logits, without a sigmoid at its end, since {who} one."
    )


def _draw_weights(model: AbstractRecommender, seed: int) -> bool:
    """Give the model normally distributed weights; return whether it has any."""
    weights = [each for each in model.parameters() if each.is_floating_point()]
    with torch.no_grad():
        for number, weight in enumerate(weights):
            drawn = torch.Generator().manual_seed(seed * len(weights) + number)
            weight.copy_(torch.randn(weight.shape, generator=drawn))
    return bool(weights)
