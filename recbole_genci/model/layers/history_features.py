"""RecBole's embedding of user, history and target features, for any number of numeric features."""

from __future__ import annotations

import torch
from recbole.model.layers import ContextSeqEmbLayer

from recbole_genci.model.layers.mended import Mended


class HistoryFeatureEmbedding(Mended, ContextSeqEmbLayer):
    """RecBole's layer that accepts several numeric features of users or of items.

    RecBole concatenates their (value, bucket) pairs (layers.py:1139), but its embedding expects one
    pair per row, so that DIN and DIEN fail with two such features.
    """

    num_feature_field: dict[str, int]

    def embed_float_fields(
        self, float_fields: torch.Tensor | None, type: str, embed: bool = True
    ) -> torch.Tensor | None:
        """Embeddings ``[B, (H,) F, d]`` of pairs that come as ``[B, (H,) 1, 2 * F]``."""
        if float_fields is not None:
            float_fields = float_fields.reshape(*float_fields.shape[:-2], -1, 2)
        return super().embed_float_fields(float_fields, type, embed)
