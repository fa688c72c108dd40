"""Rows a second of every model, in training and in inference, as ratios measured in one process.

    python benchmarks/model_speed.py --dataset=ml-100k [--model=DeepFM,DIN,GenCI] [--key=value ...]

All models of Table 3, or those named, read the same rows with their own properties. They take
turns, a few steps and one pass over the test split in each round; reported are medians over the
rounds. Models are not trained beyond the timed steps: how long one takes does not depend on its
weights. Where DIN or DIEN is among them, so is RecBole's own class, whose scores ours gives in less
time. The paper's column is of ML-1M (its Table 3). Run it on a quiet machine; only the ratios carry
over to another one. `--rounds=5 --steps=10` are this script's own.
"""

import sys

import pandas as pd
import torch
from timed_case import INFERENCE, TRAINING, TimedCase, medians

from recbole_genci import compat
from recbole_genci.cli import prepare_from_argv
from recbole_genci.config import parse_argv
from recbole_genci.experiments import paper

with compat.anomaly_detection_as_it_was():  # which would slow all of them
    from recbole.model.sequential_recommender import DIEN, DIN

MODELS = "LR,FwFM,NFM,PNN,FiGNN,DeepFM,DCNV2,AutoInt+,xDeepFM,AFN+,RFM,DIN,DIEN,MIRRN,SFG,GenCI"
RECBOLE = {"DIN": DIN, "DIEN": DIEN}
REFERENCES = ("DeepFM", "RecBole's DIN")


def main(argv: list[str]) -> None:
    words = parse_argv(argv)
    rounds, steps = int(words.pop("rounds", 5)), int(words.pop("steps", 10))
    rest = [word for word in argv if word.partition("=")[0] not in ("--rounds", "--steps")]
    if "model" not in words:
        rest.append(f"--model={MODELS}")
    plan = prepare_from_argv(rest)
    cases = {name: TimedCase(config, None, plan) for name, config in plan.configs.items()}
    cases |= {
        f"RecBole's {name}": TimedCase(plan.configs[name], RECBOLE[name], plan)
        for name in cases
        if name in RECBOLE
    }
    seconds = medians(cases, rounds, steps)
    config = next(iter(plan.configs.values()))
    table = pd.DataFrame(
        {
            "training [rows/s]": config["train_batch_size"] / seconds[TRAINING],
            "inference [rows/s]": len(plan.parts[2]) / seconds[INFERENCE],
        }
    )
    printed = pd.Series(
        {
            name: paper.figure(3, "ml-1m", name.removeprefix("RecBole's "), "latency [s]")
            for name in table.index
        },
        dtype=float,
    )
    for reference in REFERENCES:
        if reference in table.index:
            table[f"training time / {reference}'s"] = (
                seconds[TRAINING] / seconds.loc[reference, TRAINING]
            )
            table[f"inference time / {reference}'s"] = (
                seconds[INFERENCE] / seconds.loc[reference, INFERENCE]
            )
            table[f"the paper's inference time (ml-1m) / {reference}'s"] = (
                printed / printed[reference]
            )
    print(
        f"{config['dataset']}, {config['device']}, {torch.get_num_threads()} threads, training in "
        "batches of "
        f"{config['train_batch_size']:,}, inference of {config['eval_batch_size']:,}\n"
        f"{table.to_string(float_format='{:.3g}'.format)}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
