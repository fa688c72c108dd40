"""xDeepFM (Lian et al., 2018), RecBole's, with a deep network that can lower a score too."""

from __future__ import annotations

import torch
from recbole.model.context_aware_recommender.xdeepfm import xDeepFM as RecBolexDeepFM


class xDeepFM(RecBolexDeepFM):  # noqa: N801, RecBole's name
    """RecBole's xDeepFM ends its deep network in a ReLU (xdeepfm.py:70): that branch can only raise a score, and is 0 for nearly
    every row after some initialisations. In the paper the output unit is linear in the last hidden layer, as here.

    Sizes: B rows, F features, d embedding size, N = B * d, C maps of all layers that are read.
    """

    #: Tells runs of this class from those of RecBole's (experiments/identity.py).
    revision = 2

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        del self.mlp_layers.mlp_layers[-1]

    def compressed_interaction_network(self, input_features):
        """Sums ``[B, C]`` over the embedding of what each layer makes of features ``[B, F, d]``.

        RecBole's values. With rows innermost a layer is one matrix product, twice as fast on a CPU as RecBole's convolution.
        """
        features = hidden = input_features.transpose(0, 1).flatten(1)  # [F, N]
        read = []
        for layer, (size, convolution) in enumerate(zip(self.cin_layer_size, self.conv1d_list)):
            pairs = (hidden.unsqueeze(1) * features).flatten(0, 1)  # [maps before * F, N]
            maps = torch.addmm(convolution.bias.unsqueeze(1), convolution.weight.squeeze(-1), pairs).relu()  # [size, N]
            if self.direct or layer == len(self.cin_layer_size) - 1:
                hidden = seen = maps
            else:
                hidden, seen = maps.split(size // 2)
            read.append(seen.unflatten(1, (-1, self.embedding_size)).sum(-1))
        return torch.cat(read).T
