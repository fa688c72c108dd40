"""Long-term intents, short-term intents and target items (Fig. 4) in one space: numbers and a
picture.

The paper maps "the embeddings of long-term and short-term intents, together with target item
representations" by t-SNE, and reads off that short-term intents are compact and lie around their
targets while long-term intents spread widely.

**One space.** H_LTI is a state of the T5 (width m), H_STI a sum of attention values (width d), and
E_v a concatenation of field embeddings (width d times the item's fields). Distances between them
mean nothing, and padding or standardising would not change that. The model itself brings them
together in the first layer of the prediction MLP, where Eq. 10 is ``W [H_LTI; H_STI; E_u; E_v] =
W_L H_LTI + W_S H_STI + W_u E_u + W_v E_v``. This module compares these summands, which have the
layer's width and units. They do not depend on the model's internal representation of an intent: if
H_LTI is rotated or scaled, and W_L by the inverse, the model is the same, and so is ``W_L H_LTI``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import FeatureSource

from recbole_genci.config import Config
from recbole_genci.utils.figures import INSTALL, can_draw, row_of_axes, save


class LoadedRun(Protocol):
    """What ``recbole_genci.load`` returns, as far as it is read here."""

    @property
    def config(self) -> Config: ...

    @property
    def model(self) -> AbstractRecommender: ...

    def loader(self, part: str = "test") -> AbstractDataLoader: ...


LONG_TERM, SHORT_TERM, TARGET = "long-term intent", "short-term intent", "target item"
_SHARES = {LONG_TERM: "long_term", SHORT_TERM: "short_term", TARGET: "item"}

# Share of the widest set's range; in float32 a set with a smaller range is constant.
NEGLIGIBLE = 1e-6

#: Name, colour and marker. Colour-blind people can tell the colours apart (Okabe and Ito); the
#: markers differ in print.
_STYLES = ((LONG_TERM, "#0072B2", "o"), (SHORT_TERM, "#E69F00", "^"), (TARGET, "#000000", "+"))


@torch.no_grad()
def intent_vectors(saved_run: LoadedRun, rows: int, seed: int) -> dict[str, np.ndarray]:
    """``W_L H_LTI``, ``W_S H_STI`` and ``W_v E_v`` (see above) of randomly chosen test rows.

    Args:
        saved_run: a loaded run (``recbole_genci.load``) of a model that ``has_intents``, as GenCI.
        rows: number of rows, at most all. No user is chosen twice before every user is chosen once.
        seed: seed of the choice.

    Returns:
        dict: ``'long-term intent'``, ``'short-term intent'`` and ``'target item'``, each float64
            ``[R, h]`` for the same test rows; h is the width of the prediction MLP's first layer.

    Raises:
        ValueError: there are fewer than three rows, or the model lacks one of the intents.
    """
    model, part = saved_run.model, saved_run.loader("test").dataset
    name = saved_run.config["model"]
    if not model.has_intents:
        raise ValueError(
            f"intents: {name} has no long-term and short-term intents; give the folder of a GenCI "
            "run."
        )
    check_intents(saved_run.config, min(rows, len(part)))
    chosen = choose_rows(part.inter_feat[part.uid_field].numpy(), rows, seed)
    item_fields = part.fields(source=[FeatureSource.ITEM, FeatureSource.ITEM_ID])
    batches = []
    for batch in torch.from_numpy(chosen).split(saved_run.config["eval_batch_size"]):
        shares = model.eval().first_layer_shares(
            part[batch].to(saved_run.config["device"]), item_fields
        )
        batches.append(
            {name: shares[share].cpu().double().numpy() for name, share in _SHARES.items()}
        )
    return {name: np.concatenate([batch[name] for batch in batches]) for name in _SHARES}


def check_intents(config: Config, rows: int) -> None:
    """Raise ValueError if GenCI is without one of its intents, or for fewer than three rows."""
    for key in ("use_long_term", "use_short_term"):
        if config[key] is False:  # None: a model of one's own, without this key
            raise ValueError(
                f"{key}: with {key}: False {config['model']} has no such intent to show."
            )
    if rows < 3:
        raise ValueError(
            f"intents: {rows} rows are too few to compare; choose 3 or more, from a test part with "
            "as many."
        )


def choose_rows(users: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """Row numbers, at most ``rows``, drawn without replacement: a row of every user first, then
    second rows, and so on.
    """
    drawn = np.random.default_rng(seed).permutation(len(users))
    by_user = np.argsort(users[drawn], kind="stable")
    _, counts = np.unique(users, return_counts=True)
    turn = np.empty(len(users), dtype=np.int64)  # how often the user came before
    turn[by_user] = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    return drawn[np.argsort(turn, kind="stable")][:rows]


def spread(vectors: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Numbers that tell how compact each set of ``intent_vectors`` is, and how much it follows the
    target items.

    t-SNE adapts to the density around each point, so that the size of a cluster in the picture
    means little (van der Maaten and Hinton, 2008, section 3). These numbers are computed from the
    vectors themselves, and do not depend on a common scale:

    - ``relative_radius``: root mean square distance from the set's mean, divided by that of the
      target items. It is meaningful because the sets share their space: below 1, the set changes
      the first layer less than the items do.
    - ``cosine_distance``: mean of ``1 - cos`` over all pairs of different rows: 0 if all vectors
      point in one direction, 1 if they point evenly in all. A zero vector counts as orthogonal. It
      is the only number here that depends on the set's mean.
    - ``effective_dimension``: participation ratio ``(sum l)^2 / sum l^2`` of the covariance's
      eigenvalues l, the number of directions in which the set spreads, from 1 to min(R - 1, h). It
      depends on the set's shape, not on its size.
    - ``target_alignment``: linear centred kernel alignment with the target items (Kornblith et al.,
      2019): 1 if the rows are arranged like their targets, up to shift, rotation and scale; about
      ``sqrt(p q) / R`` for unrelated sets of effective dimensions p and q. It measures "centred
      around their corresponding target items".

    Args:
        vectors: three sets ``[R, h]``, from ``intent_vectors``.

    Returns:
        dict: these four numbers for each set; nan if a set does not vary.

    Raises:
        ValueError: a set is missing or too small, or the shapes differ.
    """
    _check(vectors)
    centred = {name: matrix - matrix.mean(axis=0) for name, matrix in vectors.items()}
    target = centred[TARGET]
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 gives the documented nan
        return {
            name: {
                "relative_radius": float(np.linalg.norm(matrix) / np.linalg.norm(target)),
                "cosine_distance": _cosine_distance(vectors[name]),
                "effective_dimension": float((matrix**2).sum() ** 2 / _alignment(matrix, matrix)),
                "target_alignment": float(
                    _alignment(matrix, target)
                    / np.sqrt(_alignment(matrix, matrix) * _alignment(target, target))
                ),
            }
            for name, matrix in centred.items()
        }


