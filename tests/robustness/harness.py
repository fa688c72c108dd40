"""Run damaged inputs and count what became of each: ok, clear, raw or wrong.

ok
    The product took the input, and its results are the right ones.
clear
    It refused with one sentence that names what is at fault.
raw
    A traceback of somebody else's code, a signal, a hang, an empty or a nameless message.
wrong
    It took the input, gave other results, and said nothing.

A fuzzer is a module of this package with ``cases(rng, count, folder)``, which yields ``Case``. All
cases run in children forked from one warm process, so that a case costs milliseconds, not the
seconds that the imports take, and none can harm another.
"""

from __future__ import annotations

import collections
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import recbole_genci
from recbole_genci.utils.answers import ANSWERED

KINDS = ("ok", "clear", "raw", "wrong")
PACKAGE = str(Path(recbole_genci.__file__).parent)
#: What the commands turn into a sentence. Another exception is a traceback to the user.
REFUSALS = ANSWERED
#: Words of Python, numpy, pandas and torch that are no explanation.
RAW_WORDS = ("Traceback (most recent call last)", "object has no attribute", "NoneType")


@dataclass(frozen=True)
class Case:
    """One damaged input.

    Attributes:
        what: the damage in words, with all that is needed to do it again.
        run: called in a child process, in a new folder. Returns None when the results are right,
            else what is wrong with them. A refusal is an exception, or ``Refused`` by ``command``.
        names: a refusal must contain one of these; empty: any sentence will do.
    """

    what: str
    run: Callable[[], str | None]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a case: its kind, and the message or the finding behind it."""

    fuzzer: str
    what: str
    kind: str
    detail: str


class Refused(Exception):
    """A command ended with a status that is not 0; the text is what it wrote to stderr."""


def command(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> None:
    """Run a command's ``main`` in this process.

    Raises:
        Refused: the command ended with another exit status than 0.
    """
    sys.stderr.flush()
    start = os.lseek(2, 0, os.SEEK_END)
    status = main(argv)
    sys.stderr.flush()
    if status:
        with open(f"/proc/self/fd/{2}", encoding="utf-8", errors="replace") as log:
            log.seek(start)
            raise Refused(log.read().strip())


def run_cases(
    fuzzer: str, cases: Iterable[Case], timeout: float = 60, memory: int = 16 << 30
) -> Iterator[Outcome]:
    """Run the cases one after another, each in a forked child.

    Args:
        fuzzer: the name that the table shows.
        cases: drawn lazily, in this process.
        timeout: seconds after which a case is a hang.
        memory: bytes of address space that a case may take.
    """
    for case in cases:
        folder = Path(tempfile.mkdtemp(prefix="robustness-"))
        try:
            kind, detail = _in_child(case, folder, timeout, memory)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        yield Outcome(fuzzer, case.what, kind, detail)


def _in_child(case: Case, folder: Path, timeout: float, memory: int) -> tuple[str, str]:
    answer, log = folder / "answer.json", folder / "log.txt"
    work = folder / "work"
    work.mkdir()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _redirect(log)
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
            os.chdir(work)
            answer.write_text(json.dumps(judge(case)))
            status = 0
        finally:
            os._exit(status)  # no exit handlers, no pytest
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "raw", f"no end after {timeout:.0f} s"
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
    if status == 0 and answer.exists():
        kind, detail = json.loads(answer.read_text())
        return kind, detail
    tail = log.read_text(errors="replace")[-500:] if log.exists() else ""
    return "raw", f"the process ended with status {os.waitstatus_to_exitcode(status)}: {tail}"


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    # pytest's capture holds other objects here.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def judge(case: Case) -> tuple[str, str]:
    """Run a case in this process; return its kind and the message or finding."""
    try:
        finding = case.run()
    except Refused as refused:
        return _message_kind(str(refused), case.names)
    except REFUSALS as error:
        if not _is_ours(error):
            return "raw", "".join(traceback.format_exception(error))[-1500:]
        return _message_kind(str(error), case.names)
    except BaseException as error:  # SystemExit, KeyError, MemoryError: nothing answers these
        return "raw", "".join(traceback.format_exception(error))[-1500:]
    return ("ok", "") if finding is None else ("wrong", finding)


def _is_ours(error: BaseException) -> bool:
    """Whether the package itself raised it, rather than a library that it called."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith(PACKAGE)


def _message_kind(message: str, names: tuple[str, ...]) -> tuple[str, str]:
    if not message.strip():
        return "raw", "an empty message"
    if any(word in message for word in RAW_WORDS):
        return "raw", message
    if names and not any(name in message for name in names):
        return "raw", f"names none of {', '.join(names)}: {message}"
    return "clear", message


def table(outcomes: Iterable[Outcome]) -> str:
    """Counts for each fuzzer, and every raw or wrong case below."""
    counts: dict[str, collections.Counter[str]] = {}
    faults = []
    for outcome in outcomes:
        counts.setdefault(outcome.fuzzer, collections.Counter())[outcome.kind] += 1
        if outcome.kind in ("raw", "wrong"):
            faults.append(outcome)
    width = max(map(len, [*counts, "fuzzer"]))
    lines = [" ".join([f"{'fuzzer':<{width}}", *(f"{kind:>7}" for kind in KINDS), "  cases"])]
    total: collections.Counter[str] = sum(counts.values(), collections.Counter())
    for name, count in [*counts.items(), ("all", total)]:
        cells = [f"{count[kind]:>7}" for kind in KINDS]
        lines.append(" ".join([f"{name:<{width}}", *cells, f"{sum(count.values()):>7}"]))
    for fault in faults:
        lines.append(f"\n{fault.kind.upper()} {fault.fuzzer}: {fault.what}\n{fault.detail}")
    return "\n".join(lines)
