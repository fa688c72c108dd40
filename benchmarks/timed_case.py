"""A model that is timed: training steps and passes over the test split, in turns with others in one
process.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Mapping
from itertools import islice
from unittest.mock import patch

import pandas as pd
import torch
from recbole.utils import init_seed
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from recbole_genci.data import create_loaders
from recbole_genci.model.cuda_graphs import FIRST_CAPTURED, Replayed, uses_graphs
from recbole_genci.model.genci import genci, generation, intent, memory, numerics

TRAINING, INFERENCE = "training step", "inference"  # columns of medians()


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class TimedCase:
    """A model with its loaders, ready for another round; it is not trained beyond the timed steps.

    Args:
        config: of the model.
        model_class: the class, or ``None`` for the one of the configuration.
        plan: rows and semantic IDs, which all cases share.
    """

    def __init__(self, config, model_class, plan):
        self.device = config["device"]
        init_seed(config["seed"], config["reproducibility"])
        self.train, _, self.test = create_loaders(config, plan.parts, plan.semantic_ids)
        self.model = (model_class or config.model_class)(config, self.train.dataset).to(self.device)
        self.loss, self.predict = self.model.calculate_loss, self.model.predict
        self.replays = uses_graphs(config)
        if self.replays:
            self.loss, self.predict = (
                Replayed(each, self.model, self.device) for each in (self.loss, self.predict)
            )
        # Fused as the trainer's.
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config["learning_rate"], fused=self.replays or None
        )
        self.batches = iter(self.train)

    def warm_up(self) -> None:
        """Do what happens once: allocations, and graphs of the shapes that batches have."""
        self.training(20 if self.replays else 2)
        for _ in range(FIRST_CAPTURED if self.replays else 1):
            self.inference()

    def training(self, steps: int) -> float:
        """Seconds of a training step, batch assembly included."""
        self.model.train()
        start = time.perf_counter()
        for _ in range(steps):
            batch = next(self.batches, None)
            if batch is None:
                self.batches = iter(self.train)
                batch = next(self.batches)
            losses = self.loss(batch.to(self.device))
            self.optimizer.zero_grad()
            (sum(losses) if isinstance(losses, tuple) else losses).backward()
            self.optimizer.step()
        synchronize(self.device)
        return (time.perf_counter() - start) / steps

    def inference(self) -> float:
        """Seconds of one pass over the test split, batch assembly included."""
        self.model.eval()
        start = time.perf_counter()
        with torch.inference_mode():
            for batch, *_ in self.test:
                self.predict(batch.to(self.device))
        synchronize(self.device)
        return time.perf_counter() - start


class _Counter(TorchDispatchMode):
    """Counts operations that compute or copy; views cost a GPU nothing, ``_unsafe_view`` included,
    which torch lists as none.
    """

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operations += not (func.is_view or func is torch.ops.aten._unsafe_view.default)
        return func(*args, **(kwargs or {}))


class _Arithmetic(TorchDispatchMode):
    """Counts floating-point operations of matrix products, as torch's own counter does; that one
    hooks modules, which fails without gradients.
    """

    def __init__(self):
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        self.flops += formula(*args, **(kwargs or {}), out_val=result) if formula else 0
        return result


def operations(case: TimedCase) -> dict[str, int]:
    """How many operations a training step (optimiser apart) and the prediction of a batch are.

    Where each is small, a GPU waits for them to be launched. Counted along the paths that GenCI
    takes on a GPU, whatever the device: all histories encoded at once, torch's dropout and norm.
    Where a GPU has one kernel for these and a CPU a few operations, the CPU's are counted.
    """
    batch, found = next(iter(case.train)).to(case.device), {}
    with contextlib.ExitStack() as stack:
        for module in (generation, genci, intent, memory, numerics):
            stack.enter_context(patch.object(module, "on_cpu", lambda x: False))
        case.model.train()
        with _Counter() as counter:
            losses = case.model.calculate_loss(batch)
            (sum(losses) if isinstance(losses, tuple) else losses).backward()
        found[TRAINING] = counter.operations
        case.model.eval()
        with torch.no_grad(), _Counter() as counter:
            case.model.predict(batch)
        return found | {INFERENCE: counter.operations}


def flops_a_row(case: TimedCase) -> float:
    """Floating-point operations of predicting one row of the test split, in matrix products."""
    batches = [batch for batch, *_ in islice(case.test, 4)]
    case.model.eval()
    with torch.no_grad(), _Arithmetic() as counted:
        for batch in batches:
            case.model.predict(batch.to(case.device))
    return counted.flops / sum(map(len, batches))


def peak_flops(device: torch.device) -> float:
    """Floating-point operations a second of a product of two 1,024 x 1,024 matrices; best of 20."""
    x, times = torch.randn(1024, 1024, device=device), []
    for _ in range(20):
        start = time.perf_counter()
        x @ x
        synchronize(device)
        times.append(time.perf_counter() - start)
    return 2 * 1024**3 / min(times)


def assembly(case: TimedCase, rows: int) -> float:
    """Seconds until a batch of test rows is on the device; median of 20."""
    part, times = case.test.dataset, []
    for start in range(0, 20 * rows, rows):
        index = torch.arange(start, start + rows) % len(part)
        begin = time.perf_counter()
        part[index].to(case.device)
        synchronize(case.device)
        times.append(time.perf_counter() - begin)
    return float(pd.Series(times).median())


_KINDS = {
    "products within attention": "^(bmm|baddbmm)$",
    "products with weights": "^(mm|addmm)$",
    "softmax": "softmax",
    "random numbers": "random_|bernoulli|dropout",
    "look-ups": "embedding|index|gather|scatter",
}
_REST = "element by element"


def shares(case: TimedCase, steps: int) -> pd.Series:
    """What share of a CPU's time training steps spend in torch's operations of which kind,
    optimiser included; they sum to 1.
    """
    case.training(1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        case.training(steps)
    found = dict.fromkeys([*_KINDS, _REST], 0.0)
    for event in profile.key_averages():
        operation = event.key.removeprefix("aten::")
        if operation != event.key:
            kind = next(
                (kind for kind, pattern in _KINDS.items() if re.search(pattern, operation)), _REST
            )
            found[kind] += event.self_cpu_time_total
    return pd.Series(found) / sum(found.values())


def medians(cases: Mapping[str, TimedCase], rounds: int, steps: int) -> pd.DataFrame:
    """Median seconds over the rounds, a line for every case; each round runs every case once."""
    for case in cases.values():
        case.warm_up()
    times = {label: {TRAINING: [], INFERENCE: []} for label in cases}
    for number in range(rounds):
        for label, case in cases.items():
            times[label][TRAINING].append(case.training(steps))
            times[label][INFERENCE].append(case.inference())
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return pd.DataFrame(
        {
            label: {what: pd.Series(each).median() for what, each in case.items()}
            for label, case in times.items()
        }
    ).T
