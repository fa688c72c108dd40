"""Rows and histories: ours against RecBole's own SequentialDataset on the same file, as ratios
measured in one run.

    python benchmarks/data_pipeline.py --dataset=ml-1m --data_path=<folder>
        [--key=value ...]

Building: reading, filtering, splitting and giving every row its history, each in its own process;
peak memory is counted beyond the imports. Batches: a pass over the training loader, per row, and
RecBole's DIN on either loader's batches, in turns in one process. Attachment: the loader's share of
a DeepFM epoch. RecBole's dataset gets the same shims for current pandas as ours. Run it on a quiet
machine; only the ratios carry over to another one.
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

with compat.anomaly_detection_as_it_was():  # which would slow every step
    from recbole.model.sequential_recommender import DIN

STEPS, ROUNDS = 5, 6  # of DIN's training, on either loader in turn


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


class Training:
    """A model and its batches, a few steps at a time."""

    def __init__(self, config, loader, model_class=None):
        init_seed(config["seed"], True)
        self.model = (model_class or config.model_class)(config, loader.dataset).train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config["learning_rate"])
        self.batches = iter(loader)

    def run(self, steps: int) -> int:
        """Train on up to ``steps`` batches; returns the rows in them."""
        rows = 0
        for _, interaction in zip(range(steps), self.batches):
            interaction = interaction[0] if isinstance(interaction, tuple) else interaction
            loss = self.model.calculate_loss(interaction)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            rows += len(interaction)
        return rows


def train_in_turns(configs: dict, loaders: dict) -> dict:
    """Median seconds a row of RecBole's DIN on each loader; a first round warms up."""
    cases = {name: Training(configs[name], loader, DIN) for name, loader in loaders.items()}
    times = {name: [] for name in cases}
    for _ in range(ROUNDS + 1):
        for name, case in cases.items():
            took, rows = seconds(case.run, STEPS)
            times[name].append(took / rows)
    return {name: pd.Series(each[1:]).median() for name, each in times.items()}


def measure(case: str, argv: list[str]) -> dict:
    """One case, in this process."""
    words = parse_argv(argv)
    name = "DeepFM" if case == "deepfm" else "DIN"
    rest = [w for w in argv if not w.startswith("--dataset=")]
    builds = {"ours": build_ours, "recbole": build_recboles}
    if case == "steps":
        configs = {side: Config(name, words["dataset"], argv=rest) for side in builds}
        return train_in_turns(
            configs, {side: build(configs[side])[1] for side, build in builds.items()}
        )
    config = Config(name, words["dataset"], argv=rest)
    before = peak_memory()
    build_s, (parts, loader) = seconds(builds.get(case, build_ours), config)
    rows = sum(len(part) for part in parts)
    result = {"rows": rows, "build_s": build_s, "build_peak_bytes": peak_memory() - before}
    load_s, _ = seconds(lambda: sum(1 for _ in loader))
    result["load_s_per_row"] = load_s / len(parts[0])
    if case == "deepfm":
        train_s, rows = seconds(Training(config, loader).run, len(loader))
        result["train_s_per_row"] = train_s / rows
    return result


def main(argv: list[str]) -> None:
    if argv and argv[0].startswith("--case="):
        print(json.dumps(measure(argv[0].removeprefix("--case="), argv[1:])))
        return
    results = {}
    for case in ("ours", "recbole", "deepfm", "steps"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, f"--case={case}", *argv],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        results[case] = json.loads(done.stdout.splitlines()[-1])
    ours, host, deepfm, din = (results[case] for case in ("ours", "recbole", "deepfm", "steps"))
    lines = pd.DataFrame(
        [
            ("rows with a history", f"{ours['rows']:,}", f"{host['rows']:,}", ""),
            (
                "building, time",
                f"{ours['build_s']:.1f} s",
                f"{host['build_s']:.1f} s",
                host["build_s"] / ours["build_s"],
            ),
            (
                "building, peak memory",
                f"{ours['build_peak_bytes'] / 2**20:.0f} MiB",
                f"{host['build_peak_bytes'] / 2**20:.0f} MiB",
                host["build_peak_bytes"] / ours["build_peak_bytes"],
            ),
            (
                "loading a row",
                f"{ours['load_s_per_row'] * 1e6:.2f} us",
                f"{host['load_s_per_row'] * 1e6:.2f} us",
                host["load_s_per_row"] / ours["load_s_per_row"],
            ),
            (
                "DIN's training, a row",
                f"{din['ours'] * 1e6:.0f} us",
                f"{din['recbole'] * 1e6:.0f} us",
                din["recbole"] / din["ours"],
            ),
        ],
        columns=["", "ours", "RecBole", "RecBole / ours"],
    )
    print(
        f"{torch.get_num_threads()} "
        f"threads\n{lines.to_string(index=False, float_format='{:.2f}'.format)}"
    )
    share = deepfm["load_s_per_row"] / deepfm["train_s_per_row"]
    print(f"The loader's share of a DeepFM epoch: {share:.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])
