"""RecBole's FFM, whose key ``fields`` is checked."""

from __future__ import annotations

from recbole.model.context_aware_recommender.ffm import FFM as RecBoleFFM

from recbole_genci.model.base import ModelContract
from recbole_genci.model.layers.field_groups import field_of_feature


class FFM(ModelContract, RecBoleFFM):
    """FFM that refuses ``fields`` which do not fit its features.

    RecBole skips names that it does not know (ffm.py:107), and fails in the first batch if a
    feature has no field.

    Raises:
        ValueError: ``fields`` does not number its fields 0, 1, ... or does not name every feature
            once.
    """

    def _get_feature2field(self) -> None:
        names = [name for group in self.feature_names for name in group]
        fields = field_of_feature(self.fields, names)
        self.feature2id = {name: number for number, name in enumerate(names)}
        self.feature2field = {self.feature2id[name]: field for name, field in fields.items()}
