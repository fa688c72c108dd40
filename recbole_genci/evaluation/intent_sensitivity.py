"""How much a trained GenCI's short-term intent depends on target item, generated cohorts, history.

If an attention has not learned to choose, H_STI (Eq. 6-9) may depend on one input alone, and be for
instance a mean of the history. Here one input is taken from another row, and the others stay. How
much that changes H_STI, relative to its variation over rows, is the input's share of the variance:
Sobol's total index, by Jansen's estimator ``E[(h - h')^2] / 2 Var(h)``. If inputs act together,
their shares overlap, and the sum may exceed 1.
"""

from __future__ import annotations

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_genci.evaluation.intents import LoadedRun, choose_rows

TARGET_ITEM, COHORTS, HISTORY = "target item", "generated cohorts", "history"


@torch.no_grad()
def short_term_sensitivity(saved_run: LoadedRun, rows: int, seed: int) -> dict[str, float]:
    """The share of the variance of H_STI that comes from each of its inputs.

    Args:
        saved_run: a loaded run (``recbole_genci.load``) of a GenCI with short-term intents.
        rows: number of test rows, at most all; chosen as by ``intent_vectors``, from as many users
            as possible.
        seed: seed of the choice of rows, and of the exchange.

    Returns:
        dict: ``'target item'``, ``'generated cohorts'`` and ``'history'``, each 0 or more; nan if
            H_STI is the same for all rows.
    """
    model, part = saved_run.model.eval(), saved_run.loader("test").dataset
    chosen = choose_rows(part.inter_feat[part.uid_field].numpy(), rows, seed)
    batch = part[torch.from_numpy(chosen)].to(saved_run.config["device"])
    encoded, index = model.encode_histories(batch)
    beams = model.generate_beams(encoded)
    other_target = Interaction(
        batch.interaction | {model.item_field: batch[model.item_field].roll(1, 0)}
    )
    # Another row's: histories that many rows share would else go to all of them at once.
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(chosen)))
    others, each_row = index[order.to(index.device)], torch.arange(len(index), device=index.device)

    def intents(rows_of: Interaction, histories: Tensor, cohorts: Tensor) -> Tensor:
        generated = type(beams)(*(each[cohorts] for each in beams))
        history = encoded.rows(histories)
        return model.short_term_intent(rows_of, history, each_row, generated).double()

    intent = intents(batch, index, index)
    variance = (intent - intent.mean(0)).square().sum(1).mean()
    exchanged = {
        TARGET_ITEM: intents(other_target, index, index),
        COHORTS: intents(batch, index, others),
        HISTORY: intents(batch, others, index),
    }
    shares = {}
    for name, other in exchanged.items():
        share = (other - intent).square().sum(1).mean() / (2 * variance)
        shares[name] = share.item() if variance > 0 else float("nan")
    return shares
