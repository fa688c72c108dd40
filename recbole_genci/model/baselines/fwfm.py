"""RecBole's FwFM (Pan et al., 2018) with field weights that are trained and saved."""

from __future__ import annotations

from recbole.data.dataset import Dataset
from recbole.model.context_aware_recommender.fwfm import FwFM as RecBoleFwFM
from torch import nn

from recbole_genci.model.base import ModelContract
from recbole_genci.model.layers.field_groups import field_of_feature
from recbole_genci.utils.config_like import ConfigLike


class FwFM(ModelContract, RecBoleFwFM):
    """FwFM whose weights r of field pairs are a parameter.

    RecBole keeps them in a plain tensor (fwfm.py:61): no optimiser trains it and no checkpoint
    holds it, so that a loaded model has other weights than the trained one.

    Raises:
        ValueError: ``fields`` does not number its fields 0, 1, ... or does not name every feature
            once.
    """

    weight: nn.Parameter

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        weight = self.weight.detach()
        del self.weight
        self.weight = nn.Parameter(weight)  # [fields, fields, 1]

    def _get_feature2field(self) -> None:
        # The order of the embeddings (abstract_recommender.py:543), float sequences included. With
        # RecBole's own order (fwfm.py:86) a feature gets the weights of another one if `fields`
        # groups features.
        names = [
            *self.token_seq_field_names,
            *self.token_field_names,
            *self.float_seq_field_names,
            *self.float_field_names,
        ]
        self.feature2id = {name: number for number, name in enumerate(names)}
        fields = field_of_feature(self.fields, names)
        self.feature2field = {self.feature2id[name]: field for name, field in fields.items()}
