"""GenCI's training and inference time against RecBole's unmodified DIN and DIEN, as ratios measured in one process.

    python benchmarks/genci_speed.py --dataset=ml-1m --data_path=<folder that holds ml-1m/> --text_encoder=lsa [--key=value ...]

All read the same rows in batches of the same size; an epoch has the same number of steps for all of them, so that the time of a
step, batch assembly included, is an epoch's share. The cases take turns, a few steps and one pass over the test split in
each round; reported are medians over the rounds. Models are not trained beyond the timed steps. A second table takes the
encoder alone (Eq. 4), beside transformers' T5 of the same sizes. The operations of a step and of a prediction are counted too:
a GPU spends its time launching them. Run it on a quiet machine; only the ratios carry over to
another one. `--rounds=5 --steps=10` are this script's own.
"""

import sys
import time

import pandas as pd
import torch
from timed_case import INFERENCE, TRAINING, TimedCase, medians, operations, synchronize
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Stack

from recbole_genci import compat
from recbole_genci.config import Config, parse_argv
from recbole_genci.model.intent import IntentGenerator
from recbole_genci.quick_start import prepare_from_argv

with compat.anomaly_detection_as_it_was():  # which would slow all of them
    from recbole.model.sequential_recommender import DIEN, DIN

# Case: the model whose configuration it takes, the class, and what differs from it.
CASES = {
    "DIN": ("DIN", DIN, {}),
    "DIEN": ("DIEN", DIEN, {}),
    "GenCI, item tokens": ("GenCI", None, {"history_tokens": "item", "group_rows_by_history": True}),
    "GenCI, item tokens, rows shuffled one by one": ("GenCI", None, {"history_tokens": "item", "group_rows_by_history": False}),
    "GenCI, code tokens": ("GenCI", None, {"history_tokens": "code", "group_rows_by_history": True}),
}


def measure_models(plan, dataset: str, argv: list[str], rounds: int, steps: int) -> pd.DataFrame:
    """Median seconds of each case, and how many operations they are."""
    cases = {label: TimedCase(Config(name, dataset, config_dict=keys, argv=argv), model_class, plan)
             for label, (name, model_class, keys) in CASES.items()}  # fmt: skip
    counts = pd.DataFrame({label: operations(case) for label, case in cases.items()}).T
    return medians(cases, rounds, steps).join(counts.add_suffix(", operations"))


def measure_encoder(config, rows: int, rounds: int) -> dict[str, float]:
    """Median seconds of encoding ``rows`` full histories forward and backward, by our encoder and by transformers'."""
    width, items = config["intent_width"], config["MAX_ITEM_LIST_LENGTH"]
    generator = IntentGenerator([256] * 4, width=width, num_layers=config["intent_layers"], num_heads=config["intent_heads"],
                                feed_forward_size=config["intent_feed_forward_size"], dropout=config["intent_dropout"],
                                max_history=items).to(config["device"]).train()  # fmt: skip
    stack = T5Stack(T5Config(vocab_size=8, d_model=width, d_kv=width // config["intent_heads"], num_heads=config["intent_heads"],
                             d_ff=config["intent_feed_forward_size"], num_layers=config["intent_layers"], is_decoder=False,
                             dropout_rate=config["intent_dropout"], use_cache=False,
                             is_encoder_decoder=False)).to(config["device"]).train()  # fmt: skip
    codes = torch.randint(256, (rows, items, 4), device=config["device"])
    length = torch.randint(1, items + 1, (rows,), device=config["device"])
    mask = torch.arange(items, device=config["device"]) < length.unsqueeze(1)
    ways = {
        "ours": lambda: generator.encode(codes, length).states,
        "transformers": lambda: (
            stack(
                inputs_embeds=generator.token_embedding(codes + generator.offsets).sum(2), attention_mask=mask
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
    rest = [word for word in argv if word.partition("=")[0] not in ("--rounds", "--steps", "--dataset")]
    plan = prepare_from_argv(["--model=GenCI,DIN,DIEN", f"--dataset={words['dataset']}", *rest])
    table = measure_models(plan, words["dataset"], rest, rounds, steps)
    for reference in ("DIN", "DIEN"):
        for what in (TRAINING, INFERENCE):
            table[f"{what} / {reference}'s"] = table[what] / table.loc[reference, what]
    config = plan.configs["GenCI"]
    print(f"{words['dataset']}, {config['device']}, {torch.get_num_threads()} threads, seconds and ratios\n"
          f"{table.to_string(float_format='{:.3g}'.format)}")  # fmt: skip
    encoder = measure_encoder(config, config["train_batch_size"], rounds)
    print(f"The encoder alone, {config['train_batch_size']} histories, forward and backward: transformers' T5 takes "
          f"{encoder['transformers'] / encoder['ours']:.2f} times as long as ours")  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
