"""Sections of an experiment's page."""

from types import SimpleNamespace

import numpy as np
import pytest

from recbole_genci.experiments.html_report import _by_group
from recbole_genci.webpage.charts import HIGHLIGHT

LABELS = np.array([0, 1, 0, 1, 0, 1, 1, 1])
GROUPS = {
    "1 to 3 clicks": np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=bool),
    "4 clicks": np.array([0, 0, 0, 0, 1, 1, 0, 0], dtype=bool),
    "5 to 9 clicks": np.array([0, 0, 0, 0, 0, 0, 1, 1], dtype=bool),
    "more clicks": np.zeros(8, dtype=bool),
}


def outcome(seeds=(1, 2)):
    """As much of an outcome as a section reads, with 16 lines."""
    names = [f"m{number}" for number in range(15)] + ["GenCI"]
    variants = [SimpleNamespace(name=name) for name in names]
    random = np.random.default_rng(1)
    scores = {name: random.random((len(seeds), 8)) for name in names[:-1]}
    scores["GenCI"] = np.tile(LABELS + 0.1, (len(seeds), 1))
    return SimpleNamespace(
        request=SimpleNamespace(
            variants=variants, seeds=seeds, definition=SimpleNamespace(against=("GenCI",))
        ),
        complete_variants=lambda: variants,
        test_users=np.arange(8),
        test_labels=LABELS,
        scores=lambda variant: scores[variant.name],
    )


def test_groups_without_both_classes_are_named_and_the_bars_explained():
    section = _by_group(outcome(), "history", "Rows", "AUC by group.", lambda _: GROUPS)
    assert "Bars are ± one standard deviation over the seeds." in section.body
    assert (
        "Left out, as AUC needs rows of both classes: 5 to 9 clicks (2 rows, all clicked), "
        "more clicks (empty)." in section.body
    )
    assert "1 to 3 clicks (4 rows)" in section.body and "4 clicks (2 rows)" in section.body
    assert HIGHLIGHT in section.body and "\\u003cb\\u003eGenCI" in section.body
    one = _by_group(outcome((1,)), "history", "Rows", "AUC by group.", lambda _: GROUPS)
    assert "standard deviation" not in one.body


@pytest.mark.parametrize("name", ["5 to 9 clicks", "more clicks"])
def test_no_group_with_both_classes(name):
    section = _by_group(outcome(), "history", "Rows", "", lambda _: {name: GROUPS[name]})
    assert "Not available: no group has rows of both classes. Left out" in section.body
