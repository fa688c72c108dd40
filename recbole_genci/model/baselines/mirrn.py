"""MIRRN: interests retrieved from the history at several granularities (Xu et al., KDD 2025, arXiv
2411.15005).

Three queries, the target item, the mean of the recent and the mean of all clicks, each retrieve the
k most similar clicks by SimHash; a Fourier transformer refines each subsequence, and the target
attends to the three. Where sources differ:

- Padding never contributes: it is masked before the Fourier mix and in every mean. The public code
  mixes it in.
- The mix multiplies whole blocks of channels (``fourier_mixing: block``), as in the paper. The
  public code's ``einsum("blnd,ndd->blnd")`` reads only the diagonal of each block (``diagonal``).
- Similarity compares whole items, with all their fields concatenated; the public code retrieves
  separately for each field.
- Of clicks with equal similarity the most recent are retrieved; the public code leaves the choice
  to ``topk``.
- FuxiCTR's version also attends to the recent clicks themselves (``short_interest``); the authors'
  configuration does not.
- The item's fields enter the MLP only once, as they are among the fields already.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_normal_initialization
from recbole.model.layers import MLPLayers
from torch import nn

from recbole_genci.model.base import ClickModel
from recbole_genci.model.baselines.mirrn_layers import (
    FourierLayer,
    TargetAttention,
    masked_mean,
    retrieve,
    sim_hash,
)
from recbole_genci.utils.config_like import ConfigLike
from recbole_genci.utils.ragged import Ragged, RaggedBuffer
from recbole_genci.utils.static import is_static
from recbole_genci.utils.value_checks import (
    check_divides,
)

POSITION_SCALE = 0.02


class MIRRN(ClickModel):
    """Multi-granularity Interest Retrieval and Refinement Network.

    Sizes: B rows, L history items, D the item's fields times d.

    Args:
        config: see ``properties/model/MIRRN.yaml`` for every key.
        dataset: a training part with the history attached, as ``CTRDataset.view`` does.
    """

    reads_history = True

    item_places: torch.Tensor

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        del self.first_order_linear  # of RecBole's FM family
        self.history_field = config["ITEM_ID_FIELD"] + config["LIST_SUFFIX"]
        self.length_field = config["ITEM_LIST_LENGTH_FIELD"]
        self.k, self.local_length = config["retrieval_topk"], config["local_length"]
        self._register_items(dataset)

        size = len(self.item_columns) * self.embedding_size  # D
        attention = (
            config["target_attention_size"],
            config["target_attention_heads"],
            config["target_attention_dropout"],
        )
        self.register_buffer("hyperplanes", torch.randn(size, config["hash_bits"]))
        self.position_embedding = nn.Embedding(config["MAX_ITEM_LIST_LENGTH"] + 1, size)
        self.fourier_layers = nn.ModuleList(
            FourierLayer(
                size, config["fourier_blocks"], config["fourier_mixing"], config["fourier_dropout"]
            )
            for _ in range(3)
        )
        self.long_attention = TargetAttention(size, *attention)
        self.short_attention = (
            TargetAttention(size, *attention) if config["short_interest"] else None
        )
        interests = size * (2 if config["short_interest"] else 1)
        sizes = [
            self.num_feature_field * self.embedding_size + interests,
            *config["mlp_hidden_size"],
        ]
        self.mlp = MLPLayers(sizes, config["dropout_prob"])
        self.predict_layer = nn.Linear(sizes[-1], 1)
        self.apply(xavier_normal_initialization)
        nn.init.normal_(self.position_embedding.weight)

    def _register_items(self, dataset: Dataset) -> None:
        """Keep the items' features, and where they stand among the fields of
        ``concat_embed_input_fields``.
        """
        items, row = dataset.get_item_feature().interaction, dataset[:1]
        fields = [
            *self.token_seq_field_names,
            *self.token_field_names,
            *self.float_seq_field_names,
            *self.float_field_names,
        ]
        self.item_columns = [place for place, field in enumerate(fields) if field in items]
        # As a buffer: a list would be copied to the device in each pass.
        self.register_buffer("item_places", torch.tensor(self.item_columns), persistent=False)
        self.feature_names = {field: f"feature_{place}" for place, field in enumerate(fields)}
        for field, name in self.feature_names.items():
            # Fields of users and rows are embedded with the items, and dropped: zeros stand for
            # them.
            values = items[field] if field in items else torch.zeros_like(row[field])
            if isinstance(values, Ragged):
                setattr(self, name, RaggedBuffer(values))
            else:
                self.register_buffer(name, values, persistent=False)

    @classmethod
    def check_settings(cls, config: ConfigLike) -> None:
        check_divides(config, "target_attention_heads", "target_attention_size")
        check_divides(config, "fourier_blocks", "embedding_size")

    def embed_items(self, items: torch.Tensor) -> torch.Tensor:
        """Vectors ``[n, D]`` of item ids ``[n]``: the embeddings of all their fields, from the
        tables that rows read too.
        """
        features = {}
        for place, (field, name) in enumerate(self.feature_names.items()):
            values = getattr(self, name)
            features[field] = (
                values[items] if place in self.item_columns else values[torch.zeros_like(items)]
            )
        fields = self.concat_embed_input_fields(Interaction(features))
        return fields.index_select(1, self.item_places).flatten(1)

    def forward(self, interaction: Interaction) -> torch.Tensor:
        """Click logits ``[B]``."""
        fields = self.concat_embed_input_fields(interaction)  # [B, F, d]
        target = fields.index_select(1, self.item_places).flatten(1)  # [B, D]
        length = interaction[self.length_field]
        # At least k columns, so that k can be retrieved and the transform's length never depends on
        # the padding.
        history = F.pad(
            interaction[self.history_field],
            (0, max(0, self.k - interaction[self.history_field].shape[1])),
        )
        mask = torch.arange(history.shape[1], device=history.device) < length.unsqueeze(1)  # [B, L]
        items = history * mask
        if is_static():  # the number of different items would decide about shapes
            sequence = self.embed_items(items.flatten()).unflatten(0, items.shape)
            codes = sim_hash(sequence.detach(), self.hyperplanes)
        else:
            items, index = torch.unique(items, return_inverse=True)
            table = self.embed_items(items)  # each item of the batch once
            sequence = table[index]  # [B, L, D]
            codes = sim_hash(table.detach(), self.hyperplanes)[index]
        interests = self.interests(target, sequence, codes, mask, length)
        parts = [fields.flatten(1), self.long_attention(target, interests)]
        if self.short_attention is not None:
            parts.append(self.short_attention(target, sequence, mask))
        return self.predict_layer(self.mlp(torch.cat(parts, dim=1))).squeeze(1)

    def interests(
        self,
        target: torch.Tensor,
        sequence: torch.Tensor,
        codes: torch.Tensor,
        mask: torch.Tensor,
        length: torch.Tensor,
    ) -> torch.Tensor:
        """Interest vectors ``[B, 3, D]`` by the target's, the recent and all clicks' query; zero
        for an empty history.

        Args:
            target: ``[B, D]``.
            sequence, codes: ``[B, L, D]`` vectors and ``[B, L, bits]`` hashes of the history.
            mask: ``[B, L]``, False on padding, which follows the history.
            length: ``[B]`` of the history.
        """
        before = length.unsqueeze(1) - torch.arange(
            mask.shape[1], device=mask.device
        )  # 1 is the click right before the row
        queries = (
            target,
            masked_mean(sequence, mask & (before <= self.local_length)),
            masked_mean(sequence, mask),
        )
        interests = []
        for query, layer in zip(queries, self.fourier_layers, strict=True):
            # Hashing has no gradient, by design: it only chooses.
            positions, real = retrieve(
                sim_hash(query.detach(), self.hyperplanes), codes, mask, self.k
            )
            chosen = sequence.gather(1, positions.unsqueeze(-1).expand(-1, -1, sequence.shape[-1]))
            place = self.position_embedding(before.gather(1, positions).clamp(min=0))
            chosen = (chosen + POSITION_SCALE * place) * real.unsqueeze(-1)
            interests.append(masked_mean(layer(chosen), real))
        return torch.stack(interests, dim=1)
