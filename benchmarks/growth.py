"""What the work costs as a dataset grows: CPU seconds and peak memory by size, as tables.

    python benchmarks/growth.py [--what=items] [--sizes=10000,100000,1000000]
        [--output=benchmarks/growth]

Each size runs in a process of its own, so that its peak memory is its own. CPU seconds are those of
user and system together, of all threads; a busy machine changes them little, but quote figures from
a quiet one. A table goes to ``<output>/<what>.md``, and its figures to ``<output>/<what>.json``.

- rows: what a run does before it trains: files read, rows filtered, split and given histories, and
  the summary of the log.
- prepared: the same for a later run, which finds the prepared rows of an earlier one.
- train: the memory of two processes that train LR on prepared rows, for an epoch, without and with
  `shard_rows`.
- items: semantic IDs of a synthetic catalogue (``lsa`` and ``rkmeans``, 3 x 256 codes): the whole
  build from the .item file to the artifact.
- step: what of GenCI's training step and of its prediction grows with the number of items: cohort
  means, and Adam.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

OUTPUT = Path(__file__).parent / "growth"
THREADS = 1


class Growing(NamedTuple):
    """Something that grows.

    Attributes:
        what: what is counted, for the table's first column.
        sizes: the sizes that are measured.
        prepare: writes the input of a size into a folder; not measured.
        measure: does the work on that folder and returns its figures; measured.
        about: a line or two under the table's title.
    """

    what: str
    sizes: tuple[int, ...]
    prepare: Callable[[int, Path], None]
    measure: Callable[[int, Path], dict[str, Any]]
    about: str


# ---------------------------------------------------------------- items: from texts to codes


def _made_up_words(number: int) -> list[str]:
    """Distinct words of three to six syllables."""
    first, vowels = "bdfgklmnprstvz", "aeiou"
    syllables = [consonant + vowel for consonant in first for vowel in vowels]
    base = len(syllables)
    return [
        syllables[n % base] + syllables[n // base % base] + syllables[(n // base**2 + n) % base]
        for n in range(number)
    ]


def write_items(items: int, folder: Path) -> None:
    """Write ``growth.item``: titles of brand, topic and rare words; categories within categories.

    As in a real catalogue the vocabulary grows with the root of the number of items, words are rare
    or frequent by Zipf's law, most titles have a word or number of their own, and one in fifty has
    the text of another.
    """
    import numpy as np

    rng = np.random.default_rng(items)
    words = np.array(_made_up_words(min(340_000, 5_000 + int(60 * items**0.5))))
    category = np.minimum(rng.zipf(1.3, items) - 1, 19)
    topic = category * 25 + np.minimum(rng.zipf(1.5, items) - 1, 24)
    of_topic = rng.integers(0, len(words) // 4, (500, 40))  # each topic has words of its own
    brand = rng.integers(0, 1 + items // 50, items)
    rank = np.minimum(rng.zipf(1.4, (items, 3)), len(words)) - 1
    chosen = np.column_stack(
        [brand % len(words), of_topic[topic[:, None], rng.integers(0, 40, (items, 3))], rank]
    )
    model = rng.integers(0, 10 * items, items)
    twin = np.flatnonzero(rng.random(items) < 0.02)
    original = rng.integers(0, items, len(twin))
    for column in (chosen, model, category, topic):
        column[twin] = column[original]
    with (folder / "growth.item").open("w", encoding="utf-8") as lines:
        lines.write("item_id:token\ttitle:token_seq\tcategory:token_seq\n")
        for start in range(0, items, 10_000):
            part = slice(start, start + 10_000)
            for number, (title, code, major, minor) in enumerate(
                zip(words[chosen[part]], model[part], category[part], topic[part], strict=True),
                start=start,
            ):
                lines.write(
                    f"i{number}\t{' '.join(title)} {code}\t"
                    f"{words[-1 - major]} {words[-100 - minor]}\n"
                )


class _StageClock(logging.Handler):
    """Counts CPU seconds from each line that names a stage of a build to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.stage, self.since, self.seconds = "texts", _cpu_seconds(), dict[str, float]()

    def emit(self, record: logging.LogRecord) -> None:
        _, is_stage, what = record.getMessage().partition(", stage ")
        if is_stage and "% done" not in what:  # that is a line of the same stage
            self.next(what.partition(": ")[2].split(" of ")[0].split(" by ")[0].rstrip("."))

    def next(self, stage: str) -> None:
        """Begin another stage."""
        now = _cpu_seconds()
        self.seconds[self.stage] = round(now - self.since, 1)
        self.stage, self.since = stage, now


