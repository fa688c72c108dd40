"""The records in benchmarks/: small, whole, and with the figures that they say."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from recbole_genci.evaluation.gauc import gauc
from recbole_genci.experiments.packed_scores import TOLERANCE
from recbole_genci.experiments.records import FINISHED, PACKED, Records, read_runs
from recbole_genci.plan import prepare

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "benchmarks/experiments"
_PRINTED = 5e-7  # a record's AUC and LogLoss have six digits


@pytest.fixture(scope="module")
def rows():
    (train, valid, test) = prepare("LR", "ml-100k", config_dict={"use_gpu": False}).parts
    return test.inter_feat[test.uid_field].numpy(), test.inter_feat[test.label_field].numpy()


@pytest.mark.parametrize(
    "folder", sorted(EXPERIMENTS.glob("*-ml-100k")), ids=lambda path: path.name
)
def test_packed_scores_have_the_figures_of_their_records(folder, rows):
    users, labels = rows
    store = Records(folder)
    for record in read_runs(folder):
        if record["status"] != FINISHED or not (record.get(PACKED) or record["taken_from"]):
            continue
        scores = store.scores(record).astype(np.float64)
        found = {
            "auc": roc_auc_score(labels, scores),
            "logloss": log_loss(labels, scores),
            "gauc": gauc(users, labels, scores),
        }
        expected = {name: record["test"][name] for name in found}
        assert found == pytest.approx(expected, abs=TOLERANCE + _PRINTED), record["config_hash"]


def test_every_run_of_a_table_has_its_scores():
    packed = {folder.name: read_runs(folder) for folder in EXPERIMENTS.glob("*-ml-100k")}
    assert sum(PACKED in each for runs in packed.values() for each in runs) > 100
    for name, runs in packed.items():
        if name.startswith("intents"):  # reads the model itself
            continue
        for run in runs:
            if run["status"] == FINISHED:
                owner = packed[run["taken_from"] or name]
                assert any(
                    PACKED in each for each in owner if each["config_hash"] == run["config_hash"]
                ), (name, run["config_hash"])


def test_the_records_stay_small():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "benchmarks"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode or not listed.stdout:
        pytest.skip("this is no git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert sum(file.stat().st_size for file in files if file.is_file()) < 4_000_000
