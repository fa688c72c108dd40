"""Hashes of the data: equal only if every model sees the same rows, or rows and features."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Sequence

import numpy as np
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_genci.data.column_names import HISTORY_END, HISTORY_START, ROW_NUMBER, TIME_RANK
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.table import Column
from recbole_genci.utils.ragged import NARROW, Ragged

_CHUNK = 1 << 20  # numbers that are copied at a time

#: Fingerprints by the rows of the training part, with the columns that they are of. A run asks for
#: each of them several times, which takes seconds for millions of rows.
_known: weakref.WeakKeyDictionary[Interaction, tuple[list, object, dict[str, str]]] = (
    weakref.WeakKeyDictionary()
)


def data_fingerprint(parts: Sequence[CTRDataset]) -> str:
    """SHA-256 over the ids, labels, exact time order and histories of all parts."""
    return _computed_once("data", parts, _data_fingerprint)


def rows_fingerprint(parts: Sequence[CTRDataset]) -> str:
    """SHA-256 over ``data_fingerprint`` and over all features."""
    return _computed_once("rows", parts, _rows_fingerprint)


def fingerprints(parts: Sequence[CTRDataset]) -> dict[str, str]:
    """Both fingerprints, for another process that maps the same rows (``take_over``)."""
    return {"data": data_fingerprint(parts), "rows": rows_fingerprint(parts)}


def take_over(parts: Sequence[CTRDataset], found: dict[str, str]) -> None:
    """Take ``fingerprints`` of the same rows for those of ``parts``, without reading the rows."""
    _found(parts).update(found)


def _computed_once(
    name: str, parts: Sequence[CTRDataset], compute: Callable[[Sequence[CTRDataset]], str]
) -> str:
    """What ``compute`` gave for ``parts``, unless a column was replaced or changed since."""
    found = _found(parts)
    if name not in found:
        found[name] = compute(parts)
    return found[name]


def _found(parts: Sequence[CTRDataset]) -> dict[str, str]:
    """The fingerprints of ``parts`` that are known, by name; none once a column has changed."""
    whole = parts[0]
    tables = [*(part.inter_feat for part in parts), whole.user_feat, whole.item_feat]
    columns = {"history": whole.history.items}
    for number, table in enumerate(tables):
        if table is not None:
            columns |= {f"{number}/{field}": table[field] for field in table.interaction}
    state = [(field, id(column), _version(column)) for field, column in columns.items()]
    state += [(field, id(tokens), 0) for field, tokens in whole.field2id_token.items()]
    before, _, found = _known.get(whole.inter_feat, ([], None, dict[str, str]()))
    if before != state:
        # What is compared by its number must live as long as the number is kept.
        alive = (columns, list(whole.field2id_token.values()))
        before, _, found = _known[whole.inter_feat] = (state, alive, {})
    return found


def _version(column: Column) -> int:
    """How often a column was changed; a tensor counts."""
    return (column.values if isinstance(column, Ragged) else column)._version


def _data_fingerprint(parts: Sequence[CTRDataset]) -> str:
    digest = hashlib.sha256()
    whole = parts[0]
    # What tells rows apart: user and item, or their place in the file.
    fields = list(whole.id_fields.values())
    for field in fields:
        digest.update("\n".join(map(str, whole.field2id_token[field])).encode())
    for part in parts:
        digest.update(b"part")
        for column in (
            *(fields or [ROW_NUMBER]),
            whole.label_field,
            TIME_RANK,
            HISTORY_START,
            HISTORY_END,
        ):
            _add_whole(digest, part.inter_feat[column].numpy())
    _add_whole(digest, whole.history.items.numpy())
    return digest.hexdigest()


def _rows_fingerprint(parts: Sequence[CTRDataset]) -> str:
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
        if isinstance(column, Ragged) and column.longest <= NARROW:
            # The records of experiments have fingerprints of padded columns.
            column = column.padded()
        if isinstance(column, Ragged):
            column = column.compact()
            _add(digest, column.lengths)
            column = column.values
        _add(digest, column)


def _add(digest: hashlib._Hash, column: Tensor) -> None:
    values = column.numpy()
    if values.dtype.kind == "i":
        _add_whole(digest, values)
    else:
        digest.update(np.ascontiguousarray(values).data)


def _add_whole(digest: hashlib._Hash, values: np.ndarray) -> None:
    """Add numbers by their value, whatever type they have here; a part at a time."""
    for start in range(0, len(values), _CHUNK):
        digest.update(values[start : start + _CHUNK].astype(np.int64).data)
