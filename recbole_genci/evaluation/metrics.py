"""RelaImpr (Eq. 13), and the range of LogLoss."""

from __future__ import annotations

import numpy as np

#: The least probability of a row's label in RecBole's LogLoss, and so in all of ours.
LEAST_CHANCE = 1e-15
#: AUC up to which a base model is too near a guess: a table shows no RelaImpr over it.
LEAST_BASE_AUC = 0.55


def rela_impr(auc: float, base_auc: float) -> float:
    """Relative improvement of an AUC over a base model's, in percent (Eq. 13; Yan et al., 2014).

    0.5 is the AUC of a guess, so only what lies above it counts.

    Raises:
        ValueError: the base model is no better than a guess.
    """
    if base_auc <= 0.5:
        raise ValueError(
            f"RelaImpr is undefined for a base AUC of {base_auc}: it must be above 0.5."
        )
    return ((auc - 0.5) / (base_auc - 0.5) - 1) * 100


def why_no_rela_impr(base: str, base_auc: float | None) -> str | None:
    """Why a table shows no RelaImpr over a base model, in a sentence; None if it shows it.

    Args:
        base: the base model's name.
        base_auc: its AUC; None or NaN if it has none.
    """
    if base_auc is None or base_auc != base_auc:
        return f"No RelaImpr: {base}, its base, is not among the lines that finished with an AUC."
    if base_auc <= LEAST_BASE_AUC:
        return (
            f"No RelaImpr: the AUC of {base}, its base, is {base_auc:.4f}. Up to "
            f"{LEAST_BASE_AUC} it is too near 0.5, a guess, to divide by what lies above."
        )
    return None


def off_the_ends(scores: np.ndarray) -> np.ndarray:
    """Probabilities as RecBole's LogLoss takes them: 0 and 1 as of ``LEAST_CHANCE`` from them."""
    return np.clip(np.asarray(scores, dtype=np.float64), LEAST_CHANCE, 1 - LEAST_CHANCE)
