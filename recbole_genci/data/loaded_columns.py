"""Check the columns that were read: their names, their values, and the keys that name them.

Without these checks RecBole would silently drop, fill or misread rows.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from recbole.data.dataset import Dataset
from recbole.utils import FeatureType

from recbole_genci.config.fitted import transforms_of
from recbole_genci.config.row_fields import how_to_read
from recbole_genci.data.file_checks import (
    id_fields,
    label_fields,
    ordered_fields,
    place_of_row,
    points_to_keys,
)
from recbole_genci.utils.value_checks import PAD_TOKEN, nearest

_logger = logging.getLogger(__name__)

LARGE_NUMBER = 10  # a numerical feature with larger values gets a warning


@points_to_keys
def check_loaded(dataset: Dataset, token: str, folder: Path, attached: set[str]) -> None:
    """Refuse columns that are missing, that do not fit a key, or whose values cannot be used.

    Args:
        attached: names of the columns that this plugin adds to batches.
    """
    _check_ids_and_names(dataset, token, folder, attached)
    _check_features(dataset, folder)
    _check_aliases(dataset)
    _check_intervals(dataset)
    _check_lengths(dataset)
    _check_values(dataset, token, folder)


def _check_ids_and_names(dataset: Dataset, token: str, folder: Path, attached: set[str]) -> None:
    """Refuse rows without ids, and names of columns and values that are taken."""
    for field in id_fields(dataset).values():
        if field not in dataset.inter_feat:
            raise ValueError(
                f"{folder}: {token}.inter gave no column '{field}'. {_how(dataset, field)} Name "
                "the id columns by USER_ID_FIELD and ITEM_ID_FIELD; or set both to ~ if rows have "
                "neither, for models that read no histories."
            )
    if reserved := sorted(attached & set(dataset.field2type)):
        raise ValueError(
            f"{folder}: {', '.join(reserved)} is the name of a column that this plugin attaches to "
            "every batch. Leave the field out by load_col or unload_col, rename it in the file, or "
            "give the column another name by LIST_SUFFIX, NEG_PREFIX or ITEM_LIST_LENGTH_FIELD."
        )
    for feat in (dataset.inter_feat, dataset.user_feat, dataset.item_feat):
        for field in set(id_fields(dataset).values()) & set(feat if feat is not None else ()):
            if (feat[field] == PAD_TOKEN).any():
                raise ValueError(
                    f"{folder}: '{PAD_TOKEN}' is a value of '{field}' in {token}'s files; "
                    "RecBole's padding has that name. Rename it there."
                )


def _check_features(dataset: Dataset, folder: Path) -> None:
    """Refuse ``numerical_features`` that are no numbers or the label, and rows without features."""
    kinds, config = dataset.field2type, dataset.config
    known = [
        name for name, kind in kinds.items() if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ)
    ]
    fit = [name for name in known if name not in label_fields(dataset)]
    for field in config["numerical_features"] or ():
        if field in kinds and field not in known:
            is_id = field in id_fields(dataset).values()
            numbers = f" If its values are numbers, call it '{field}:float' in its file."
            raise ValueError(
                f"numerical_features: '{field}' is a column of type {kinds[field].value}, which "
                f"models read without this key. Leave it out.{'' if is_id else numbers}"
            )
        if field not in known:
            raise ValueError(
                f"numerical_features: '{field}' is no loaded column of type float or float_seq; "
                f"those are {', '.join(fit) or 'none'}.{nearest(field, fit)} Load it by "
                "load_col."
            )
        if field in label_fields(dataset):
            raise ValueError(
                f"numerical_features: '{field}' is the label, or the label is made of it; no model "
                "may read it. Leave it out."
            )
    if not _tokens(dataset) and not config["numerical_features"] and not config["transforms"]:
        raise ValueError(
            f"{folder}: no column that is read is a feature. Columns of numbers are features only "
            f"if numerical_features names them; read are {', '.join(known)}."
        )


def _check_intervals(dataset: Dataset) -> None:
    """Refuse a ``val_interval`` that does not fit its column; RecBole would keep other rows."""
    kinds, intervals = dataset.field2type, dataset.config["val_interval"]
    intervals = intervals if isinstance(intervals, Mapping) else {}
    if unknown := sorted(set(intervals) - set(kinds)):
        raise ValueError(
            f"val_interval: '{unknown[0]}' is no loaded column; those are "
            f"{', '.join(kinds)}.{nearest(unknown[0], kinds)}"
        )
    for field, value in intervals.items():
        if value is not None and kinds[field] in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ):
            raise ValueError(
                f"val_interval: '{field}' is a column of type {kinds[field].value}; only columns "
                "of type token and float can be filtered by their value. Leave it out."
            )
        is_number = kinds[field] == FeatureType.FLOAT
        is_list = isinstance(value, (list, tuple))
        # RecBole would keep or drop the wrong rows.
        if value is not None and is_number == is_list:
            form = (
                "an interval such as '[3,5]'"
                if is_number
                else "a list of values such as ['a', 'b']"
            )
            raise ValueError(
                f"val_interval: {value!r} for '{field}', a column of type {kinds[field].value}, is "
                f"not {form}."
            )
        if is_list and (other := [each for each in value if not isinstance(each, str)]):
            raise ValueError(
                f"val_interval: {other[0]!r} for '{field}' is no text, and tokens are texts. Quote "
                f"it: '{other[0]}'."
            )


def _check_lengths(dataset: Dataset) -> None:
    """Refuse a ``seq_len`` of a column that has no sequences."""
    sequences = [f for f, kind in dataset.field2type.items() if kind.value.endswith("_seq")]
    for field in dataset.config["seq_len"] or {}:
        if field not in sequences:
            raise ValueError(
                f"seq_len: '{field}' is no loaded column of type token_seq or float_seq; those are "
                f"{', '.join(sequences) or 'none'}.{nearest(str(field), sequences)}"
            )


def _check_values(dataset: Dataset, token: str, folder: Path) -> None:
    """Refuse rows without an id, or without a finite time, label or rating."""
    ids = dataset.inter_feat[list(id_fields(dataset).values())]
    if dataset.benchmark_filename_list and (empty := ids.isna().any(axis=1)).any():
        raise ValueError(
            f"{folder}: {empty.sum()} rows of benchmark_filename have no '{dataset.uid_field}' or "
            f"no '{dataset.iid_field}'. Remove these lines."
        )
    # RecBole fills a missing rating or time with the column's mean. An infinite one has no place in
    # an order.
    for field in ordered_fields(dataset) & set(dataset.inter_feat):
        missing = ~np.isfinite(dataset.inter_feat[field].to_numpy(dtype=float))
        if missing.any():
            row, rows = int(missing.argmax()), f"{missing.sum()} of {len(missing)} rows"
            line = place_of_row(dataset, folder, row)
            raise ValueError(
                f"{folder}: {token}.inter lacks a finite '{field}' in {rows}, first in {line}. "
                "Complete or remove these lines."
            )


def _tokens(dataset: Dataset) -> list[str]:
    """The columns of tokens that are read."""
    kinds = (FeatureType.TOKEN, FeatureType.TOKEN_SEQ)
    return [name for name, kind in dataset.field2type.items() if kind in kinds]


def _check_aliases(dataset: Dataset) -> None:
    """Refuse aliases that no column of tokens has; RecBole would fail without their key."""
    known = _tokens(dataset)
    own = {"alias_of_user_id": dataset.uid_field, "alias_of_item_id": dataset.iid_field}
    taken = {field: key for key, field in own.items() if field is not None}
    for key in own:
        for field in dataset.config[key] or ():
            if field not in known:
                raise ValueError(
                    f"{key}: '{field}' is no loaded column of type token or token_seq; those are "
                    f"{', '.join(known)}.{nearest(field, known)} Load it by load_col."
                )
            if taken.setdefault(field, key) != key:
                raise ValueError(
                    f"{key}: '{field}' cannot hold both user IDs and item IDs. Name it once."
                )


@points_to_keys
def check_label(dataset: Dataset) -> None:
    """Refuse rows without a label, or without the column that ``threshold`` makes it of; and rows
    with both.
    """
    columns, threshold = dataset.inter_feat, dataset.config["threshold"]
    if threshold is None and dataset.label_field not in columns:
        raise ValueError(
            f"dataset {dataset.dataset_name}: the rows have no column '{dataset.label_field}' and "
            f"no threshold is set. {_how(dataset, dataset.label_field)} Labels of 0 and 1 are in "
            "the column that LABEL_FIELD names, or made by threshold: {rating: 4} (a rating of 4 "
            "or more is a click)."
        )
    for field in threshold or ():
        if field not in columns:
            raise ValueError(
                f"threshold: the rows have no column '{field}', of which labels are made. "
                f"{_how(dataset, field)}"
            )
    if threshold and dataset.label_field in columns and dataset.label_field not in threshold:
        raise ValueError(
            f"threshold: it makes labels of '{next(iter(threshold))}', and the rows have labels, "
            f"in column '{dataset.label_field}'. Leave threshold out; or leave that column out by "
            "load_col or unload_col."
        )


@points_to_keys
def check_label_values(dataset: Dataset) -> None:
    """Refuse labels other than 0 and 1, once ``threshold`` has made them."""
    label, field = dataset.inter_feat[dataset.label_field], dataset.label_field
    if not label.isin([0, 1]).all():
        bad = label[~label.isin([0, 1])].iloc[0]
        raise ValueError(
            f"LABEL_FIELD: column '{field}' holds {bad:g}; labels must be 0 or 1. Change the file; "
            f"or make labels of this column by threshold: {{{field}: ...}}, and give LABEL_FIELD a "
            "new name."
        )


def _how(dataset: Dataset, field: str) -> str:
    """Which columns the file of rows has, and how one that is not read is."""
    return how_to_read(dataset.config.final_config_dict, field)


@points_to_keys
def check_scaled(dataset: Dataset) -> None:
    """Refuse a time that is not there, and a ``normalize_field`` that is no column of numbers."""
    if dataset.time_field is not None and dataset.time_field not in dataset.inter_feat:
        raise ValueError(
            f"TIME_FIELD: the rows of {dataset.dataset_name} have no column "
            f"'{dataset.time_field}'. {_how(dataset, dataset.time_field)} Or set TIME_FIELD to ~ "
            "if rows have no time, for models that read no histories."
        )
    kinds = (FeatureType.FLOAT, FeatureType.FLOAT_SEQ)
    known = [name for name, kind in dataset.field2type.items() if kind in kinds]
    features = [each for each in known if each not in (dataset.time_field, dataset.label_field)]
    for field in dataset.config["normalize_field"] or ():
        if field not in known:
            raise ValueError(
                f"normalize_field: '{field}' is no loaded column of type float or float_seq; those "
                f"are {', '.join(features) or 'none'}.{nearest(field, known)} A column is loaded "
                "by load_col."
            )


def warn_of_large_numbers(dataset: Dataset) -> None:
    """Warn of numerical features that are much larger than the embeddings they are summed with."""
    numbers = set(dataset.config["numerical_features"] or ()) - set(
        dataset.config["discretization"] or ()
    )
    numbers -= set(transforms_of(dataset.config))
    for feat in (dataset.inter_feat, dataset.user_feat, dataset.item_feat):
        for field in sorted(numbers & set(feat if feat is not None else ())):
            if (
                dataset.field2type[field] == FeatureType.FLOAT
                and (largest := feat[field].abs().max()) > LARGE_NUMBER
            ):
                _logger.warning(
                    f"numerical_features: '{field}' reaches {largest:g}, and models multiply its "
                    f"embedding by it. Scale it to 0 to 1 by normalize_field: [{field}], or by "
                    f"transforms: {{{field}: [log, standard]}}, or cut it into buckets by "
                    "discretization."
                )
