"""The base model of the self-supervised regularisation (Eq. 11): a CTR model on the raw fields.

The paper asks for "a lightweight baseline CTR model (e.g., DeepFM)". Each of these reads no history
and gives click logits ``[B]``.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.context_aware_recommender.deepfm import DeepFM
from recbole.model.context_aware_recommender.pnn import PNN
from torch import nn

from recbole_genci.model.base import contract_of
from recbole_genci.model.baselines.dcnv2 import DCNV2
from recbole_genci.utils.config_like import ConfigLike, Overridden


class LogitDCNV2(DCNV2):
    """DCNV2 whose ``forward`` gives logits, as that of other models does.

    RecBole's gives probabilities (dcnv2.py:223 and 235).
    """

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.sigmoid, self.loss = nn.Identity(), nn.BCEWithLogitsLoss()

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Click probabilities ``[B]``."""
        return torch.sigmoid(self.forward(interaction))


#: The teachers, each with the keys of its form, which the pupil's configuration need not have. The
#: values are the model's own defaults.
TEACHERS: dict[str, tuple[type, dict[str, Any]]] = {
    "DeepFM": (DeepFM, {}),
    "DCNV2": (
        LogitDCNV2,
        {
            "mixed": False,
            "structure": "stacked",
            "cross_layer_num": 3,
            "expert_num": 4,
            "low_rank": 128,
            "reg_weight": 0.0,
        },
    ),
    "PNN": (PNN, {"use_inner": True, "use_outer": False, "reg_weight": 0.0}),
}


def build_teacher(config: ConfigLike, training_rows: Dataset, **keys: Any) -> nn.Module:
    """The model that ``sr_teacher`` names, with the keys that the caller gives.

    Args:
        config: the pupil's configuration.
        training_rows: the pupil's training rows.
        keys: what the teacher has otherwise than the pupil, such as its dropout.
    """
    model_class, form = TEACHERS[config["sr_teacher"]]
    return contract_of(model_class)(Overridden(config, **form, **keys), training_rows)
