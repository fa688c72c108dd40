"""Layers in NumPy, one row at a time, and semantic IDs scored whole, for tests that derive a
model's score from its formulas.
"""

import copy
from dataclasses import replace

import numpy as np
import torch


def weights(module):
    """A module's parameters and buffers in float64."""
    return {name: tensor.detach().double().numpy() for name, tensor in module.state_dict().items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def linear(module, x):
    own = weights(module)
    return own["weight"] @ x + own.get("bias", 0)


def layer_norm(module, x):
    own = weights(module)
    return (x - x.mean()) / np.sqrt(x.var() + module.eps) * own["weight"] + own["bias"]


def perceptron(module, x):
    """RecBole's MLPLayers in evaluation mode: linear and ReLU, layer by layer."""
    for layer in module.mlp_layers:
        if type(layer).__name__ == "Linear":
            x = np.maximum(linear(layer, x), 0)
    return x


def attend(query, memory, projections, heads, extra=0.0):
    """One query over memory rows, head by head, as Eq. 8 and 9 of GenCI are written; ``extra`` is
    added to the scores.
    """
    w_q, w_k, w_v = (weights(projection)["weight"] for projection in projections)
    size, result = w_q.shape[0] // heads, []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = (memory @ w_k[part].T) @ (w_q[part] @ query) / np.sqrt(size) + extra
        result.append(softmax(scores) @ (memory @ w_v[part].T))
    return np.concatenate(result)


def unit(vector, eps=1e-6):
    """A vector of unit root mean square."""
    return vector / np.sqrt(np.mean(vector**2) + eps)


def embedded(model, batch):
    """Field embeddings ``[B, F, d]`` as RecBole computes them."""
    return model.concat_embed_input_fields(batch).detach().double().numpy()


def randomise(model, seed=0, scale=0.5):
    """Draw every parameter anew: freshly initialised ones hide scales, biases and norms that are 1
    or 0.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def next_states(trie, states, level):
    """The state that each code leads to ``[..., K_level]`` from ``states [...]``, or -1."""
    codes, child = trie.continuations(states, level)
    table = child.new_full((*states.shape, trie.level_sizes[level]), -1)
    # Padding stands behind the children with code 0 and state -1; the largest state is the child.
    return table.scatter_reduce(-1, codes, child, "amax")


def score_codes(intent, encoded, history_index, codes, trie=None):
    """Log-probability ``[P]`` of whole semantic IDs ``codes [P, N]`` given each row's history, by
    teacher forcing.

    Normalised per level over all codes, or, with ``trie``, over the codes it allows, as
    ``beam_search`` does; codes that are no item then score -inf.
    """
    import torch

    from recbole_genci.model.genci.decoding import constrained_log_probs

    hidden, codes, order = intent._teacher_forced(encoded, history_index, codes)
    total = hidden.new_zeros(len(codes))
    states, legal = codes.new_zeros(len(codes)), torch.ones(len(codes), dtype=torch.bool)
    for level in range(len(intent.level_sizes)):
        logits, code = intent.logits(hidden[:, level], level), codes[:, level : level + 1]
        if trie is None:
            log_probs = logits.log_softmax(-1)
        else:
            following = next_states(trie, states, level)
            log_probs = constrained_log_probs(logits, following >= 0)
            following = following.gather(1, code).squeeze(1)
            legal = legal & (following >= 0)
            states = torch.where(legal, following, trie.starts[level + 1])
        total = total + torch.where(legal, log_probs.gather(1, code).squeeze(1), 0.0)
    total = total.masked_fill(~legal, -torch.inf)
    return total if order is None else torch.empty_like(total).index_copy(0, order, total)


def with_rows_changed(saved, kind, change):
    """A saved run whose embeddings of users or items are other ones, by hand.

    Args:
        kind: ``user`` or ``item``.
        change: called with each of RecBole's tables ``[rows, d]`` and the row of the field's
            padding in it.
    """
    import torch

    model, field = copy.deepcopy(saved.model), f"{kind}_id"
    with torch.no_grad():
        for module in model.modules():
            names = vars(module).get("token_field_names")
            if isinstance(names, list) and names:
                first = int(module.token_field_offsets[names.index(field)])
                change(module.token_embedding_table.embedding.weight, first)
            elif isinstance(names, dict):  # DIN's layer: one table for users, one for items
                first = int(module.token_field_offsets[kind][names[kind].index(field)])
                change(module.token_embedding_table[kind].embedding.weight, first)
            elif "token_feature_names" in vars(module) and "token_offsets" in vars(module):
                first = int(module.token_offsets[module.token_feature_names.index(field)])
                for table in module.token_embeddings:  # FFM's
                    change(table.weight, first)
    return replace(saved, model=model)


def residual_quantize(z, codebooks):
    """Eq. 3, level by level, by exact distances: codes ``[I, L]``, the sum of the chosen codes
    ``[I, D]``, and what is left of ``z [I, D]``.
    """
    residual, codes = torch.as_tensor(z), []
    for book in codebooks:
        book = torch.as_tensor(book).to(residual)
        distances = (residual.unsqueeze(1) - book).square().sum(-1)
        codes.append(distances.argmin(1))
        residual = residual - book[codes[-1]]
    return torch.stack(codes, 1), torch.as_tensor(z) - residual, residual
