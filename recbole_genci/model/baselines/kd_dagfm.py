"""RecBole's KD_DAGFM (Tian et al., 2023), which here runs no code from a configuration or file."""

from __future__ import annotations

from pathlib import Path

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import ContextRecommender
from recbole.model.context_aware_recommender.kd_dagfm import CIN, DAGFM, CrossNet
from recbole.model.context_aware_recommender.kd_dagfm import KD_DAGFM as RecBoleKD_DAGFM
from recbole.model.init import xavier_normal_initialization
from torch import nn

from recbole_genci.model.base import ModelContract
from recbole_genci.utils.config_like import ConfigLike
from recbole_genci.utils.layout import WEIGHTS_FILE
from recbole_genci.utils.weights import load_weights

_TEACHERS = {"CrossNet": CrossNet, "CIN": CIN}


class KD_DAGFM(ModelContract, RecBoleKD_DAGFM):  # noqa: N801  (RecBole's name)
    """KD_DAGFM whose teacher is named, and whose ``warm_up`` is a run's folder or weights.

    RecBole evaluates the key ``teacher`` as Python (kd_dagfm.py:44), and unpickles the file
    ``warm_up`` (kd_dagfm.py:56), which its trainer cannot even write with torch >= 2.6. Here
    ``teacher`` is the name of one of RecBole's two teachers, and ``warm_up`` the folder of a
    KD_DAGFM run of this plugin, or its ``model.safetensors``.

    Three runs make one model: ``phase`` is ``teacher_training``, then ``distillation`` with the
    first run as ``warm_up``, then ``finetuning`` with the second.
    """

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        # This skips the __init__ between, which evaluates and unpickles.
        ContextRecommender.__init__(self, config, dataset)
        self.phase, self.alpha, self.beta = config["phase"], config["alpha"], config["beta"]
        self.warm_up = config["warm_up"]
        config["feature_num"] = self.num_feature_field
        self.student_network = DAGFM(config)
        self.teacher_network = _TEACHERS[config["teacher"]](self.get_teacher_config(config))
        self.loss_fn = nn.BCELoss()
        self.apply(xavier_normal_initialization)

    @classmethod
    def check_settings(cls, config: ConfigLike) -> None:
        """Refuse settings that fit no phase, before rows are read.

        Raises:
            ValueError: a phase without ``warm_up``, or a ``warm_up`` that is no file of weights.
            FileNotFoundError: ``warm_up`` is neither a run's folder nor a file.
        """
        if config["phase"] == "teacher_training":
            return
        if not config["warm_up"]:
            before = "teacher_training" if config["phase"] == "distillation" else "distillation"
            raise ValueError(
                f"warm_up: phase {config['phase']} starts from a run of phase {before}; give "
                "that run's folder."
            )
        file = _weights_file(config["warm_up"])
        if not file.is_file():
            raise FileNotFoundError(
                f"warm_up: {file} does not exist; give the folder of a finished KD_DAGFM run."
            )
        if file.suffix != Path(WEIGHTS_FILE).suffix:
            raise ValueError(
                f"warm_up: {file} is not a {WEIGHTS_FILE}. RecBole's own checkpoints are pickles, "
                "which can run code; give the folder of a run of this plugin."
            )
        # Processes that train together have other current folders.
        config["warm_up"] = str(file.resolve())

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Click probabilities ``[B]``; RecBole's are ``[B, 1]`` (kd_dagfm.py:113)."""
        return super().predict(interaction).flatten()

    def load_initial_weights(self) -> None:
        """Start from the weights of the phase before; a run that is resumed or loaded has its own.

        Raises:
            ValueError: a damaged file, or one of another model or dataset.
        """
        if self.phase != "teacher_training":
            load_weights(self, _weights_file(self.warm_up))


def _weights_file(warm_up: str) -> Path:
    path = Path(str(warm_up))
    return path / WEIGHTS_FILE if path.is_dir() else path
