"""Scoring the rows of a loader, and RecBole's metrics of those scores."""

from __future__ import annotations

from itertools import islice

import torch
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.evaluator import Evaluator
from tqdm import tqdm

from recbole_genci.utils.distributed import ALONE, Processes


@torch.no_grad()
def score_rows(
    model, loader, device, show_progress: bool = False, processes: Processes = ALONE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Predict every row of a loader.

    RecBole's collector joins the scores anew after every batch (collector.py:44), in time that grows with the square of the
    rows; here they are joined once.

    Several processes score whole batches in turn and exchange them: each row once, and as one process scores it.

    Returns:
        click probabilities ``[R]`` and labels ``[R]``, in the loader's order, on the CPU.

    Raises:
        FloatingPointError: a score that is not finite, which scikit-learn's curve would take for the best score of all.
    """
    model.eval()
    batches = []
    label_field = loader.config["LABEL_FIELD"]
    shown = tqdm(loader, desc="Evaluate", ncols=100) if show_progress else loader
    for interaction, *_ in islice(shown, processes.rank, None, processes.size):
        batches.append((model.predict(interaction.to(device)), interaction[label_field]))
    batches = processes.join_batches([(scores.cpu(), labels) for scores, labels in batches])
    scores, labels = map(torch.cat, zip(*batches))
    if not torch.isfinite(scores).all():
        raise FloatingPointError(
            f"{type(model).__name__} predicted {int((~torch.isfinite(scores)).sum())} of {len(scores)} scores that are not "
            "finite. Lower learning_rate or set clip_grad_norm: {max_norm: 5.0}."
        )
    return scores, labels


def metrics_of(config, scores: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """The configuration's ``metrics`` of scores ``[R]`` against labels ``[R]``, from RecBole's registry."""
    collected = DataStruct()
    collected.set("rec.score", scores)
    collected.set("data.label", labels)
    return {name: float(value) for name, value in Evaluator(config).evaluate(collected).items()}
