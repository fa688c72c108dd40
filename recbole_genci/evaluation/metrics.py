"""RelaImpr (Eq. 13)."""


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
