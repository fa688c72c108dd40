"""Stand-ins for the embeddings of users and items that a model was not trained on."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.model.layers import ContextSeqEmbAbstractLayer
from torch import Tensor, nn

from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.table import Table

#: What an unseen id gets: the padding's embedding, the mean of the trained ones, or, for items
#: only, the mean over the trained items of its cohorts.
PADDING, MEAN, COHORTS = "padding", "mean", "cohorts"


class Segment(NamedTuple):
    """The rows of one field in an embedding table."""

    field: str
    first: int
    size: int

    @property
    def rows(self) -> slice:
        """Where they stand."""
        return slice(self.first, self.first + self.size)


def trained_ids(part: CTRDataset, field: str) -> Tensor:
    """Which ids ``[V]`` bool of users or items have rows in the training part."""
    trained = torch.zeros(len(part.field2id_token[field]), dtype=torch.bool)
    trained[part.inter_feat[field]] = True
    return trained


def field_sizes(part: CTRDataset) -> dict[str, int]:
    """Number of ids of each field that has a vocabulary."""
    return {field: len(tokens) for field, tokens in part.field2id_token.items()}


def embedding_segments(
    model: AbstractRecommender, sizes: Mapping[str, int]
) -> dict[str, list[Segment]]:
    """The embedding tables of a model by their parameter's name, each with the fields in it.

    RecBole's models keep the token fields in one table, one after another, for first-order weights
    too. Tables of a model's own are those that it declares (``ModelContract.id_tables``).

    Args:
        model: the model.
        sizes: number of ids of each field.
    """
    found: dict[str, list[Segment]] = {}
    for path, module in model.named_modules():
        for name, fields in _tables(module):
            ends = list(itertools.accumulate(sizes[field] for field in fields))
            segments = [Segment(f, end - sizes[f], sizes[f]) for f, end in zip(fields, ends)]
            found[f"{path}.{name}.weight".lstrip(".")] = segments
    for name, field in model.id_tables.items():
        found[f"{name}.weight"] = [Segment(field, 0, sizes[field])]
    return found


def _tables(module: Any) -> Iterator[tuple[str, list[str]]]:
    """Names of the embeddings within a layer of RecBole, and the fields of each."""
    own = vars(module)
    names, sequences = own.get("token_field_names"), own.get("token_seq_field_names")
    if isinstance(names, dict):  # DIN's layer: one table for users, one for items
        for kind in module.token_embedding_table:
            yield f"token_embedding_table.{kind}.embedding", names[kind]
        for kind in module.token_seq_embedding_table:
            for number, field in enumerate(sequences[kind]):
                yield f"token_seq_embedding_table.{kind}.{number}", [field]
    elif isinstance(names, list):  # a context-aware model, or its first-order weights
        if names:
            yield "token_embedding_table.embedding", names
        for number, field in enumerate(sequences or ()):
            yield f"token_seq_embedding_table.{number}", [field]
    elif isinstance(own.get("token_feature_names"), list):  # FFM's: a table for each other field
        for number in range(module.num_fields if own["token_feature_names"] else 0):
            yield f"token_embeddings.{number}", own["token_feature_names"]
        # Their list for each field is one and the same, of all fields (ffm.py:229).
        sequences = own["token_seq_feature_names"] * module.num_fields
        for place, field in enumerate(sequences):
            yield f"token_seq_embedding.{place}", [field]
            for number in range(module.num_fields):
                yield f"token_seq_embeddings.{number}.{place}", [field]


def twin(model: nn.Module, changed: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a model that shares all its tensors, but for parameters with other values.

    Args:
        changed: the values of parameters, by name.
    """
    memo: dict[int, object] = {}
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                memo[id(tensor)] = tensor
        for value in vars(module).values():
            if not isinstance(value, (nn.Module, list, tuple, dict)):
                memo[id(value)] = value  # a dataset, a configuration
    for name, values in changed.items():
        old = model.get_parameter(name)
        memo[id(old)] = nn.Parameter(values, requires_grad=old.requires_grad)
    return copy.deepcopy(model, memo)


def with_mean_of(
    model: nn.Module, tables: Mapping[str, list[Segment]], field: str, trained: Tensor
) -> nn.Module:
    """A twin of a model whose padding of ``field`` has the mean embedding of trained ids.

    Args:
        tables: those of the model (`embedding_segments`).
        trained: ``[V]`` bool, the ids with rows in training.
    """
    changed: dict[str, Tensor] = {}
    for name, segments in tables.items():
        for segment in segments:
            if segment.field == field:
                values = changed.get(name, model.get_parameter(name).detach().clone())
                rows = values[segment.rows]
                rows[0] = rows[trained.to(rows.device)].mean(0)
                changed[name] = values
    return twin(model, changed)


def layers_with_user_features(model: nn.Module) -> list[ContextSeqEmbAbstractLayer]:
    """The layers that look up users' features themselves: DIN's and DIEN's."""
    return [
        module
        for module in model.modules()
        if isinstance(module, ContextSeqEmbAbstractLayer) and module.user_feat is not None
    ]


def with_user_features(model: nn.Module, table: Table) -> nn.Module:
    """A twin of a model whose own layers look users up in another table of features."""
    other = twin(model, {})
    for layer in layers_with_user_features(other):
        layer.user_feat = table.to(layer.device)
    return other


def stand_ins(
    rows: Tensor,
    how: str,
    trained: Tensor,
    count: int,
    codes: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Embeddings ``[J, d]`` of new ids, made of those of known ids.

    Args:
        rows: ``[V, d]`` embeddings; row 0 is the padding's.
        how: ``padding``, ``mean`` (of the trained ids), or ``cohorts``: the mean over the levels of
            a semantic ID of the mean over the trained items with the same code; the mean of all
            trained items if no code is shared.
        trained: ``[V]`` bool, the ids with rows in training.
        count: J.
        codes: for ``cohorts``: ``[V, N]`` and ``[J, N]`` semantic IDs; the last level, the
            collision digit, has no cohorts.
    """
    if how == PADDING:
        return rows[:1].expand(count, -1)
    known, trained = rows[trained.to(rows.device)], trained.cpu()
    mean = known.mean(0, keepdim=True).expand(count, -1)
    if how == MEAN:
        return mean
    assert how == COHORTS and codes is not None
    total, found = torch.zeros_like(mean), torch.zeros(count, 1, device=rows.device)
    for old, new in zip(codes[0][trained, :-1].T, codes[1][:, :-1].T):
        old, new = old.to(rows.device), new.to(rows.device)
        size = int(torch.cat([old, new]).max()) + 1
        sums = rows.new_zeros(size, rows.shape[1]).index_add_(0, old, known)
        members = torch.bincount(old, minlength=size).unsqueeze(1)[new]
        total = total + sums[new] / members.clamp(min=1)
        found = found + (members > 0)
    return torch.where(found > 0, total / found.clamp(min=1), mean)
