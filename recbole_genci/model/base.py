"""What the plugin's baselines share: logits in, binary cross-entropy and probabilities out, and settings checked by key."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import ContextRecommender
from recbole.utils import InputType


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
