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
    # Histories are sorted by length, user and time, so that the next one would often be of the same
    # user, one click later.
    shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(len(encoded.mask))).to(
        encoded.mask.device
    )
    other_history = encoded.rows(shuffled)
    other_beams = type(beams)(*(each[shuffled] for each in beams))
    intent = model.short_term_intent(batch, encoded, index, beams).double()
    variance = (intent - intent.mean(0)).square().sum(1).mean()
    exchanged = {
        TARGET_ITEM: (other_target, encoded, beams),
        COHORTS: (batch, encoded, other_beams),
        HISTORY: (batch, other_history, beams),
    }
    shares = {}
    for name, (rows_of, history, generated) in exchanged.items():
        change = model.short_term_intent(rows_of, history, index, generated).double() - intent
        share = change.square().sum(1).mean() / (2 * variance)
        shares[name] = share.item() if variance > 0 else float("nan")
    return shares
