"""Pictures of semantic IDs: the use of codes at each level, and a map of the level-1 cohorts."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.utils.figures import INSTALL, can_draw, row_of_axes, save

_logger = logging.getLogger(__name__)

CODE_USAGE, ITEM_MAP = "code_usage.png", "items_tsne.png"
_MAPPED_ITEMS = 3000  # with more items t-SNE takes minutes
_COLOURED_CODES = 20  # about as many colours as one can tell apart


def plot_code_usage(ids: SemanticIDs, file: Path) -> None:
    """Draw items per code, most used first, one panel per level.

    A dashed line shows the items per code if all codes were used equally often.
    """
    levels = ids.num_levels - 1
    figure, axes = row_of_axes(levels, 4 * levels, 3.3)
    for level, axis in enumerate(axes):
        count = np.sort(np.bincount(ids.codes[:, level], minlength=ids.level_sizes[level]))[::-1]
        axis.bar(np.arange(len(count)), count, width=1.0)
        line = axis.axhline(len(ids) / len(count), color="black", linewidth=0.8, linestyle="--")
        axis.set(title=f"level {level + 1}", xlabel="codes, most used first", ylabel="items")
    label = "items per code if all codes were used equally often"
    figure.legend([line], [label], loc="outside lower center", frameon=False)
    save(figure, file, dpi=120)


def plot_items(ids: SemanticIDs, vectors: np.ndarray, file: Path, seed: int) -> None:
    """Draw a t-SNE map of the items' vectors ``[I, D]``, evenly thinned.

    The largest level-1 cohorts have colours, the others are grey.
    """
    from sklearn.manifold import TSNE

    step = -(-len(vectors) // _MAPPED_ITEMS)
    codes, vectors = ids.codes[::step, 0], vectors[::step]
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    # The map has no scale, and squares of tiny numbers would all be 0.
    vectors = vectors / np.abs(vectors).max()
    place = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(vectors)
    largest = np.argsort(-np.bincount(codes), kind="stable")[:_COLOURED_CODES]
    rank = np.full(codes.max() + 1, -1)
    rank[largest] = np.arange(len(largest))
    (figure, (axis,)), coloured = row_of_axes(1, 7, 6), rank[codes] >= 0
    axis.scatter(*place[~coloured].T, s=6, color="lightgrey", linewidths=0)
    axis.scatter(*place[coloured].T, s=10, c=rank[codes][coloured], cmap="tab20", linewidths=0)
    axis.set(
        title=f"{len(codes)} items, the {len(largest)} largest level-1 cohorts in colour",
        xticks=[],
        yticks=[],
    )
    save(figure, file, dpi=120)


def write_plots(ids: SemanticIDs, vectors: np.ndarray, folder: Path, seed: int) -> list[str]:
    """Write both pictures into ``folder``, and return their names.

    Without matplotlib there are none; if the items cannot be mapped there is no map.
    """
    if not can_draw():
        _logger.warning(f"No plots: matplotlib is not installed. `{INSTALL}` brings it.")
        return []
    plot_code_usage(ids, folder / CODE_USAGE)
    if len(ids) < 4 or np.ptp(vectors, axis=0).max() == 0:
        _logger.info(f"No {ITEM_MAP}: there are too few different items to map.")
        return [CODE_USAGE]
    if vectors.shape[1] < 2:
        _logger.info(f"No {ITEM_MAP}: item vectors of width 1 have no second dimension to map.")
        return [CODE_USAGE]
    plot_items(ids, vectors, folder / ITEM_MAP, seed)
    return [CODE_USAGE, ITEM_MAP]