def build_semantic_ids(items: int, folder: Path) -> dict[str, Any]:
    """Build the semantic IDs of `write_items`: CPU seconds by stage, and the codes' quality."""
    from recbole_genci.tokenizer.build import load_or_build_semantic_ids
    from recbole_genci.tokenizer.encoding.item_file import ItemFile
    from recbole_genci.tokenizer.settings import tokenizer_settings

    settings = tokenizer_settings(
        {
            "item_text_fields": ["title", "category"],
            "text_encoder": "lsa",
            "quantizer": "rkmeans",
            "collision_codebook_size": 1 << 16,  # twins of made-up items may be many
            "tokenizer_threads": THREADS,
        }
    )
    clock = _StageClock()
    logger = logging.getLogger("recbole_genci.tokenizer")
    logger.setLevel(logging.INFO)
    logger.addHandler(clock)
    started, libraries = _cpu_seconds(), _peak_mb()
    ids = load_or_build_semantic_ids(
        settings,
        ItemFile(folder / "growth.item", "item_id"),
        [f"i{number}" for number in range(items)],
        folder / "cache",
        "growth",
    )
    clock.next("")
    quality = ids.manifest["quality"]
    return {
        "CPU s": round(_cpu_seconds() - started, 1),
        **{f"{stage}, CPU s": seconds for stage, seconds in clock.seconds.items()},
        "peak MB": round(_peak_mb()),
        "kB an item": round((_peak_mb() - libraries) * 1024 / items, 2),
        "collision rate": round(quality["collision_rate"], 4),
        "error": round(quality["reconstruction_error"], 4),
        "perplexity": [round(level["perplexity"]) for level in quality["levels"]],
        "digest": ids.digest[:12],
    }


# ---------------------------------------------------------------- rows: from files to parts


