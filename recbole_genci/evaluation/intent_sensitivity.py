"""What a trained GenCI's short-term intent depends on: the target item, the generated cohorts, the
history they read.

H_STI (Eq. 6-9) can have the shape of an intent and still be one thing alone, a mean of the history
for instance, if an attention has not learned to choose. Here each input is exchanged for another
row's, the others kept; how far that moves H_STI, against how much it varies from row to row, is the
input's share of its variance (Sobol's total index, by Jansen's estimator, ``E[(h - h')^2] / 2
Var(h)``). Shares overlap where inputs act together, so that they can sum to more than 1.
"""

from __future__ import annotations

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_genci.evaluation.intents import LoadedRun, choose_rows

TARGET_ITEM, COHORTS, HISTORY = "target item", "generated cohorts", "history"


@torch.no_grad()
def short_term_sensitivity(saved_run: LoadedRun, rows: int, seed: int) -> dict[str, float]:
    """Share of the variance of H_STI that comes from each of its inputs.

    Args:
        saved_run: what ``recbole_genci.load`` returns, of a GenCI with short-term intents.
        rows: of the test part, as many as there are at most; chosen as by ``intent_vectors``, users
            as different as may be.
        seed: of the choice, and of what is exchanged.

    Returns:
        dict: ``'target item'``, ``'generated cohorts'`` and ``'history'``, each from 0 upwards; nan
            where H_STI is the same for
        all rows.
    """
    model, part = saved_run.model.eval(), saved_run.loader("test").dataset
    chosen = choose_rows(part.inter_feat[part.uid_field].numpy(), rows, seed)
    batch = part[torch.from_numpy(chosen)].to(saved_run.config["device"])
    encoded, index = model.encode_histories(batch)
    beams = model.generate_beams(encoded)
    other_target = Interaction(
        batch.interaction | {model.item_field: batch[model.item_field].roll(1, 0)}
    )
    # Histories are in the order of length, then of users and time: the next one would often be the
    # same user's, a click later.
    shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(len(encoded.mask))).to(
        encoded.mask.device
    )
    other_history = encoded._replace(states=encoded.states[shuffled], mask=encoded.mask[shuffled])
    other_beams = type(beams)(*(each[shuffled] for each in beams))
    intent = model.short_term_intent(batch, encoded, index, beams).double()
    variance = (intent - intent.mean(0)).square().sum(1).mean()
    exchanged = {
        TARGET_ITEM: (other_target, encoded, beams),
        COHORTS: (batch, encoded, other_beams),
        HISTORY: (batch, other_history, beams),
    }
    found = {}
    for name, (rows_of, history, generated) in exchanged.items():
        moved = model.short_term_intent(rows_of, history, index, generated).double() - intent
        found[name] = (
            (moved.square().sum(1).mean() / (2 * variance)).item() if variance > 0 else float("nan")
        )
    return found
