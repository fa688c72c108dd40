"""Weight decay: how strong it is on data of any size (``weight_decay``), and what it shrinks
(``weight_decay_of``).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch.distributed as dist
from recbole.data.dataset import Dataset
from torch import nn

from recbole_genci.config import Config
from recbole_genci.config.kind import per_rows
from recbole_genci.training.random_state import same_random_state
from recbole_genci.utils.logs import details

#: Of a part: a batch by which a model is tried, and its loss says which weights are trained.
SOME_ROWS = 32
_LARGEST_SHRINKAGE = 2.0  # of a weight in a step
# Attributes of a model that a loss only reads: large ones, and one that cannot be copied.
_SHARED = (Dataset, Config, dist.ProcessGroup)


def decay_in(weight_decay: float | str, rows: int | None, vectors: int | None = None) -> float:
    """The number that ``weight_decay`` says for a table of so many vectors.

    ``N/rows`` is the decay of a Gaussian prior on the weights. The loss of a batch is a mean over
    rows, so the more rows there are, the less a prior weighs beside a mean: its decay is N divided
    by their number, whatever the size of a batch. ``N/rows/rows_per_vector`` makes the prior
    stronger where a vector has few rows to learn from: a table of V vectors has ``rows / V`` for
    each (docs/tuning.md, "The decay").

    Args:
        weight_decay: the key's value, a number or one of these texts.
        rows: how many rows are trained on in an epoch.
        vectors: how many vectors the table has.

    Raises:
        ValueError: the value needs the number of rows or vectors, and there is none.
    """
    text = per_rows(weight_decay)
    if text is None:
        return float(weight_decay)
    if not rows:
        raise ValueError(f"weight_decay: '{weight_decay}' needs training rows, and there are none.")
    if not text.per_vector:
        return text.number / rows
    if vectors is None:
        raise ValueError(
            f"weight_decay: '{weight_decay}' is another number for each embedding table; give "
            "decay_in the vectors of the table too."
        )
    return text.number / rows * (vectors / rows)


def decaying_tables(model: nn.Module, *, first_order: bool = True) -> dict[int, nn.Embedding]:
    """The embedding tables that decay, by the ids of their weights.

    They include GenCI's code embeddings, which its generator's output shares, and the tables of a
    teacher.

    Args:
        model: any model.
        first_order: whether tables of one number a value decay too, which are the weights of LR and
            of the first-order part of others. Within Adam, decay that suits vectors erases them.
    """
    return {
        id(module.weight): module
        for module in model.modules()
        if isinstance(module, nn.Embedding) and (first_order or module.embedding_dim > 1)
    }


def decay_groups(
    model: nn.Module, weight_decay: float | str, rows: int | None, *, first_order: bool = True
) -> list[dict]:
    """A model's parameters in groups, so that an optimiser decays only embedding tables.

    Embeddings of fields overfit if there are few rows; layers that act on all rows do not, and L2
    within Adam can switch off a branch whose gradients are small. FuxiCTR's
    ``embedding_regularizer`` makes the same distinction.

    Args:
        model: the model.
        weight_decay: the key's value; see ``decay_in``.
        rows: how many rows are trained on in an epoch.
        first_order: as in ``decaying_tables``.
    """
    tables = decaying_tables(model, first_order=first_order)
    parameters = list(model.parameters())
    decays: dict[float, list[nn.Parameter]] = {}
    for each in parameters:
        if id(each) in tables:
            decay = decay_in(weight_decay, rows, len(each))
            decays.setdefault(decay, []).append(each)
    others = [each for each in parameters if id(each) not in tables]
    groups = [{"params": params, "weight_decay": decay} for decay, params in decays.items()]
    return [*groups, {"params": others, "weight_decay": 0.0}] if others else groups


class Decaying(NamedTuple):
    """What of a model decays.

    Attributes:
        kind: the ``weight_decay_of`` under which something decays; None stands for all weights.
        table_sizes: how many vectors each table of that kind has.
    """

    kind: str | None
    table_sizes: Sequence[int] = ()


def find_decaying(model: Any, batch: Any, kind: str | None) -> Decaying:
    """Find the tables that ``weight_decay`` shrinks.

    ``kind`` is tried first, then the wider kinds of ``weight_decay_of``; the first that has a
    trained table is taken.

    RecBole gives LR vectors that it never reads: weights without a gradient do not decay. Which
    weights have one is read off the graph of a loss, so that no step is needed. A copy computes it:
    the model, its buffers and attributes included, and the random numbers stay as they are.

    Args:
        model: the model on its device, with RecBole's ``calculate_loss``.
        batch: some rows, on the same device.
        kind: the key's value.
    """
    if not kind:
        return Decaying(None)
    try:
        trained = _trained(model, batch)
    except Exception as error:  # of a person's model; what is wrong shows when it is trained
        details().info(f"Every table is taken as trained, as no loss could be traced: {error!r}")
        trained = None
    for each in ("embeddings",) if kind == "embeddings" else ("vectors", "embeddings"):
        sizes = [
            len(table.weight)
            for number, table in decaying_tables(model, first_order=each == "embeddings").items()
            if (table.weight.requires_grad if trained is None else number in trained)
        ]
        if sizes or trained is None:
            return Decaying(each, sizes)
    return Decaying(None)


def check_decay(config: Config, rows: int, table_sizes: Sequence[int]) -> None:
    """Refuse a decay that takes more than twice a weight away in a step, so that weights explode.

    Adam, Adagrad and RMSprop divide the decay by its own size.

    Args:
        config: the run's Config.
        rows: how many rows are trained on in an epoch.
        table_sizes: how many vectors each decaying table has; empty if all weights decay alike.

    Raises:
        ValueError: names the decay, and what to set.
    """
    learner, rate = str(config["learner"]).lower(), config["learning_rate"]
    decay = decay_in(config["weight_decay"], rows, max(table_sizes, default=1))
    if learner in ("sgd", "adamw") and rate * decay > _LARGEST_SHRINKAGE:
        is_text = per_rows(config["weight_decay"]) is not None
        of = f" = {decay:.2g} with {rows} training rows" if is_text else ""
        raise ValueError(
            f"weight_decay: {config['weight_decay']}{of} is too large for learner {learner} with "
            f"learning_rate {rate:g}: a step takes {rate * decay:.2g} times a weight away from it, "
            f"and from {_LARGEST_SHRINKAGE:g} times on weights grow without end. Set weight_decay "
            f"to a number below {_LARGEST_SHRINKAGE / rate:.2g}, or learner to adam."
        )


def _trained(model: Any, batch: Any) -> set[int]:
    """The ids of the parameters that the loss of a batch depends on."""
    with same_random_state():
        losses = _twin(model).eval().calculate_loss(batch)
    parts = losses if isinstance(losses, tuple) else (losses,)
    nodes = [getattr(part, "grad_fn", None) for part in parts]
    seen, found = set(nodes), set()
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        if (leaf := getattr(node, "variable", None)) is not None:
            found.add(id(leaf))
        following = {each for each, _ in node.next_functions} - seen
        seen |= following
        nodes += following
    return found


def _twin(model: Any) -> Any:
    """A copy of a model that has the same parameters, rows and Config, and all else of its own.

    What a person's loss counts or remembers, in buffers or attributes, it changes in the copy.
    """
    shared: list[Any] = [*model.parameters()]
    for module in model.modules():
        shared += (each for each in vars(module).values() if isinstance(each, _SHARED))
    return copy.deepcopy(model, {id(each): each for each in shared})
