"""What the plugin's baselines share: logits in, binary cross-entropy and probabilities out, and settings checked by key."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import ContextRecommender
from recbole.utils import InputType

from recbole_genci.kinds import is_whole


class ClickModel(ContextRecommender):
    """A context-aware model whose ``forward`` gives click logits ``[B]``.

    Subclasses may define ``check_settings(config)``, which is called before any data is read and again here.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config, dataset):
        self.check_settings(config)
        super().__init__(config, dataset)

    @staticmethod
    def check_settings(config) -> None:
        """Refuse settings of the model's own that cannot work, by their keys; ``Config`` has checked what all models share.

        Raises:
            ValueError: names the key, its value and what it may be.
        """

    def calculate_loss(self, interaction):
        """Binary cross-entropy of the batch's labels, a scalar."""
        return F.binary_cross_entropy_with_logits(self.forward(interaction), interaction[self.LABEL])

    def predict(self, interaction):
        """Click probabilities ``[B]``."""
        return torch.sigmoid(self.forward(interaction))


def check_whole(config, *keys: str) -> None:
    """Refuse values that are not whole numbers of at least 1."""
    for key in keys:
        if not is_whole(config[key]):
            raise ValueError(f"{key}: {config[key]!r} is not a whole number of at least 1.")


def check_weight(config, *keys: str) -> None:
    """Refuse values that are not numbers of at least 0."""
    for key in keys:
        if isinstance(config[key], bool) or not isinstance(config[key], (int, float)) or not 0 <= config[key]:
            raise ValueError(f"{key}: {config[key]!r} is not a number of at least 0.")


def check_layers(config, *keys: str) -> None:
    """Refuse values that are not a list of one or more layer widths."""
    for key in keys:
        if not isinstance(config[key], (list, tuple)) or not config[key] or not all(is_whole(size) for size in config[key]):
            raise ValueError(f"{key}: {config[key]!r} is not a list of one or more layer widths, for example [256, 256].")


def check_dropout(config, *keys: str) -> None:
    """Refuse values that are not probabilities below 1."""
    for key in keys:
        if isinstance(config[key], bool) or not isinstance(config[key], (int, float)) or not 0 <= config[key] < 1:
            raise ValueError(f"{key}: {config[key]!r} is not a number from 0 to below 1.")


def check_switch(config, *keys: str) -> None:
    """Refuse values that are not True or False."""
    for key in keys:
        if not isinstance(config[key], bool):
            raise ValueError(f"{key}: {config[key]!r} is neither True nor False.")


def check_choice(config, key: str, choices: tuple) -> None:
    """Refuse a value that is not one of ``choices``."""
    if config[key] not in choices:
        raise ValueError(f"{key}: {config[key]!r} is not one of {', '.join(map(str, choices))}.")


def check_divides(config, key: str, width_key: str) -> None:
    """Refuse a number of heads, blocks or the like that does not divide a width."""
    if config[width_key] % config[key]:
        raise ValueError(f"{key}: {config[key]} does not divide {width_key}, which is {config[width_key]}.")
