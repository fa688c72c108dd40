"""The rows that one of our models reads, as files that FuxiCTR reads.

``write_rows`` makes ``train.npz``, ``valid.npz``, ``test.npz`` and ``feature_map.json``, of
FuxiCTR's format, with our ids: 0 is padding. FuxiCTR's own preparation of data is not used, so that
both sides see the same rows, ids and histories.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_genci.data.loaders import PARTS

HISTORY = "_history"  # ends the name of an item feature's column of clicks
_MEAN = "layers.MaskedAveragePooling()"


def field_names(model: Any) -> dict[str, list[str]]:
    """The fields of a model, in the order of its input: ``user``, ``item``, or ``all`` of them.

    Raises:
        ValueError: a field is numeric.
    """
    layer = getattr(model, "embedding_layer", None)
    if layer is None:
        _refuse_numbers([*model.float_field_names, *model.float_seq_field_names])
        return {"all": model.token_seq_field_names + model.token_field_names}
    found = {}
    for kind in ("user", "item"):
        _refuse_numbers([*layer.float_field_names[kind], *layer.float_seq_field_names[kind]])
        found[kind] = layer.token_field_names[kind] + layer.token_seq_field_names[kind]
    return found


def _refuse_numbers(fields: Sequence[str]) -> None:
    if fields:
        raise ValueError(
            f"numerical_features: {fields[0]} is a number, and this check compares tokens alone; "
            "leave it out, or make it a token by transforms."
        )


def write_rows(folder: Path, model: Any, parts: Sequence[Any]) -> dict[str, dict]:
    """Write the rows of three parts as ``model`` reads them; return FuxiCTR's features by name.

    Args:
        parts: the training, validation and test part as the model reads them (``view``).
    """
    names = field_names(model)
    tables = [_columns(part, names) for part in parts]
    first = parts[0]
    features = {
        name: _feature(first, name, max(table[name].shape[1] for table in tables), names)
        for name in tables[0]
        if name != first.label_field
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in zip(PARTS, tables):
        wide = {
            key: _padded(column, features[key].get("max_len", 1) if key in features else 1)
            for key, column in table.items()
        }
        np.savez(folder / f"{name}.npz", **wide)
    (folder / "feature_map.json").write_text(
        json.dumps(
            {
                "dataset_id": folder.name,
                "num_fields": len(features),
                "labels": [first.label_field],
                "features": [{name: feature} for name, feature in features.items()],
            }
        )
    )
    return features


def _columns(part: Any, names: Mapping[str, list[str]]) -> dict[str, np.ndarray]:
    """Each column ``[R, L]`` of a part: the features in the order of a model's input, the label."""
    rows = part[torch.arange(len(part))]
    columns = {name: rows[name] for name in names.get("all", names.get("user", []))}
    if "item" in names:
        clicked = rows[f"{part.iid_field}{part.config['LIST_SUFFIX']}"]  # [R, H]
        items = part.item_feat[torch.arange(part.item_num)]
        for name in names["item"]:
            values = items[name][clicked]  # [R, H] or [R, H, G]
            is_click = clicked.reshape(*clicked.shape, *[1] * (values.dim() - 2)) != 0
            columns[name + HISTORY] = (values * is_click).flatten(1)
        columns |= {name: rows[name] for name in names["item"]}
    columns[part.label_field] = rows[part.label_field]
    return {
        name: column.reshape(len(part), -1).numpy().astype(np.int32)
        for name, column in columns.items()
    }


def _feature(part: Any, name: str, width: int, names: Mapping[str, list[str]]) -> dict:
    """FuxiCTR's description of a feature whose column has ``width`` entries."""
    of = name.removesuffix(HISTORY) if "item" in names else name
    feature: dict[str, Any] = {"source": "", "type": "categorical", "vocab_size": part.num(of)}
    is_sequence = part.field2type[of].value.endswith("_seq")
    if name != of:
        feature |= {"type": "sequence", "padding_idx": 0, "max_len": width}
        if is_sequence:  # the values of each click become one vector
            clicks = part.config["MAX_ITEM_LIST_LENGTH"]
            feature["feature_encoder"] = [
                f"nn.Unflatten(1, ({clicks}, {width // clicks}))",
                "nn.Flatten(0, 1)",
                _MEAN,
                f"nn.Unflatten(0, (-1, {clicks}))",
            ]
        return feature
    if is_sequence:
        feature |= {"type": "sequence", "padding_idx": 0, "max_len": width}
        feature["feature_encoder"] = _MEAN
    if name in names.get("item", ()):
        feature |= {"padding_idx": 0, "share_embedding": name + HISTORY}
    return feature


def _padded(column: np.ndarray, width: int) -> np.ndarray:
    """A column ``[R, L]`` as ``[R, width]``, or ``[R]`` if there is one entry a row."""
    padded = np.pad(column, ((0, 0), (0, width - column.shape[1])))
    return padded[:, 0] if width == 1 else padded
