"""``PYTHONPATH=tests python -m robustness --cases=10000``: the count over all fuzzers.

Exit status 1 where a case is raw or wrong. ``--fuzzer=NAME`` runs one of them; ``--seed`` draws
other cases; ``--skip=N`` begins at case N, to look at one case again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

from robustness.fuzzers import FUZZERS
from robustness.harness import Outcome, run_cases, table


def main() -> int:
    """Run the cases, show progress, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="cases in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fuzzer", choices=sorted(FUZZERS))
    parser.add_argument("--skip", type=int, default=0)
    arguments = parser.parse_args()
    names = [arguments.fuzzer] if arguments.fuzzer else list(FUZZERS)
    outcomes: list[Outcome] = []
    start = time.monotonic()
    for name in names:
        count = -(-arguments.cases // len(names))
        with tempfile.TemporaryDirectory() as folder:
            cases = FUZZERS[name](arguments.seed, count, Path(folder))
            for outcome in run_cases(name, itertools.islice(cases, arguments.skip, None)):
                outcomes.append(outcome)
                if outcome.kind in ("raw", "wrong"):
                    print(table([outcome]).split("\n\n", 1)[1], file=sys.stderr, flush=True)
                if len(outcomes) % 100 == 0:
                    spent = time.monotonic() - start
                    done = f"{len(outcomes)} cases, {spent:.0f} s, {name}"
                    print(done, file=sys.stderr, flush=True)
    print(table(outcomes))
    return int(any(outcome.kind in ("raw", "wrong") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
