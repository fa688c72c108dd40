"""What needs a GPU, in one call of at most nine minutes: parity with a CPU, times, trainings.

    python benchmarks/gpu_check.py --output=<folder> [--dataset=ml-1m] [--data_path=<folder>]
        [--minutes=9] [--side_by_side=4]

It may be called again with the same folder: what is done is not repeated, and trainings go on where
they stopped. Without a GPU everything runs on the CPU, as a rehearsal: give it `--dataset=ml-100k`.

- ``parity.json``: batches looked up on the device, bit for bit; predictions, and the losses of 50
  training steps without dropout, on the device and on the CPU. On a GPU also what CUDA graphs
  (``cuda_graphs``) change, dropout included: only what sums in no fixed order change.
- ``speed.txt``: ``benchmarks/genci_speed.py``, alone on the card.
- ``runs/``: trainings side by side, as many as fit; ``runs.json`` has the metrics of those that
  ended. What comes first in ``TRAININGS`` is trained first.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from recbole.utils import init_seed

from recbole_genci.cli import prepare_from_argv
from recbole_genci.config import Config
from recbole_genci.data import create_loaders
from recbole_genci.model import cuda_graphs as graphs
from recbole_genci.model.cuda_graphs import FIRST_CAPTURED, Replayed

ROOT = Path(__file__).parents[1]
CAUSAL = {"history_attention": "causal"}
REPLAYS = {"cuda_graphs": True}
PARITY: dict[str, tuple[str, dict[str, Any]]] = {
    "DeepFM": ("DeepFM", {}),
    "DIN": ("DIN", {}),
    "GenCI, item": ("GenCI", {}),
    "GenCI, code": ("GenCI", {"history_tokens": "code"}),
    "GenCI, causal": ("GenCI", CAUSAL),
}
REPLAYED = {f"{label}, graphs": case for label, case in PARITY.items()}
REPLAYED["DIEN, graphs"] = "DIEN", {}
WITHOUT_DROPOUT = {"dropout_prob": 0.0, "intent_dropout": 0.0, "sr_dropout_prob": 0.0}
TRAININGS: list[tuple[str, dict[str, Any]]] = [
    *(("GenCI", {"seed": 2020} | keys) for keys in (REPLAYS, {})),
    *(
        ("GenCI", {"seed": seed} | keys)
        for seed in (2020, 2021, 2022)
        for keys in (REPLAYS, REPLAYS | CAUSAL)
        if (seed, keys) != (2020, REPLAYS)
    ),
    *((model, {"seed": seed}) for seed in (2020, 2021, 2022) for model in ("DeepFM", "MIRRN")),
]
STEPS, ROWS = 50, 1024
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# Seconds at the end that are kept for stopping trainings and writing the summary.
CLOSING = 20


def parity(rest: list[str], dataset: str) -> dict[str, dict[str, float]]:
    """Largest differences between the device and the CPU, by case."""
    found = {}
    plan = prepare_from_argv(["--model=DeepFM,DIN,DIEN,GenCI", f"--dataset={dataset}", *rest])
    for label, (name, keys) in PARITY.items():
        own = keys | (WITHOUT_DROPOUT if name == "GenCI" else {"dropout_prob": 0.0})
        config = Config(name, dataset, config_dict=own, argv=rest)
        device = config["device"]
        sides = [_side(config, plan, where) for where in (torch.device("cpu"), device)]
        (here, here_losses, batch), (there, losses, moved) = sides
        for column in batch.columns:
            if not torch.equal(batch[column], moved[column].cpu()):
                raise AssertionError(f"{label}: column {column} differs on {device}.")
        found[label] = _differences(here, there, here_losses, losses)
    if plan.configs["GenCI"]["device"].type == "cuda":
        for label, (name, keys) in REPLAYED.items():
            config = Config(name, dataset, config_dict=keys | REPLAYS, argv=rest)
            found[label] = _differences_of_graphs(config, plan)
    return found


def _differences_of_graphs(config: Config, plan: Any) -> dict[str, float]:
    """The same, between calls that are replayed as graphs and calls that are not."""
    most, device = graphs.MOST_SHAPES, config["device"]
    replayed, replayed_losses, _ = _side(config, plan, device)
    graphs.MOST_SHAPES = 0
    try:
        scores, losses, _ = _side(config, plan, device)
    finally:
        graphs.MOST_SHAPES = most
    return _differences(replayed, scores, replayed_losses, losses)


def _differences(
    here: torch.Tensor, there: torch.Tensor, here_losses: torch.Tensor, losses: torch.Tensor
) -> dict[str, float]:
    relative = ((here_losses - losses).abs() / here_losses.abs()).max()
    return {
        "largest difference of a probability": float((here - there).abs().max()),
        f"largest relative difference of {STEPS} losses": float(relative),
    }


def _side(config: Config, plan: Any, device: torch.device) -> tuple:
    """Predictions before and losses during training on one device, and a batch there."""
    init_seed(config["seed"], True)
    train, _, test = create_loaders(config, plan.parts, plan.semantic_ids)
    model = config.model_class(config, train.dataset).to(device)
    batch = test.dataset[:ROWS].to(device)
    loss_of, predict, times = model.calculate_loss, model.predict, 1
    if config["cuda_graphs"]:
        times = FIRST_CAPTURED + 1
        loss_of, predict = (Replayed(each, model, device) for each in (loss_of, predict))
    model.eval()
    with torch.no_grad():
        scores = [predict(batch).cpu() for _ in range(times)][-1]
    optimizer = torch.optim.Adam(model.parameters(), lr=config["learning_rate"])
    losses = []
    model.train()
    rows = torch.randperm(len(train.dataset), generator=torch.Generator().manual_seed(0))
    for part in rows.split(128)[:STEPS]:
        loss = loss_of(train.dataset[part].to(device))
        loss = sum(loss) if isinstance(loss, tuple) else loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return scores, torch.stack(losses).cpu(), batch


def trainings(
    output: Path, dataset: str, rest: list[str], end: float, side_by_side: int
) -> list[dict[str, Any]]:
    """Train until ``end``, of ``time.monotonic``; returns the metrics of runs that finished."""
    waiting, running = list(TRAININGS), {}
    while (waiting or running) and time.monotonic() < end:
        for child in [each for each in running if each.poll() is not None]:
            print(f"{running.pop(child)}: exit status {child.returncode}", flush=True)
        while waiting and len(running) < side_by_side:
            model, keys = waiting.pop(0)
            name = "-".join([model, *(str(value) for value in keys.values())])
            command = _command(output / "runs" / name, model, dataset, keys, rest)
            if command:
                log = (output / "runs" / f"{name}.log").open("a")
                child = subprocess.Popen(
                    command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | ONE_THREAD
                )
                running[child] = name
        time.sleep(1)
    for child in running:  # which keeps the state of its last epoch
        child.send_signal(signal.SIGINT)
    for child in running:
        child.wait(timeout=CLOSING)
    return [
        {"run": file.parent.parent.name, **json.loads(file.read_text())}
        for file in sorted((output / "runs").glob("*/*/metrics.json"))
    ]


def _command(
    folder: Path, model: str, dataset: str, keys: dict[str, Any], rest: list[str]
) -> list[str] | None:
    """How a run starts, or goes on; None if it has finished."""
    if list(folder.glob("*/metrics.json")):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    script = [sys.executable, str(ROOT / "run_recbole_genci.py")]
    if stopped := sorted(folder.glob("*/training.safetensors")):
        return [*script, f"--resume={stopped[-1].parent}"]
    words = {"model": model, "dataset": dataset, "checkpoint_dir": folder, "diagnostic_rows": 0}
    words |= {"results_dir": folder / "results"} | keys
    return [*script, *(f"--{key}={value}" for key, value in words.items()), *rest]


def main(argv: list[str]) -> None:
    """Do what is left to do, in the time that is given."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--side_by_side", type=int, default=4)
    words, rest = parser.parse_known_args(argv)
    end = time.monotonic() + 60 * words.minutes - CLOSING
    (words.output / "runs").mkdir(parents=True, exist_ok=True)
    file = words.output / "parity.json"
    if not file.exists():
        file.write_text(json.dumps(parity(rest, words.dataset), indent=1))
    print(file.read_text(), flush=True)
    file = words.output / "speed.txt"
    if not file.exists():
        script = str(ROOT / "benchmarks" / "genci_speed.py")
        command = [sys.executable, script, f"--dataset={words.dataset}", "--rounds=2", "--steps=10"]
        left = max(1.0, end - time.monotonic())
        try:
            done = subprocess.run(
                [*command, *rest], stdout=subprocess.PIPE, text=True, timeout=left, check=True
            )
            file.write_text(done.stdout)
        except subprocess.TimeoutExpired:
            print("speed: the time was up; call again, or give more --minutes.", flush=True)
    print(file.read_text() if file.exists() else "", flush=True)
    finished = trainings(words.output, words.dataset, rest, end, words.side_by_side)
    (words.output / "runs.json").write_text(json.dumps(finished, indent=1))
    for run in finished:
        print(run["run"], run["test"], flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
