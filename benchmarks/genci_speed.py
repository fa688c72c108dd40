"""GenCI's training and inference time against RecBole's unmodified DIN and DIEN, DeepFM, and the
arithmetic, as ratios measured in one process.

    python benchmarks/genci_speed.py --dataset=ml-1m --data_path=<folder>
        --text_encoder=lsa \\
        [--key=value ...]

All read the same rows in batches of the same size, inference too; an epoch has the same number of
steps for all of them, so that the time of a step, batch assembly included, is an epoch's share. The
cases take turns, a few steps and one pass over the test split in each round; reported are medians
over the rounds. Models are not trained beyond the timed steps. On a CPU a profile says where
GenCI's training steps spend their time. Operations are counted: a GPU spends its time launching
them. So is the arithmetic of a prediction (products of matrices), beside what a product of two
1,024 x 1,024 matrices reaches, the limit of any implementation. The encoder (Eq. 4) is timed alone,
beside transformers' T5 of the same sizes. Run it on a quiet machine; only the ratios carry over to
another one. `--rounds=5 --steps=10` are this script's own.
"""

import sys
import time

import pandas as pd
import torch
from timed_case import (
    INFERENCE,
    TRAINING,
    TimedCase,
    assembly,
    flops_a_row,
    medians,
    operations,
    peak_flops,
    shares,
    synchronize,
)
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Stack

from recbole_genci import compat
from recbole_genci.cli import prepare_from_argv
from recbole_genci.config import Config, parse_argv
from recbole_genci.model.genci.intent import IntentGenerator

with compat.anomaly_detection_as_it_was():  # which would slow all of them
    from recbole.model.sequential_recommender import DIEN, DIN

ITEM = {
    "history_tokens": "item",
    "group_rows_by_history": True,  # as in earlier measurements; rows one by one are the default
    "history_attention": "bidirectional",
}
CODE = ITEM | {"history_tokens": "code"}
CAUSAL = {"history_attention": "causal"}
# Case: the model whose configuration it takes, the class, and what differs from it.
CASES = {
    "DIN": ("DIN", DIN, {}),
    "DIN, attention [64] with Dice": (
        "DIN",
        None,
        {"attention_mlp_hidden_size": [64], "attention_activation": "dice"},
    ),
    "DIEN": ("DIEN", DIEN, {}),
    "DeepFM": ("DeepFM", None, {}),
    "GenCI, item tokens": ("GenCI", None, ITEM),
    "GenCI, item tokens, rows shuffled one by one": (
        "GenCI",
        None,
        ITEM | {"group_rows_by_history": False},
    ),
    "GenCI, item tokens, causal": ("GenCI", None, ITEM | CAUSAL),
    "GenCI, code tokens": ("GenCI", None, CODE),
    "GenCI, code tokens, causal": ("GenCI", None, CODE | CAUSAL),
}
GRAPHS = {"cuda_graphs": True}
ON_A_GPU = {
    "DeepFM, graphs": ("DeepFM", None, GRAPHS),
    "GenCI, graphs": ("GenCI", None, GRAPHS),
    "GenCI, causal, graphs": ("GenCI", None, GRAPHS | CAUSAL),
    "GenCI, code tokens, graphs": ("GenCI", None, GRAPHS | {"history_tokens": "code"}),
}


