"""Hashes of the data: equal only if every model sees the same rows, or rows and features."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from recbole.data.interaction import Interaction

from recbole_genci.data.dataset import HISTORY_END, HISTORY_START, TIME_RANK, CTRDataset
from recbole_genci.utils.ragged import Ragged


def data_fingerprint(parts: Sequence[CTRDataset]) -> str:
    """SHA-256 over the ids, labels, exact time order and histories of all parts."""
    digest = hashlib.sha256()
    whole = parts[0]
    for field in (whole.uid_field, whole.iid_field):
        digest.update("\n".join(map(str, whole.field2id_token[field])).encode())
    for part in parts:
        digest.update(b"part")
        for column in (
            whole.uid_field,
            whole.iid_field,
            whole.label_field,
            TIME_RANK,
            HISTORY_START,
            HISTORY_END,
        ):
            digest.update(part.inter_feat[column].numpy().astype(np.int64).data)
    digest.update(whole.history.items.numpy().astype(np.int64).data)
    return digest.hexdigest()


def rows_fingerprint(parts: Sequence[CTRDataset]) -> str:
    """SHA-256 over ``data_fingerprint`` and over all features."""
    digest = hashlib.sha256(data_fingerprint(parts).encode())
    whole = parts[0]
    for features in (*(part.inter_feat for part in parts), whole.user_feat, whole.item_feat):
        _add_features(digest, features)
    for field in sorted(whole.field2id_token):
        digest.update("\n".join([field, *map(str, whole.field2id_token[field])]).encode())
    return digest.hexdigest()


def _add_features(digest: hashlib._Hash, features: Interaction | None) -> None:
    if features is None:
        return
    for field in sorted(features.interaction):
        digest.update(field.encode())
        column = features[field]
        if isinstance(column, Ragged):
            column = column.compact()
            digest.update(column.lengths.numpy().astype(np.int64).data)
            column = column.values
        column = column.numpy()
        # Whole numbers count by their value, whatever type they have here.
        column = column.astype(np.int64) if column.dtype.kind == "i" else column
        digest.update(np.ascontiguousarray(column).data)
