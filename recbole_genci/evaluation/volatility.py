"""Interest volatility of users (Table 5): mean Jaccard distance of the genres of successive clicks.

The paper says (A.1): users fall "into fast-changing and slow-changing groups based on interest
volatility, calculated via the average Jaccard distance of consecutive item genres". ``DEFINITION``
states the choices that the paper leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from recbole.utils import FeatureSource, FeatureType
from scipy.sparse import csr_array

from recbole_genci.data.column_names import ROW_NUMBER, TIME_RANK
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.utils.ragged import Ragged
from recbole_genci.utils.value_checks import nearest

FAST, SLOW, UNDEFINED = "fast", "slow", ""

DEFINITION = (
    "A user's volatility is the mean Jaccard distance (1 - shared / all) of the genre or category "
    "sets (volatility_field) of consecutive clicks. It is taken over the user's training clicks in "
    "time order; clicks of equal time are in the order of the .inter file. Clicks of items without "
    "a genre are left out; a user of whom fewer than two clicks are then left belongs to no group. "
    "Fast-changing users lie above the median over all users with a volatility, slow-changing "
    "users at or below it."
)


@dataclass(frozen=True)
class UserVolatility:
    """The interest volatility of each user.

    Attributes:
        users: ``[U]`` internal ids of all users with a row in any part, ascending.
        volatility: ``[U]`` float64 between 0 and 1; nan for users with fewer than two clicks of
            items with genres.
    """

    users: np.ndarray
    volatility: np.ndarray

    @property
    def threshold(self) -> float:
        """The median over users with a volatility; nan if none has one. Users above it are fast."""
        known = self.volatility[~np.isnan(self.volatility)]
        return float(np.median(known)) if len(known) else float("nan")


def user_volatility(parts: Sequence[CTRDataset], training_only: bool = True) -> UserVolatility:
    """The volatility of every user of a run.

    Args:
        parts: the training, validation and test part, from ``Plan.parts`` or ``SavedRun.parts``.
        training_only: whether to count training clicks only. Held-out clicks would sort users into
            groups by the very clicks that the groups' AUC measures.

    Raises:
        ValueError: no item field holds sets, or ``volatility_field`` names one that does not; or
            rows have no user, item or time.
    """
    whole = parts[0]
    sets = _item_sets(whole)
    columns = {
        name: np.concatenate(
            [part.inter_feat[name].numpy() for part in (parts[:1] if training_only else parts)]
        )
        for name in (whole.uid_field, whole.iid_field, whole.label_field, TIME_RANK, ROW_NUMBER)
    }
    users, items = columns[whole.uid_field], columns[whole.iid_field]
    has_genres = np.diff(sets.indptr) > 0
    keep = np.flatnonzero((columns[whole.label_field] == 1) & has_genres[items])
    keep = keep[np.lexsort((columns[ROW_NUMBER][keep], columns[TIME_RANK][keep], users[keep]))]
    users, items = users[keep], items[keep]
    same_user = users[1:] == users[:-1]
    distance = jaccard_distance(sets, items[:-1][same_user], items[1:][same_user])
    pairs = np.bincount(users[1:][same_user], minlength=whole.user_num)
    total = np.bincount(users[1:][same_user], weights=distance, minlength=whole.user_num)
    everyone = np.unique(
        np.concatenate([part.inter_feat[whole.uid_field].numpy() for part in parts])
    )
    volatility = np.divide(total, pairs, out=np.full(len(total), np.nan), where=pairs > 0)
    return UserVolatility(everyone, volatility[everyone])


def groups(volatility: UserVolatility, users_of_rows: np.ndarray) -> np.ndarray:
    """Group ``[R]`` of each row's user: ``'fast'`` above the median, else ``'slow'``.

    A user without a volatility has ``''``.

    Args:
        volatility: the users' volatility.
        users_of_rows: ``[R]`` internal user ids; ids that ``volatility`` lacks get ``''``.
    """
    names = np.where(volatility.volatility > volatility.threshold, FAST, SLOW)
    names[np.isnan(volatility.volatility)] = UNDEFINED
    users_of_rows = np.asarray(users_of_rows)
    if len(names) == 0:
        return np.full(users_of_rows.shape, UNDEFINED, dtype=names.dtype)
    place = np.searchsorted(volatility.users, users_of_rows).clip(max=len(names) - 1)
    return np.where(volatility.users[place] == users_of_rows, names[place], UNDEFINED)


def jaccard_distance(sets: csr_array, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``1 - |A & B| / |A | B|`` of pairs of sets ``[Q]``.

    Args:
        sets: ``[V, G]`` of ones, a set a row.
        first, second: ``[Q]`` rows of ``sets``, at least one of each pair not empty.
    """
    size = np.diff(sets.indptr)
    shared = np.asarray(sets[first].multiply(sets[second]).sum(axis=1)).reshape(-1)
    return 1 - shared / (size[first] + size[second] - shared)


def _item_sets(part: CTRDataset) -> csr_array:
    """The genres of each item: ``[num_items, num_genres]`` of ones; row 0, padding, is empty."""
    field = set_field(part)
    values = part.item_feat[field]
    if isinstance(values, Ragged):
        values = values.compact()
        lengths, values = values.lengths, values.values
    else:
        values = values.reshape(part.item_num, -1)
        lengths, values = torch.tensor(values.shape[1]), values.reshape(-1)
    items = torch.arange(part.item_num).repeat_interleave(lengths)
    pairs = np.stack([items.numpy(), values.numpy()])
    pairs = np.unique(pairs[:, pairs[1] != 0], axis=1)  # 0 is padding
    sets = csr_array(
        (np.ones(pairs.shape[1], dtype=np.int64), tuple(pairs)),
        shape=(part.item_num, part.num(field)),
    )
    return sets


def set_field(part: CTRDataset) -> str:
    """The item field of genres: ``volatility_field``, or the only ``token_seq`` field of items.

    Raises:
        ValueError: there is no such field, or there are several; or rows have no user, item or
            time.
    """
    if not part.has_histories:
        raise ValueError(
            f"dataset {part.dataset_name}: volatility is the change between a user's clicks, and "
            "these rows have no user, item or time (USER_ID_FIELD, ITEM_ID_FIELD, TIME_FIELD)."
        )
    tokens = [
        field
        for field in part.fields(
            ftype=[FeatureType.TOKEN, FeatureType.TOKEN_SEQ], source=[FeatureSource.ITEM]
        )
        if part.item_feat is not None and field in part.item_feat
    ]
    sequences = [field for field in tokens if part.field2type[field] == FeatureType.TOKEN_SEQ]
    field, where = part.config["volatility_field"], f"dataset {part.dataset_name}"
    load = "Load one by load_col: {item: [...]} and name it by volatility_field."
    if field is not None:
        if field not in tokens:
            raise ValueError(
                f"volatility_field: '{field}' is no loaded item field of type token_seq or token "
                f"of {where}, which has {', '.join(tokens) or 'none'}.{nearest(field, tokens)} "
                f"{load}"
            )
        return field
    if not sequences:
        raise ValueError(
            f"volatility_field: {where} has no loaded item field of type token_seq, so that items "
            f"have no genres or categories whose change could be measured. {load}"
        )
    if len(sequences) > 1:
        raise ValueError(
            f"volatility_field: {where} has several item fields of type token_seq, "
            f"{', '.join(sequences)}; say which of them holds the genres or categories."
        )
    return sequences[0]
