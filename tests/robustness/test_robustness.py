"""A sample of every fuzzer, and with ``-m slow`` a thousand cases of each."""

from __future__ import annotations

import os
import signal
import time

import pytest

from recbole_genci.cli import main
from robustness.fuzzers import FUZZERS
from robustness.harness import Case, Outcome, Refused, command, run_cases, table

ML100K = ["--model=LR", "--dataset=ml-100k"]


def assert_none_raw_or_wrong(name, count, folder, seed):
    outcomes = list(run_cases(name, FUZZERS[name](seed, count, folder)))
    assert len(outcomes) == count
    faults = [o for o in outcomes if o.kind in ("raw", "wrong")]
    assert not faults, table(outcomes)


@pytest.mark.parametrize("name", FUZZERS)
def test_sample(name, tmp_path):
    assert_none_raw_or_wrong(name, 4, tmp_path, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FUZZERS)
def test_thousand(name, tmp_path):
    assert_none_raw_or_wrong(name, 1000, tmp_path, seed=1)


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("run", "names", "kind"),
    [
        (lambda: None, (), "ok"),
        (lambda: "other rows", (), "wrong"),
        (lambda: _raise(Refused("topk: 'x' is no number.")), ("topk",), "clear"),
        (lambda: _raise(Refused("'x' is no number.")), ("topk",), "raw"),
        (lambda: _raise(Refused("")), (), "raw"),
        (lambda: _raise(ValueError("not from the package")), (), "raw"),
        (lambda: _raise(SystemExit(0)), (), "raw"),
        (
            lambda: command(main, [*ML100K, "--topk=x"]),
            ("topk",),
            "clear",
        ),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), (), "raw"),
        (lambda: time.sleep(9), (), "raw"),
    ],
)
def test_harness_tells_outcomes_apart(run, names, kind):
    (outcome,) = run_cases("one", [Case("a case", run, names)], timeout=2)
    assert outcome.kind == kind, outcome.detail


def test_table_counts_and_lists_faults():
    outcomes = [
        Outcome("a", "x", "ok", ""),
        Outcome("a", "y", "wrong", "other rows"),
        Outcome("b", "z", "clear", "w: no number"),
    ]
    lines = table(outcomes).splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["a", "1", "0", "0", "1", "2"],
        ["b", "0", "1", "0", "0", "1"],
        ["all", "1", "1", "0", "1", "3"],
    ]
    assert lines[-2:] == ["WRONG a: y", "other rows"]
