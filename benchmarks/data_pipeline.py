"""Rows and histories: ours against RecBole's own SequentialDataset on the same file, as ratios measured in one run.

    python benchmarks/data_pipeline.py --dataset=ml-1m --data_path=<folder that holds ml-1m/> [--key=value ...]

Building: reading, filtering, splitting and giving every row its history; each in a process of its own, whose peak memory is
what it takes beyond the imports. Batches: a pass over the training loader, and DIN's training steps on the first of them,
per row. Attachment: the loader's share of a DeepFM epoch. RecBole's dataset is mended for current pandas by the same shims
as ours. Run it on a quiet machine; only the ratios carry over to another one.
"""

import json
import resource
import subprocess
import sys
import time

import pandas as pd
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.utils import get_dataloader
from recbole.utils import init_seed

from recbole_genci import compat
from recbole_genci.config import Config, parse_argv
from recbole_genci.data import create_dataset, create_loaders
from recbole_genci.data.dataset import CTRDataset

STEPS = 20


class HostDataset(SequentialDataset):
    """RecBole's own, with what it needs on pandas 3 (dataset.py:648, 1217)."""

    _fill_nan = CTRDataset._fill_nan

    def _data_processing(self):
        with compat.series_agg_len_by_row():
            super()._data_processing()


def peak_memory() -> int:
    """Bytes, of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def seconds(work, *args):
    start = time.perf_counter()
    result = work(*args)
    return time.perf_counter() - start, result


def build_ours(config):
    parts = create_dataset(config).build()
    return parts, create_loaders(config, parts)[0]


def build_recboles(config):
    parts = HostDataset(config).build()
    return parts, get_dataloader(config, "train")(config, parts[0], None, shuffle=True)


def train(config, loader, steps: int) -> None:
    init_seed(config["seed"], True)
    model = config.model_class(config, loader.dataset).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config["learning_rate"])
    for _, interaction in zip(range(steps), loader):
        interaction = interaction[0] if isinstance(interaction, tuple) else interaction
        loss = model.calculate_loss(interaction)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def measure(case: str, argv: list[str]) -> dict:
    """One case, in this process."""
    words = parse_argv(argv)
    name = "DeepFM" if case == "deepfm" else "DIN"
    config = Config(name, words["dataset"], argv=[w for w in argv if not w.startswith("--dataset=")])
    before = peak_memory()
    build_s, (parts, loader) = seconds(build_recboles if case == "recbole" else build_ours, config)
    rows = sum(len(part) for part in parts)
    result = {"rows": rows, "build_s": build_s, "build_peak_bytes": peak_memory() - before}
    load_s, _ = seconds(lambda: sum(1 for _ in loader))
    result["load_s_per_row"] = load_s / len(parts[0])
    steps = len(loader) if case == "deepfm" else min(STEPS, len(loader))
    train_s, _ = seconds(train, config, loader, steps)
    result["train_s_per_row"] = train_s / min(steps * config["train_batch_size"], len(parts[0]))
    return result


def main(argv: list[str]) -> None:
    if argv and argv[0].startswith("--case="):
        print(json.dumps(measure(argv[0].removeprefix("--case="), argv[1:])))
        return
    results = {}
    for case in ("ours", "recbole", "deepfm"):
        done = subprocess.run([sys.executable, "-W", "ignore", __file__, f"--case={case}", *argv], check=True,
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
        results[case] = json.loads(done.stdout.splitlines()[-1])
    ours, host, deepfm = (results[case] for case in ("ours", "recbole", "deepfm"))
    lines = pd.DataFrame(
        [
            ("rows with a history", f"{ours['rows']:,}", f"{host['rows']:,}", ""),
            ("building, time", f"{ours['build_s']:.1f} s", f"{host['build_s']:.1f} s", host["build_s"] / ours["build_s"]),
            ("building, peak memory", f"{ours['build_peak_bytes'] / 2**20:.0f} MiB",
             f"{host['build_peak_bytes'] / 2**20:.0f} MiB", host["build_peak_bytes"] / ours["build_peak_bytes"]),
            ("loading a row", f"{ours['load_s_per_row'] * 1e6:.2f} us", f"{host['load_s_per_row'] * 1e6:.2f} us",
             host["load_s_per_row"] / ours["load_s_per_row"]),
            ("DIN's training, a row", f"{ours['train_s_per_row'] * 1e6:.0f} us", f"{host['train_s_per_row'] * 1e6:.0f} us",
             host["train_s_per_row"] / ours["train_s_per_row"]),
        ], columns=["", "ours", "RecBole", "RecBole / ours"])  # fmt: skip
    print(f"{torch.get_num_threads()} threads\n{lines.to_string(index=False, float_format='{:.2f}'.format)}")
    share = deepfm["load_s_per_row"] / deepfm["train_s_per_row"]
    print(f"The loader's share of a DeepFM epoch: {share:.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])
