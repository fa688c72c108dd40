"""How long a pass over a split takes."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import AbstractRecommender


def measure_latency(
    model: AbstractRecommender,
    loader: AbstractDataLoader,
    device: torch.device,
    repeats: int,
    predict: Callable | None = None,
) -> dict:
    """Measure the time of whole passes over a split: assembling batches and predicting.

    Args:
        predict: instead of the model's own.

    Returns:
        dict: ``latency_s``, the median of ``repeats`` passes after one warm-up, and ``rows_per_s``,
            the number of rows divided by that median.
    """
    model.eval()
    predict = predict or model.predict
    passes = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = perf_counter()
            for interaction, *_ in loader:
                predict(interaction.to(device))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            passes.append(perf_counter() - start)
    latency = float(np.median(passes[1:]))
    return {"latency_s": latency, "rows_per_s": loader.sample_size / latency}
