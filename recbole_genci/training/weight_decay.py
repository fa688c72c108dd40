"""Weight decay: how strong it is on data of any size (``weight_decay``), and what it shrinks
(``weight_decay_of``).
"""

from __future__ import annotations

from torch import nn

from recbole_genci.config.kind import per_rows


def decay_in(weight_decay: float | str, rows: int | None) -> float:
    """The number that ``weight_decay`` says for ``rows`` training rows.

    ``N/rows`` is the decay of a Gaussian prior on the weights. The loss of a batch is a mean over
    rows, so the more rows there are, the less a prior weighs beside a mean: its decay is N divided
    by their number, whatever the size of a batch.

    Args:
        weight_decay: the key's value, a number or a text such as ``200/rows``.
        rows: how many rows are trained on in an epoch.

    Raises:
        ValueError: the value needs the number of rows, and there is none.
    """
    number = per_rows(weight_decay)
    if number is None:
        return float(weight_decay)
    if not rows:
        raise ValueError(f"weight_decay: '{weight_decay}' needs training rows, and there are none.")
    return number / rows


def decay_groups(model: nn.Module, *, first_order: bool = True) -> list[dict]:
    """A model's parameters in two groups, so that an optimiser decays only embedding tables.

    Embeddings of fields overfit if there are few rows; layers that act on all rows do not, and L2
    within Adam can switch off a branch whose gradients are small. FuxiCTR's
    ``embedding_regularizer`` makes the same distinction. The tables include GenCI's code
    embeddings, which its generator's output shares, and the tables of its teacher.

    Args:
        first_order: whether tables of one number a value decay too, which are the weights of LR and
            of the first-order part of others. Within Adam, decay that suits vectors erases them.
    """
    tables = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Embedding) and (first_order or module.embedding_dim > 1)
    }
    parameters = list(model.parameters())
    return [
        {"params": [each for each in parameters if id(each) in tables]},
        {"params": [each for each in parameters if id(each) not in tables], "weight_decay": 0.0},
    ]


def decays(model: nn.Module, kind: str | None) -> bool:
    """Whether a trained model has weights that ``weight_decay_of: <kind>`` lets decay.

    RecBole gives LR vectors that it never reads: weights without a gradient do not decay.
    """
    if not kind or all(each.grad is None for each in model.parameters()):
        return True
    group, _ = decay_groups(model, first_order=kind == "embeddings")
    return any(each.grad is not None for each in group["params"])
