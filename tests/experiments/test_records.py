"""``runs.jsonl``: what is read is what was written."""

import json

import pytest

from recbole_genci.experiments.records import RUNS_FILE, Records, read_runs
from recbole_genci.utils.digests import sealed_line

RUN = {
    "config_hash": "a" * 64,
    "status": "finished",
    "model": "LR",
    "settings": {},
    "seed": 1,
    "folder": "runs/a",
    "test": {"auc": 0.5, "logloss": 0.7},
    "best_valid": {"auc": 0.5},
    "best_epoch": 1,
    "training_s": 1.0,
    "latency_s": 0.1,
}


def test_a_record_is_given_back(tmp_path):
    Records(tmp_path).add(RUN)
    (record,) = read_runs(tmp_path)
    assert {name: record[name] for name in RUN} == RUN


def test_an_edited_record_is_refused(tmp_path):
    Records(tmp_path).add(RUN)
    file = tmp_path / RUNS_FILE
    file.write_text(file.read_text().replace("0.7", "0.1"))
    with pytest.raises(ValueError, match="runs.jsonl, line 1 is damaged: it was edited"):
        Records(tmp_path)


def test_a_record_without_its_digest_is_refused(tmp_path):
    (tmp_path / RUNS_FILE).write_text(json.dumps(RUN) + "\n")
    with pytest.raises(ValueError, match="line 1 is damaged: it was edited, as it has no digest"):
        read_runs(tmp_path)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (1, "1 is no record of a run"),
        ([], "no record"),
        (None, "no record"),
        ({}, "'status' is None"),
        ({name: value for name, value in RUN.items() if name != "folder"}, "'folder' is None"),
        (RUN | {"test": {}}, "'test' lacks auc"),
        (RUN | {"training_s": "x"}, "'training_s' is x"),
        (RUN | {"status": "failed", "seed": "1"}, "'seed' is 1"),
    ],
)
def test_lines_that_are_no_records_are_refused(tmp_path, record, said):
    line = sealed_line(record) if isinstance(record, dict) else json.dumps(record)
    (tmp_path / RUNS_FILE).write_text(line + "\n")
    with pytest.raises(ValueError, match=f"line 1 is damaged: .*{said}"):
        Records(tmp_path)