def measure_models(
    plan, dataset: str, argv: list[str], rounds: int, steps: int
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Median seconds of each case and how many operations they are; and, of a CPU, where GenCI's
    training steps spend it.
    """
    on_gpu = next(iter(plan.configs.values()))["device"].type == "cuda"
    cases = {
        label: TimedCase(Config(name, dataset, config_dict=keys, argv=argv), model_class, plan)
        for label, (name, model_class, keys) in (CASES | (ON_A_GPU if on_gpu else {})).items()
    }
    counts = pd.DataFrame({label: operations(case) for label, case in cases.items()}).T
    seconds = medians(cases, rounds, steps).join(counts.add_suffix(", operations"))
    rows = len(plan.parts[2])
    peak = peak_flops(next(iter(cases.values())).device)
    seconds["MFLOP a row, inference"] = [flops_a_row(case) / 1e6 for case in cases.values()]
    seconds["share of peak"] = (
        seconds["MFLOP a row, inference"] * 1e6 * rows / seconds[INFERENCE] / peak
    )
    each = cases.values()
    seconds["assembly of 4,096 rows, ms"] = [assembly(case, 4096) * 1e3 for case in each]
    if next(iter(cases.values())).device.type != "cpu":
        return seconds, None
    return seconds, pd.DataFrame(
        {label: shares(case, steps) for label, case in cases.items() if label.startswith("GenCI")}
    ).T


def measure_encoder(config, rows: int, rounds: int) -> dict[str, float]:
    """Median seconds of encoding ``rows`` full histories forward and backward, by our encoder and
    by transformers'.
    """
    width, items = config["intent_width"], config["MAX_ITEM_LIST_LENGTH"]
    generator = (
        IntentGenerator(
            [256] * 4,
            width=width,
            num_layers=config["intent_layers"],
            num_heads=config["intent_heads"],
            feed_forward_size=config["intent_feed_forward_size"],
            dropout=config["intent_dropout"],
            max_history=items,
        )
        .to(config["device"])
        .train()
    )
    stack = (
        T5Stack(
            T5Config(
                vocab_size=8,
                d_model=width,
                d_kv=width // config["intent_heads"],
                num_heads=config["intent_heads"],
                d_ff=config["intent_feed_forward_size"],
                num_layers=config["intent_layers"],
                is_decoder=False,
                dropout_rate=config["intent_dropout"],
                use_cache=False,
                is_encoder_decoder=False,
            )
        )
        .to(config["device"])
        .train()
    )
    codes = torch.randint(256, (rows, items, 4), device=config["device"])
    length = torch.randint(1, items + 1, (rows,), device=config["device"])
    mask = torch.arange(items, device=config["device"]) < length.unsqueeze(1)
    ways = {
        "ours": lambda: generator.encode(codes, length).states,
        "transformers": lambda: (
            stack(
                inputs_embeds=generator.token_embedding(codes + generator.offsets).sum(2),
                attention_mask=mask,
            ).last_hidden_state
        ),
    }
    times = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way().sum().backward()
            synchronize(config["device"])
            times[name].append(time.perf_counter() - start)
    return {name: pd.Series(each[1:]).median() for name, each in times.items()}


def main(argv: list[str]) -> None:
    words = parse_argv(argv)
    rounds, steps = int(words.pop("rounds", 5)), int(words.pop("steps", 10))
    rest = [
        word for word in argv if word.partition("=")[0] not in ("--rounds", "--steps", "--dataset")
    ]
    if "eval_batch_size" not in words:  # inference in batches of training's size
        rest.append(
            f"--eval_batch_size={Config('GenCI', words['dataset'], argv=rest)['train_batch_size']}"
        )
    plan = prepare_from_argv(
        ["--model=GenCI,DIN,DIEN,DeepFM", f"--dataset={words['dataset']}", *rest]
    )
    table, profile = measure_models(plan, words["dataset"], rest, rounds, steps)
    for reference in ("DIN", "DIEN", "DeepFM"):
        for what in (TRAINING, INFERENCE):
            table[f"{what} / {reference}'s"] = table[what] / table.loc[reference, what]
    config = plan.configs["GenCI"]
    print(
        f"{words['dataset']}, {config['device']}, {torch.get_num_threads()} threads, seconds and "
        "ratios\n"
        f"{table.to_string(float_format='{:.3g}'.format)}"
    )
    if profile is not None:
        print(
            f"Shares of a training step's time\n{profile.to_string(float_format='{:.1%}'.format)}"
        )
    encoder = measure_encoder(config, config["train_batch_size"], rounds)
    print(
        f"The encoder alone, {config['train_batch_size']} histories, forward and backward: "
        "transformers' T5 takes "
        f"{encoder['transformers'] / encoder['ours']:.2f} times as long as ours"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
