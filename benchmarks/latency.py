"""Inference time of several models over one test split, as ratios measured in one process.

    python benchmarks/latency.py --model=LR,DeepFM,DIN,DIEN,GenCI --dataset=ml-100k [--key=value ...]

Models are built, not trained: how long a pass takes does not depend on the weights. Each pass assembles the batches too.
Run it on a quiet machine; only the ratios carry over to another one.
"""

import sys

import pandas as pd
import torch

from recbole_genci.data import create_loaders
from recbole_genci.quick_start import prepare_from_argv
from recbole_genci.trainer import measure_latency

REFERENCE = "DIN"


def main(argv):
    plan = prepare_from_argv(argv)
    rows = {}
    for name, config in plan.configs.items():
        loader = create_loaders(config, plan.parts, plan.semantic_ids)[2]
        model = config.model_class(config, loader.dataset).to(config["device"])
        rows[name] = measure_latency(model, loader, config["device"], config["latency_repeats"])
    table = pd.DataFrame(rows).T
    if REFERENCE in table.index:
        table[f"time / {REFERENCE}'s"] = table["latency_s"] / table.loc[REFERENCE, "latency_s"]
    print(f"{config['dataset']}, {torch.get_num_threads()} threads\n{table.to_string(float_format='{:.3g}'.format)}")


if __name__ == "__main__":
    main(sys.argv[1:])
