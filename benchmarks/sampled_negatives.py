"""Make a dataset of choices: a user's clicks, and beside each an item that he did not choose.

    python benchmarks/sampled_negatives.py ml-100k dataset/ml-100k-choices
    python benchmarks/sampled_negatives.py <folder>/ml-1m dataset/ml-1m-choices

In the other datasets a label says whether a user liked an item that he chose to rate. Here it says
whether he chose the item: a row with label 1 for each rating of 4 or more, and at the same time one
with label 0 for an item that he never rated. These items are the clicked ones in another order
(`--drawn=matched`), so that each item has as many rows of either label, and its popularity says
nothing; or each is drawn alike (`--drawn=uniform`). The .user and .item files are copied.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_genci.config import RECBOLE_FOLDER
from recbole_genci.utils.atomic_files import read_atomic_file, read_header

COLUMNS = ["user_id", "item_id", "rating", "timestamp"]
HEADER = ["user_id:token", "item_id:token", "label:float", "timestamp:float"]

TRIES = 50  # on ml-100k nothing changes after these


class Pairs:
    """Some pairs of a user and an item.

    Args:
        users, items: ``[P]``.
    """

    def __init__(self, users: np.ndarray, items: np.ndarray) -> None:
        self._pairs = pd.MultiIndex.from_arrays([users, items])

    def have(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Whether each of ``[C]`` pairs is among them: ``[C]`` bool."""
        return pd.MultiIndex.from_arrays([users, items]).isin(self._pairs)

    def repeated(self) -> np.ndarray:
        """Whether each ``[P]`` was there before."""
        return self._pairs.duplicated()


def uniform(
    users: np.ndarray, items: np.ndarray, seen: Pairs, rng: np.random.Generator
) -> np.ndarray:
    """For each click ``[C]`` a clicked item that its user has not seen, each item alike."""
    pool = pd.unique(items)
    chosen = rng.choice(pool, len(users))
    for _ in range(TRIES):
        wrong = np.flatnonzero(seen.have(users, chosen) | Pairs(users, chosen).repeated())
        if not len(wrong):
            return chosen
        chosen[wrong] = rng.choice(pool, len(wrong))
    raise ValueError(f"user {users[wrong[0]]} has rows about too many of the items.")


def matched(
    users: np.ndarray, items: np.ndarray, seen: Pairs, rng: np.random.Generator
) -> np.ndarray:
    """The clicked items ``[C]`` in an order in which no user has seen his, or gets one twice: those
    are exchanged with random others, where that helps. None for the few that are left at last: an
    item that more users have clicked than have not rated cannot have a place for each.
    """
    chosen = rng.permutation(items)
    for _ in range(TRIES):
        now = Pairs(users, chosen)
        wrong = np.flatnonzero(seen.have(users, chosen) | now.repeated())
        if not len(wrong):
            return chosen
        others = rng.permutation(len(users))
        mine = np.resize(wrong, len(others))  # the fewer are wrong, the more others each one tries
        fit = ~np.isin(others, wrong)
        for pairs in (seen, now):
            fit &= ~pairs.have(users[mine], chosen[others])
            fit &= ~pairs.have(users[others], chosen[mine])
        mine, first = np.unique(mine[fit], return_index=True)  # one exchange each
        others = others[fit][first]
        chosen[mine], chosen[others] = chosen[others], chosen[mine]
    chosen[wrong] = None
    return chosen


def left_out(items: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which clicks ``[C]`` bool to leave out, so that each item has as many as others got it."""
    rank = pd.Series(rng.permutation(len(items))).groupby(items).rank()
    got = pd.Series(chosen).value_counts()
    return (rank > pd.Series(items).map(got).fillna(0)).to_numpy()


DRAWN = {"matched": matched, "uniform": uniform}


def folder_of(source: Path) -> Path:
    """The folder of the atomic files; that of ml-100k is inside RecBole."""
    if source == Path("ml-100k") and not source.exists():
        return RECBOLE_FOLDER / "dataset_example" / source
    return source


def main() -> None:
    """Write the dataset's folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", type=Path, help="folder of files that are named as it is, or ml-100k"
    )
    parser.add_argument("target", type=Path, help="the folder to write; it must not exist")
    parser.add_argument("--drawn", choices=list(DRAWN), default="matched")
    parser.add_argument("--least_rating", type=float, default=4, help="of a click")
    parser.add_argument("--seed", type=int, default=2020)
    words = parser.parse_args()
    source = folder_of(words.source)
    file = source / f"{source.name}.inter"
    rows = read_atomic_file(file, COLUMNS, read_header(file))
    clicks = rows[rows["rating"] >= words.least_rating]
    seen = Pairs(rows["user_id"].to_numpy(), rows["item_id"].to_numpy())
    users, items = clicks["user_id"].to_numpy(), clicks["item_id"].to_numpy()
    rng = np.random.default_rng(words.seed)
    chosen = DRAWN[words.drawn](users, items, seen, rng)
    gone = left_out(items, chosen, rng) if words.drawn == "matched" else np.zeros(len(items), bool)
    others = clicks.assign(label=0, item_id=chosen).dropna(subset="item_id")
    pairs = pd.concat([clicks.assign(label=1)[~gone], others])
    words.target.mkdir(parents=True)
    pairs[["user_id", "item_id", "label", "timestamp"]].sort_index(kind="stable").to_csv(
        words.target / f"{words.target.name}.inter", sep="\t", index=False, header=HEADER
    )
    for kind in ("user", "item"):
        if (there := source / f"{source.name}.{kind}").is_file():
            shutil.copy(there, words.target / f"{words.target.name}.{kind}")
    print(
        f"{len(pairs):,} rows, half of them clicks, in {words.target}. {gone.sum():,} clicks were "
        "left out, because as many rows without a click found no user."
    )


if __name__ == "__main__":
    main()
