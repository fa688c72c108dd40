"""Recall@K and NDCG@K of the items a model generates, on the clicked rows of a split.

A clicked row has one relevant item, its own. Recall@K is the share of rows whose item is among the
first K generated ones; NDCG@K is the mean of ``1 / log2(1 + rank)``, 0 for a miss. Both are also
measured for the list of the most popular items among the training clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor

from recbole_genci.data.batch_histories import clicked_items
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.evaluation.diagnostics import item_popularity
from recbole_genci.utils.value_checks import is_whole


def ranks_of(items: Tensor, target: Tensor, history: Tensor | None = None) -> Tensor:
    """Rank ``[P]`` of each row's target among ``items [P, W]``, from 1; 0 if the list lacks it.

    Args:
        items: best first; 0 stands for no item.
        target: ``[P]``.
        history: ``[P, H]`` items that are removed from the list, even the target; 0 is padding.
    """
    kept = items != 0
    if history is not None:
        for clicked in history.unbind(1):  # one at a time, as all would need [P, W, H]
            kept &= items != clicked.unsqueeze(1)
    is_target = kept & (items == target.unsqueeze(1))
    return (kept.cumsum(1) * is_target).amax(1)


def ranking_metrics(ranks: Tensor, k: Sequence[int]) -> dict[str, float]:
    """``recall@K`` and ``ndcg@K`` of ranks ``[P]``, from 1; 0 is a miss.

    Raises:
        ValueError: there are no rows.
    """
    if len(ranks) == 0:
        raise ValueError("recall: the part has no clicked row, so that there is no item to recall.")
    result = {}
    for limit in k:
        hit = (ranks > 0) & (ranks <= limit)
        result[f"recall@{limit}"] = hit.double().mean().item()
        result[f"ndcg@{limit}"] = (
            torch.where(hit, 1 / torch.log2(1.0 + ranks.double()), 0.0).mean().item()
        )
    return result


@torch.no_grad()
def recall(
    model: AbstractRecommender,
    loader: AbstractDataLoader,
    training_part: CTRDataset,
    device: torch.device,
    k: Sequence[int] = (10, 20),
    num_beams: int | None = None,
    exclude_history: bool = False,
) -> dict[str, dict[str, float]]:
    """Recall@K and NDCG@K of a model's ``generate_items`` over a loader's clicked rows.

    Args:
        model: a model with ``generate_items``.
        loader: a loader over the rows.
        training_part: the model's view of the training rows, for popularity.
        device: the model's device.
        k: lengths of the list.
        num_beams: width of the search; by default the largest K, plus the longest history if it is
            excluded. With the number of items the ranking of the whole catalogue is exact.
        exclude_history: whether to remove the items of the row's history, as the model reads it,
            from both lists. Off by default, as in RecBole's own evaluation of sequential
            recommenders: a clicked item may be clicked again.

    Returns:
        dict: ``generated`` and ``popular``, each with ``recall@K`` and ``ndcg@K``.

    Raises:
        ValueError: the model generates nothing, no row is clicked, or a length or width is too
            small.
    """
    if not model.generates_items:
        raise ValueError(f"recall: {type(model).__name__} generates no items.")
    limits = [k] if isinstance(k, Integral) else list(k)
    if not limits or not all(map(is_whole, limits)):
        raise ValueError(f"k: {k!r} is not a list of whole numbers of at least 1.")
    k = [int(limit) for limit in limits]
    config = loader.config
    longest = config["MAX_ITEM_LIST_LENGTH"] if exclude_history else 0
    needed = min(max(k) + longest, loader.dataset.item_num - 1)
    if num_beams is not None and num_beams < needed:
        what = f"{max(k)} items" + (f" beside the up to {longest} of a history" if longest else "")
        raise ValueError(
            f"num_beams: {num_beams} beams give no list of {what}; use at least {needed}."
        )
    model.eval()
    width = num_beams or needed
    list_name = config["ITEM_ID_FIELD"] + config["LIST_SUFFIX"]
    favourites = item_popularity(training_part).argsort()[:-1]  # padding has the last rank
    favourites = favourites[:needed].to(device)
    generated, popular = [], []
    for interaction, *_ in loader:
        clicked = interaction[interaction[config["LABEL_FIELD"]] == 1].to(device)
        if len(clicked) == 0:
            continue
        target = clicked[config["ITEM_ID_FIELD"]]
        history = clicked_items(clicked, list_name) if exclude_history else None
        generated.append(ranks_of(model.generate_items(clicked, width)[0], target, history).cpu())
        popular.append(ranks_of(favourites.expand(len(clicked), -1), target, history).cpu())
    none = [torch.empty(0, dtype=torch.int64)]
    return {
        "generated": ranking_metrics(torch.cat(none + generated), k),
        "popular": ranking_metrics(torch.cat(none + popular), k),
    }