def write_rows(rows: int, folder: Path) -> None:
    """Write the files of a dataset with as many rows a user and an item as MovieLens 20M has.

    Rows stand in no order, which is slower to read than MovieLens' order by user.
    """
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(rows)
    users, items = max(10, rows // 144), max(10, rows // 740)
    (target := folder / "growth").mkdir()
    for start in range(0, rows, 2**20):
        size = min(2**20, rows - start)
        columns = {
            "user_id:token": rng.integers(1, users + 1, size),
            "item_id:token": (rng.random(size) ** 2 * items).astype(int) + 1,
            "rating:float": rng.integers(1, 11, size) / 2,
            "timestamp:float": rng.integers(10**9, 13 * 10**8, size),
        }
        pd.DataFrame(columns).to_csv(
            target / "growth.inter", sep="\t", index=False, mode="a", header=start == 0
        )
    number = np.arange(items)
    pd.DataFrame(
        {
            "item_id:token": number + 1,
            "genre:token_seq": [f"g{n % 7} h{n % 11}" for n in range(items)],
            "year:token": 1950 + number % 70,
        }
    ).to_csv(target / "growth.item", sep="\t", index=False)
    pd.DataFrame(
        {"user_id:token": np.arange(1, users + 1), "age:token": np.arange(users) % 60}
    ).to_csv(target / "growth.user", sep="\t", index=False)


def _rows_keys(folder: Path, kept: Path | None) -> dict[str, Any]:
    return {
        "data_path": str(folder),
        "load_col": {
            "inter": ["user_id", "item_id", "rating", "timestamp"],
            "user": ["user_id", "age"],
            "item": ["item_id", "genre", "year"],
        },
        "threshold": {"rating": 4},
        "val_interval": {"rating": "[0,3);(3,inf)"},
        "prepared_rows_dir": None if kept is None else str(kept),
        "gpu_id": "",
    }


def _rows_config(folder: Path, kept: Path | None) -> Any:
    from recbole_genci.config import Config

    return Config("DeepFM", "growth", config_dict=_rows_keys(folder, kept))


def _prepared(folder: Path, kept: Path | None) -> dict[str, Any]:
    """Prepare the rows as ``run`` does: CPU seconds and memory."""
    from recbole_genci.plan import prepare_rows

    config = _rows_config(folder, kept)
    started, libraries = _cpu_seconds(), _peak_mb()
    parts = prepare_rows(config)
    return {
        "kept rows": sum(map(len, parts)),
        "file MB": round((folder / "growth/growth.inter").stat().st_size / 2**20),
        "CPU s": round(_cpu_seconds() - started, 1),
        "libraries MB": round(libraries),
        "peak MB": round(_peak_mb()),
        "own MB": round(_own_mb()),
    }


def build_rows(rows: int, folder: Path) -> dict[str, Any]:
    """Build the rows of `write_rows`."""
    return _prepared(folder, None)


def write_prepared_rows(rows: int, folder: Path) -> None:
    """Write the files, and the rows that an earlier run has prepared, whatever their size."""
    from recbole_genci.data import prepared

    write_rows(rows, folder)
    prepared.SMALLEST_FILE = 0
    prepared.prepare_parts(_rows_config(folder, folder / "kept"))


def read_prepared_rows(rows: int, folder: Path) -> dict[str, Any]:
    """Read the rows that `write_prepared_rows` has left."""
    from recbole_genci.data import prepared

    prepared.SMALLEST_FILE = 0
    [file] = (folder / "kept").glob("*.safetensors")
    size = round(file.stat().st_size / 2**20)
    return _prepared(folder, folder / "kept") | {"prepared MB": size}


def train_rows(rows: int, folder: Path) -> dict[str, Any]:
    """Train on the rows of `write_prepared_rows`: the most memory of each process."""
    figures: dict[str, Any] = {}
    for shards in (False, True):
        peaks, auc = _peaks_of_training(folder, shards)
        own, mapped = ([round(peak[name]) for peak in peaks] for name in ("own", "mapped"))
        figures |= {f"{'shards: ' * shards}own MB of each process": own}
        figures |= {f"{'shards: ' * shards}mapped MB of the rows": mapped}
        figures |= {f"{'shards: ' * shards}AUC": auc}
    return figures


def _peaks_of_training(folder: Path, shards: bool) -> tuple[list[dict[str, float]], float]:
    """The most memory of two processes that train LR, and their test AUC."""
    from recbole_genci.data import prepared
    from recbole_genci.quick_start import run

    prepared.SMALLEST_FILE = 0
    peaks: dict[int, dict[str, float]] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            for child in multiprocessing.active_children():
                peak = peaks.setdefault(child.pid or 0, {"own": 0, "mapped": 0})
                now = {"own": _own_mb(child.pid), "mapped": _mapped_mb(child.pid, folder / "kept")}
                peaks[child.pid or 0] = {name: max(peak[name], now[name]) for name in peak}

    watcher = threading.Thread(target=watch)
    watcher.start()
    keys = {"epochs": 1, "train_batch_size": 16384, "latency_repeats": 1, "nproc": 2}
    keys |= {name: str(folder / name) for name in ("checkpoint_dir", "results_dir")}
    keys |= {"shard_rows": shards}
    try:
        [trained] = run("LR", "growth", config_dict=_rows_keys(folder, folder / "kept") | keys)
    finally:
        ended.set()
        watcher.join()
    # multiprocessing's own helper is a child too, without rows
    by_rank = [peaks[process] for process in sorted(peaks) if peaks[process]["own"] > 100]
    return by_rank, trained["test"]["auc"]


def _own_mb(process: object = "self") -> float:
    """Memory that a process shares with no file (Linux); 0 once it has ended."""
    lines = _proc(process, "status")
    return next((int(each.split()[1]) / 1024 for each in lines if each.startswith("RssAnon")), 0)


def _mapped_mb(process: object, folder: Path) -> float:
    """What a process has in memory of the files in ``folder`` that it maps (Linux)."""
    total, is_there = 0, False
    for line in _proc(process, "smaps"):
        first, *rest = line.split()
        if first == "Rss:":
            total += is_there * int(rest[0])
        elif not first.endswith(":"):  # the first line of a mapping ends with its path
            is_there = str(folder.resolve()) in line
    return total / 1024


def _proc(process: object, name: str) -> list[str]:
    """Lines that Linux tells of a process; none once it has ended."""
    try:
        return Path(f"/proc/{process}/{name}").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


# ---------------------------------------------------------------- items: a training step

_EMBEDDING, _CODES, _REPEATS = 16, 256, 20


def _nothing_to_write(size: int, folder: Path) -> None:
    """The work needs no files."""


def time_step(items: int, folder: Path) -> dict[str, Any]:
    """Milliseconds of CPU time: cohort means of all codes and of a few, Adam plain and fused."""
    import torch

    from recbole_genci.model.genci.cohort import CohortTable

    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(_CODES, (items + 1, 4), generator=generator)
    codes[:, 3], codes[0] = 0, -1
    cohorts = CohortTable(codes, [_CODES] * 3 + [1])
    weight = torch.randn(items + 1, _EMBEDDING, generator=generator).requires_grad_()
    # A batch of 1,024 rows named 3 to 8 in a hundred codes in the first epoch on ml-100k.
    beams = codes[torch.randint(1, items, (_CODES // 20,), generator=generator)]

    def milliseconds(work: Callable[[], Any]) -> float:
        work()
        start = time.process_time()
        for _ in range(_REPEATS):
            work()
        return round((time.process_time() - start) / _REPEATS * 1e3, 1)

    def with_gradient(means: Callable[[], torch.Tensor]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(means().sum(), weight)

    def all_means() -> torch.Tensor:
        return cohorts.gather(cohorts(weight), beams)

    def named_means() -> torch.Tensor:
        return cohorts.of_codes(weight, beams)

    figures = {}
    for name, means in (("all cohorts", all_means), ("named cohorts", named_means)):
        with torch.no_grad():
            figures[f"{name}, ms"] = milliseconds(means)
        figures[f"{name} and gradient, ms"] = milliseconds(with_gradient(means))
    weight.grad = torch.randn(weight.shape, generator=generator)
    for name, fused in (("Adam", None), ("fused Adam", True)):
        figures[f"{name}, ms"] = milliseconds(torch.optim.Adam([weight], fused=fused).step)
    return figures


_ROWS = (1_000_000, 20_000_000, 100_000_000)

GROWING = {
    "rows": Growing(
        "rows",
        _ROWS,
        write_rows,
        build_rows,
        "Rows of a synthetic dataset read, filtered, split 8:1:1 by user in time order, and given "
        "histories. `own MB` is what the process keeps, without files that it maps. One thread.",
    ),
    "prepared": Growing(
        "rows",
        _ROWS,
        write_prepared_rows,
        read_prepared_rows,
        "The same rows, prepared by an earlier run: files compared by content, prepared rows "
        "checked and mapped into memory. All processes share what is not in `own MB`. One thread.",
    ),
    "train": Growing(
        "rows",
        (1_000_000, 4_000_000),
        write_prepared_rows,
        train_rows,
        "Two processes train LR on prepared rows for an epoch: the most memory that each shares "
        "with no file (own), and the most that it has of the file of rows (mapped). Shards: with "
        "`--shard_rows=True`. The first process also writes the run's rows.",
    ),
    "items": Growing(
        "items",
        (10_000, 100_000, 1_000_000),
        write_items,
        build_semantic_ids,
        "Semantic IDs of a synthetic catalogue: texts read, `lsa`, `rkmeans` with 3 x 256 codes, "
        "collision digits, report, artifact. One thread.",
    ),
    "step": Growing(
        "items",
        (10_000, 100_000, 1_000_000),
        _nothing_to_write,
        time_step,
        "Parts of GenCI's training step and prediction by the number of items: embeddings of 16, "
        "3 x 256 codes, of which beams name 1 in 20. CPU time of one thread.",
    ),
}


# ---------------------------------------------------------------- a process per size


def _cpu_seconds() -> float:
    """User and system seconds of this process, all threads together."""
    times = os.times()
    return times.user + times.system


def _peak_mb() -> float:
    """Peak resident memory of this process; ``ru_maxrss`` has kilobytes on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(name: str, size: int) -> dict[str, Any]:
    """The figures of one size, from a process of its own.

    Raises:
        RuntimeError: the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        for step in ("prepare", "measure"):
            child = subprocess.run(
                [sys.executable, __file__, f"--what={name}", f"--sizes={size}"]
                + [f"--step={step}", f"--folder={folder}"],
                env=os.environ | {"OMP_NUM_THREADS": str(THREADS)},
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            if child.returncode:
                raise RuntimeError(f"{name}, {size:,}: the process ended with {child.returncode}.")
    return {GROWING[name].what: size} | json.loads(child.stdout.splitlines()[-1])


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(map(_cell, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(name: str, rows: list[dict[str, Any]]) -> str:
    """Markdown of the figures, a line for every size."""
    lines = [f"# Growth: {name}", "", GROWING[name].about, ""]
    columns = list(rows[-1])
    lines += ["| " + " | ".join(columns) + " |", "| " + " | ".join("---:" for _ in columns) + " |"]
    for row in rows:
        lines.append("| " + " | ".join(_cell(row.get(column, "-")) for column in columns) + " |")
    return "\n".join([*lines, "", f"`python benchmarks/growth.py --what={name}`", ""])


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--what", choices=sorted(GROWING), action="append")
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--step", choices=("prepare", "measure"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    words = _arguments(argv)
    if words.step:  # the child
        figures = getattr(GROWING[words.what[0]], words.step)(words.sizes[0], words.folder)
        print(json.dumps(figures))
        return
    words.output.mkdir(parents=True, exist_ok=True)
    for name in words.what or sorted(GROWING):
        rows = []
        for size in words.sizes or GROWING[name].sizes:
            rows.append(measured(name, size))
            print(json.dumps(rows[-1]), flush=True)
            (words.output / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
            (words.output / f"{name}.md").write_text(table(name, rows))


if __name__ == "__main__":
    main(sys.argv[1:])