def plot_intents(vectors: dict[str, np.ndarray], file: str | Path, seed: int) -> None:
    """Draw a t-SNE map (PNG) of the sets of ``intent_vectors``, with the numbers of ``spread``.

    The sets are mapped together, each without its own mean. A mean is the same for every row, and
    the layer's bias could carry it; with their means the sets would always be three islands. A set
    that does not vary is left out, and the legend says so.

    Args:
        vectors: the three sets.
        file: the file, written atomically.
        seed: seed of t-SNE.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: as for ``spread``, or no set varies.
    """
    if not can_draw():
        raise ImportError(
            f"The map of intents needs matplotlib, which is not installed: run {INSTALL}."
        )
    from sklearn.manifold import TSNE

    numbers = spread(vectors)
    drawn = _sets_that_vary(vectors)
    if not drawn:
        raise ValueError(
            "intents: neither intents nor items differ between the rows, so that there is nothing "
            "to map."
        )
    points = np.concatenate([vectors[name] - vectors[name].mean(axis=0) for name in drawn])
    tsne = TSNE(init="pca", perplexity=min(30.0, (len(points) - 1) / 3), random_state=seed)
    places = dict(zip(drawn, np.split(tsne.fit_transform(points), len(drawn))))
    figure, (axis,) = row_of_axes(1, 7, 7.6)
    for name, colour, marker in _STYLES:
        measured = numbers[name]
        if name not in drawn:
            axis.scatter(
                [],
                [],
                marker=marker,
                color=colour,
                label=f"{name}: the same for all rows, not drawn",
            )
            continue
        label = (
            f"{name}: relative radius {measured['relative_radius']:.2g}, cosine distance "
            f"{measured['cosine_distance']:.2f}, dimension {measured['effective_dimension']:.1f}, "
            f"alignment {measured['target_alignment']:.2f}"
        )
        face = {"color": colour} if marker == "+" else {"facecolors": colour, "edgecolors": "none"}
        axis.scatter(
            *places[name].T, s=22, marker=marker, alpha=0.65, linewidths=1.0, label=label, **face
        )
    axis.set(
        title=f"Intents and target items of {len(vectors[TARGET])} test rows, in the units of the "
        "prediction MLP",
        xlabel="t-SNE 1",
        ylabel="t-SNE 2",
        xticks=[],
        yticks=[],
    )
    figure.legend(loc="outside lower center", fontsize="small")
    save(figure, file)


def _sets_that_vary(vectors: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the sets whose rows differ by more than rounding, which t-SNE would magnify."""
    ranges = {name: np.ptp(vectors[name], axis=0).max() for name in _SHARES}
    return [name for name, size in ranges.items() if size > NEGLIGIBLE * max(ranges.values())]


def _check(vectors: Mapping[str, np.ndarray]) -> None:
    if set(vectors) != set(_SHARES):
        raise ValueError(
            f"intents: expected the sets {', '.join(_SHARES)}, got {', '.join(vectors) or 'none'}."
        )
    shapes = {name: matrix.shape for name, matrix in vectors.items()}
    if len(set(shapes.values())) != 1 or vectors[TARGET].ndim != 2 or len(vectors[TARGET]) < 3:
        raise ValueError(
            f"intents: the sets must be of one shape [R, h] with 3 rows or more, but are {shapes}."
        )


def _cosine_distance(matrix: np.ndarray) -> float:
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit = np.divide(matrix, length, out=np.zeros_like(matrix), where=length > 0)
    pairs = len(unit) * (len(unit) - 1)
    return float(1 - ((unit.sum(axis=0) ** 2).sum() - (unit**2).sum()) / pairs)


def _alignment(first: np.ndarray, second: np.ndarray) -> float:
    """``|A^T B|_F^2``, the inner product of the rows' Gram matrices."""
    return ((first.T @ second) ** 2).sum()
