"""State of a person's own model that changes in training and is not among its saved weights.

A loaded run would have other scores than the trained model, and a resumed one would end elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed
from torch import nn

from recbole_genci.config import Config
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.training.own_scores import equal_scores, scores_of
from recbole_genci.training.weight_decay import SOME_ROWS
from recbole_genci.utils.weights import load_weights
from recbole_genci.utils.words import listed

_logger = logging.getLogger(__name__)

_SHOWN = 3
_REMEDY = (
    "Keep it in a buffer, self.register_buffer(name, torch.tensor(value)), and change that in place"
)


def unsaved_state(model: nn.Module) -> dict[str, float | torch.Tensor]:
    """The numbers in a model's attributes and its buffers with ``persistent=False``, by name."""
    found: dict[str, float | torch.Tensor] = {}
    for place, module in model.named_modules():
        prefix = f"{place}." if place else ""
        for name, value in vars(module).items():
            if isinstance(value, (int, float)) and name != "training":
                found[prefix + name] = value
        for name in module._non_persistent_buffers_set:
            if (buffer := module._buffers[name]) is not None:
                found[prefix + name] = buffer.detach().cpu().clone()
    return found


def warn_of_changes(model: nn.Module, before: Mapping[str, float | torch.Tensor]) -> None:
    """Warn of unsaved state that a batch has changed.

    Args:
        before: ``unsaved_state`` before that batch.
    """
    if names := _changed(before, unsaved_state(model)):
        _logger.warning(
            f"model: {type(model).__name__} changes {listed(names, _SHOWN)} in training, which its "
            "saved weights do not hold, so that a resumed or loaded run begins again with the "
            f"first value. {_REMEDY}, unless neither scores nor losses depend on it."
        )


def check_restored(
    config: Config, model: AbstractRecommender, training_part: CTRDataset, file: Path
) -> None:
    """Refuse a trained model whose scores are others once it is built anew with its weights.

    Args:
        config: the model's Config.
        model: the model after its test, with the weights that ``file`` holds.
        training_part: the model's view of the training rows.
        file: the saved weights.

    Raises:
        ValueError: scores of the first rows differ; names what the weights do not hold.
    """
    batch = training_part[:SOME_ROWS].to(config["device"])
    scores, again = scores_of(model, batch), scores_of(model, batch)
    init_seed(config["seed"], config["reproducibility"])  # as load does
    anew = config.model_class(config, training_part).to(config["device"])
    load_weights(anew, file)
    # Scores that differ anyway, as a random model's, say nothing.
    if equal_scores(scores, scores_of(anew, batch)) or not equal_scores(scores, again):
        return
    names = _changed(unsaved_state(anew), unsaved_state(model))
    raise not_restored(config["model"], "its scores differ", names)


def not_restored(model: str, what: str, names: Sequence[str] = ()) -> ValueError:
    """The error of a model that is another one after it was loaded.

    Args:
        model: its name.
        what: a sentence's part that says what is another one.
        names: the unsaved state that differs, if it is known.
    """
    state = listed(names, _SHOWN) if names else "an attribute, or a buffer with persistent=False"
    return ValueError(
        f"model: {model} built anew with its saved weights is not the model that was tested: "
        f"{what}. Training has changed something that the weights do not hold ({state}), so that a "
        f"loaded or resumed run has other figures. {_REMEDY}, and train the run anew."
    )


def _changed(
    before: Mapping[str, float | torch.Tensor], after: Mapping[str, float | torch.Tensor]
) -> list[str]:
    """The names of both whose values differ."""
    return [name for name in before if name in after and not _is_same(before[name], after[name])]


def _is_same(one: float | torch.Tensor, other: float | torch.Tensor) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)
