"""The script of the whole trip runs on the real ml-100k, and its page shows what it prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

for library in ("fastapi", "uvicorn"):
    pytest.importorskip(library, reason="the HTTP example needs pip install fastapi uvicorn")

ROOT = Path(__file__).parents[2]
SMALL = (
    "--epochs=1 --MAX_ITEM_LIST_LENGTH=10 --latency_repeats=1 --intent_width=16 --intent_layers=1 "
    "--intent_heads=2 --intent_feed_forward_size=16 --num_beams=2 --train_batch_size=4096"
)


def test_the_trip(tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, str(ROOT / "examples/trip.py"), *SMALL.split()],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    steps = re.split(r"^== (.*)\n", ended.stdout, flags=re.MULTILINE)[1:]
    text = dict(zip(steps[::2], steps[1::2]))
    (folder,) = tmp_path.glob("saved/GenCI-ml-100k-*")
    assert text["Train"].strip() == f"The run lies in {folder.relative_to(tmp_path)}."
    for name in list(text)[2:4]:  # recommendations for a new user, of all items and of a hundred
        assert len(re.findall(r"^ +\d ", text[name], re.MULTILINE)) == 5
    assert "1682 items before, 1684 now" in text["Two films that came later, by their texts"]
    rows = text["A file of rows, by the command"]
    assert '2000 scores in trip/scores.csv: {"auc": 0.' in rows
    assert float(re.search(r"largest difference .* is (\S+)\.\n", rows)[1]) < 1e-6
    program = text["Export: a program without Python or this package"]
    assert float(re.search(r"largest difference .* is (\S+)\.\n", program)[1]) < 1e-5
    assert "\n200 {'recommendations': [{'user': 'ada', 'rank': 1," in text["HTTP"]
    assert "\n422 {'error': \"user_id: 1 of 1 are unknown to this run" in text["HTTP"]
    assert text["HTTP"].endswith("The server ended with status 0.\n")
    page = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    assert re.findall(r"^== (.*)$", page, re.MULTILINE) == list(text)
