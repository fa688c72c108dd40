"""benchmarks/sampled_negatives.py: what stands beside a user's clicks."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import sampled_negatives

    yield sampled_negatives
    sys.modules.pop("sampled_negatives", None)


def made(script, tmp_path, monkeypatch, name, *words):
    """The rows of a dataset of choices."""
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "tiny"), str(tmp_path / name), *words])
    script.main()
    rows = pd.read_csv(tmp_path / name / f"{name}.inter", sep="\t")
    return rows.set_axis([column.split(":")[0] for column in rows], axis="columns")


@pytest.fixture
def source(tmp_path):
    """Ratings of 30 users, a third of them of items that most users rate."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, 41)
    rows = pd.DataFrame(
        [
            (f"u{user}", f"i{item}", rating, time)
            for user in range(30)
            for item, rating, time in zip(
                rng.choice(40, 12, replace=False, p=popularity / popularity.sum()),
                rng.integers(1, 6, 12),
                rng.integers(0, 99, 12),
            )
        ],
        columns=["user_id", "item_id", "rating", "timestamp"],
    )
    (tmp_path / "tiny").mkdir()
    header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    rows.to_csv(tmp_path / "tiny/tiny.inter", sep="\t", index=False, header=header)
    (tmp_path / "tiny/tiny.item").write_text(
        "item_id:token\n" + "".join(f"i{i}\n" for i in range(40))
    )
    return rows


@pytest.mark.parametrize("drawn", ["matched", "uniform"])
def test_the_other_items_are_new_to_their_user(script, source, tmp_path, monkeypatch, drawn):
    rows = made(script, tmp_path, monkeypatch, drawn, f"--drawn={drawn}")
    others, clicks = rows[rows["label"] == 0], rows[rows["label"] == 1]
    keys = ["user_id", "item_id"]
    assert len(others) == len(clicks) > 100
    assert others.merge(source, on=keys).empty and not others.duplicated(keys).any()
    known = clicks.merge(source, on=[*keys, "timestamp"])
    assert len(known) == len(clicks) and (known["rating"] >= 4).all()
    times = source.groupby("user_id")["timestamp"].apply(set)
    assert all(time in times[user] for user, time in zip(others["user_id"], others["timestamp"]))
    assert (tmp_path / drawn / f"{drawn}.item").read_text() == (
        tmp_path / "tiny/tiny.item"
    ).read_text()


def test_each_item_is_chosen_as_often_as_it_is_not(script, source, tmp_path, monkeypatch, capsys):
    rows = made(script, tmp_path, monkeypatch, "choices")
    table = rows.groupby(["item_id", "label"]).size().unstack(fill_value=0)
    assert (table[0] == table[1]).all()
    gone = (source["rating"] >= 4).sum() - (rows["label"] == 1).sum()
    assert 0 < gone < 20 and f"{gone} clicks were left out" in capsys.readouterr().out
    again = made(script, tmp_path, monkeypatch, "again")
    pd.testing.assert_frame_equal(rows, again)
    assert not made(script, tmp_path, monkeypatch, "other", "--seed=1").equals(rows)


def test_a_user_who_has_rated_everything_is_named(script, tmp_path, monkeypatch):
    (tmp_path / "tiny").mkdir()
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    lines += [f"u{user}\ti{item}\t5\t{item}" for user in range(2) for item in range(3 - user)]
    (tmp_path / "tiny/tiny.inter").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="user u0 has rows about too many of the items"):
        made(script, tmp_path, monkeypatch, "choices", "--drawn=uniform")
