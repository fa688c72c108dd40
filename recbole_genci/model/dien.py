"""DIEN (Zhou et al., 2019), RecBole's, safe on batches of short histories."""

from __future__ import annotations

from recbole.model.sequential_recommender.dien import DIEN as RecBoleDIEN

from recbole_genci.model.history_features import HistoryFeatureEmbedding


class DIEN(RecBoleDIEN):
    """RecBole's auxiliary loss is a mean over the clicks that follow another click: where no history of a batch has two
    items it is 0 / 0, and one such batch turns every weight into NaN (dien.py:268). Such a batch trains on its labels alone.
    """

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        HistoryFeatureEmbedding.mend(self.embedding_layer)

    def calculate_loss(self, interaction):
        if (interaction[self.ITEM_SEQ_LEN] > 1).any():
            return super().calculate_loss(interaction)
        logits, _ = self.forward(interaction[self.USER_ID], interaction[self.ITEM_SEQ], interaction[self.NEG_ITEM_SEQ],
                                 interaction[self.ITEM_SEQ_LEN], interaction[self.POS_ITEM_ID])  # fmt: skip
        return self.loss(logits, interaction[self.LABEL_FIELD])
