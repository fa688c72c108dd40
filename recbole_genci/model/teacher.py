"""The base model of the self-supervised regularisation (Eq. 11): a CTR model on the raw fields.

The paper asks for "a lightweight baseline CTR model (e.g., DeepFM)". Each of these reads no history
and gives click logits ``[B]``.
"""

from __future__ import annotations

from typing import Any

from recbole.data.dataset import Dataset
from torch import nn

from recbole_genci.model.base import contract_of
from recbole_genci.model.registry import entry_of
from recbole_genci.utils.config_like import ConfigLike, Overridden

#: The teachers, each with the keys of its form, which the pupil's configuration need not have. The
#: values are the model's own defaults.
TEACHERS: dict[str, dict[str, Any]] = {
    "DeepFM": {},
    "DCNV2": {
        "mixed": False,
        "structure": "stacked",
        "cross_layer_num": 3,
        "expert_num": 4,
        "low_rank": 128,
        "reg_weight": 0.0,
    },
    "PNN": {"use_inner": True, "use_outer": False, "reg_weight": 0.0},
}


def build_teacher(config: ConfigLike, training_rows: Dataset, **keys: Any) -> nn.Module:
    """The model that ``sr_teacher`` names, with the keys that the caller gives.

    Args:
        config: the pupil's configuration.
        training_rows: the pupil's training rows.
        keys: what the teacher has otherwise than the pupil, such as its dropout.
    """
    name = config["sr_teacher"]
    model_class = contract_of(entry_of(name).model_class)
    return model_class(Overridden(config, **TEACHERS[name], **keys), training_rows)
