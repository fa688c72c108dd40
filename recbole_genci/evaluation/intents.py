"""Long-term intents, short-term intents and target items (Fig. 4): in one space, in numbers, and in
a picture.

The paper maps "the embeddings of long-term and short-term intents, together with target item
representations" by t-SNE, and reads off that short-term intents are compact and lie around their
targets while long-term intents spread widely.

**One space.** H_LTI is a state of the T5 (width m), H_STI a sum of attention values (width d), E_v
a concatenation of field embeddings (width d times the item's fields): no distance between them
means anything, nor would padding or standardising give it one. The model itself brings them
together in one place, the first layer of the prediction MLP, where Eq. 10 reads ``W [H_LTI; H_STI;
E_u; E_v] = W_L H_LTI + W_S H_STI + W_u E_u + W_v E_v``. The vectors compared here are these
summands, all of the layer's width and in its units. They also do not depend on how the model
happens to write an intent down: turning or stretching H_LTI, with W_L turned and shrunk to match,
is the same model, and moves H_LTI but not ``W_L H_LTI``.
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

NEGLIGIBLE = (
    1e-6  # of the widest set's range: float32 scores cannot tell such a set from a constant
)

#: Colours of Okabe and Ito, which the colour-blind tell apart, and shapes for print: name, colour,
#: marker.
_STYLES = ((LONG_TERM, "#0072B2", "o"), (SHORT_TERM, "#E69F00", "^"), (TARGET, "#000000", "+"))


def intent_vectors(saved_run: LoadedRun, rows: int, seed: int) -> dict[str, np.ndarray]:
    """``W_L H_LTI``, ``W_S H_STI`` and ``W_v E_v`` (see above) of test rows chosen at random.

    Args:
        saved_run: what ``recbole_genci.load`` returns, of GenCI.
        rows: how many; all, if the test part has no more. No user comes twice before every user has
            come once.
        seed: of the choice.

    Returns:
        dict: ``'long-term intent'``, ``'short-term intent'`` and ``'target item'``, each float64
            ``[R, h]``, h the width of the
        prediction MLP's first layer, row by row of the same test rows.

    Raises:
        ValueError: fewer than three rows, or a model without both intents.
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
    """Raises ValueError for a GenCI without both intents, or fewer than three rows to compare."""
    for key in ("use_long_term", "use_short_term"):
        if not config[key]:
            raise ValueError(
                f"{key}: with {key}: False {config['model']} has no such intent to show."
            )
    if rows < 3:
        raise ValueError(
            f"intents: {rows} rows are too few to compare; choose 3 or more of a test part as long."
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
    """How compact or spread each set of ``intent_vectors`` is, and how much it follows the target
    items.

    t-SNE adapts to the density around every point, so that the size of a clump in the picture says
    next to nothing (van der Maaten and Hinton, 2008, section 3). These numbers are taken before it,
    and a common scale of all vectors changes none:

    - ``relative_radius``: root mean square distance from the set's mean, over that of the target
      items. Meaningful because
      the sets share their space: below 1, the set moves the first layer less than the items do.
    - ``cosine_distance``: mean of ``1 - cos`` over all pairs of different rows, 0 if all point one
      way and 1 if in all directions alike; a zero vector counts as at right angles. Unlike the
      others it is told by what rows have in common.
    - ``effective_dimension``: participation ratio ``(sum l)^2 / sum l^2`` of the covariance's
      eigenvalues l: in how many directions the set spreads, from 1 to min(R - 1, h). It knows no
      size, only shape.
    - ``target_alignment``: linear centred kernel alignment with the target items (Kornblith et al.,
      2019), 1 if rows lie to one another as their targets do, whatever the place, turn and size of
      the set; for unrelated sets of effective dimensions p and q about ``sqrt(p q) / R``. It stands
      for "centred around their corresponding target items".

    Args:
        vectors: three sets, as of ``intent_vectors``; ``[R, h]`` each.

    Returns:
        dict: these four numbers for each set; nan where a set does not vary.

    Raises:
        ValueError: sets that are missing, too small, or not of one shape.
    """
    _check(vectors)
    centred = {name: matrix - matrix.mean(axis=0) for name, matrix in vectors.items()}
    target = centred[TARGET]
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is the nan that is promised
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
    """A t-SNE map (PNG) of the three sets of ``intent_vectors``, with the numbers of ``spread`` in
    its legend.

    The sets are mapped together in their common space, each moved to its own mean first: a set's
        mean is the same for every
    row, the layer's bias could as well carry it, and left in it would show three islands whatever
    the intents. A set that does not vary is left out, and the legend says so.

    Args:
        file: where to write it, whole or not at all.
        seed: of t-SNE.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: as of ``spread``, or sets of which none varies.
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
        found = numbers[name]
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
            f"{name}: relative radius {found['relative_radius']:.2g}, cosine distance "
            f"{found['cosine_distance']:.2f}, "
            f"dimension {found['effective_dimension']:.1f}, alignment "
            f"{found['target_alignment']:.2f}"
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
    """Names of the sets whose rows differ by more than rounding; of the others t-SNE would spread
    the rounding errors out.
    """
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
