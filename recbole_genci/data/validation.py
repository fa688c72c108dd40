"""Check a dataset's files and columns. Errors name the file or column.

Without these checks RecBole would silently drop, fill or misread rows.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Concatenate, ParamSpec

import numpy as np
import pandas as pd
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType

from recbole_genci.config.fitted import transforms_of
from recbole_genci.config.row_fields import how_to_read
from recbole_genci.config.values import ALL_COLUMNS
from recbole_genci.utils.atomic_files import line_of_row, other_seq_separator
from recbole_genci.utils.validation import PAD_TOKEN, nearest

_logger = logging.getLogger(__name__)

P = ParamSpec("P")

LARGE_NUMBER = 10  # a numerical feature with larger values gets a warning
LONG_CELL = 100  # entries of a sequence that are many if most cells have few


def points_to_keys(check: Callable[Concatenate[Dataset, P], None]) -> Callable[..., None]:
    """Make a check of columns name the dataset's file of keys, if that was not given."""

    @functools.wraps(check)
    def checked(dataset: Dataset, *args: P.args, **kwargs: P.kwargs) -> None:
        with dataset.config.pointing_to_keys():
            check(dataset, *args, **kwargs)

    return checked


def is_read(dataset: Dataset, source: FeatureSource, field: str) -> bool:
    """Whether ``load_col`` and ``unload_col`` let in a column of a file of this kind."""
    wanted, unwanted = dataset._get_load_and_unload_col(source)
    return (wanted is None or field in wanted) and field not in (unwanted or ())


def ordered_fields(dataset: Dataset) -> set[str]:
    """Columns whose values are compared: time, label, and the column that the label is made of."""
    time = () if dataset.time_field is None else (dataset.time_field,)
    return {*time, *label_fields(dataset)}


def label_fields(dataset: Dataset) -> set[str]:
    """The label's column and those that it is made of, which no model may read."""
    return {dataset.label_field, *(dataset.config["threshold"] or ())}


def _id_fields(dataset: Dataset) -> dict[FeatureSource, str]:
    """The id column of each kind of file: it says which user or item a line describes.

    Empty for rows without users and items.
    """
    ids = {FeatureSource.USER: dataset.uid_field, FeatureSource.ITEM: dataset.iid_field}
    return {source: field for source, field in ids.items() if field is not None}


@points_to_keys
def check_files(dataset: Dataset, token: str, folder: Path) -> None:
    """Check that the folder has the rows, and each file from which ``load_col`` takes features.

    Raises:
        FileNotFoundError: a file is missing; names it.
        ValueError: ``additional_feat_suffix`` names other files.
    """
    if dataset.config["additional_feat_suffix"]:
        raise ValueError(
            f"additional_feat_suffix: {dataset.config['additional_feat_suffix']} names files of "
            "neither rows nor users nor items, which no CTR model reads. Leave it out, and put "
            "their columns into the .inter, .user or .item file."
        )
    for name in dataset.benchmark_filename_list or [None]:
        file = folder / (f"{token}.{name}.inter" if name else f"{token}.inter")
        if not file.is_file():
            files = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
            advice = (
                "Put the rows there, one (user, item, label or rating, time) a line, or point "
                "--data_path at the folder that has them."
            )
            if parts := _parts_of(token, folder):
                advice = f"If its rows are split already, set benchmark_filename: [{parts}]."
            raise FileNotFoundError(f"{file} does not exist; {folder} holds {files}. {advice}")
    _check_without_ids(dataset, token, folder)
    for source, own in _id_fields(dataset).items():
        columns = (dataset.config["load_col"] or {}).get(source.value) or ()
        features = [field for field in columns if field != own]
        if columns == ALL_COLUMNS:
            features = ["all columns"]
        file = folder / f"{token}.{source.value}"
        if features and not file.is_file():
            raise FileNotFoundError(
                f"load_col: {file}, from which it asks for {', '.join(features)}, does not exist. "
                f"Put the file there, or leave {source.value} out of load_col."
            )


def _parts_of(token: str, folder: Path) -> str:
    """The names of the files of rows that are split already, as ``benchmark_filename`` takes them:
    three, of training, validation and test.
    """
    names = [file.name[len(token) + 1 : -len(".inter")] for file in folder.glob(f"{token}.*.inter")]
    usual = [name for name in ("train", "valid", "test") if name in names]
    others = sorted(set(names) - set(usual))
    parts = [*usual, *others]
    if usual == ["train", "test"] and not others:
        parts.insert(1, "test")  # as those of BARS without validation rows
    return ", ".join(parts)


def _check_without_ids(dataset: Dataset, token: str, folder: Path) -> None:
    """Refuse files of users or items where rows have neither, as RecBole would name no file."""
    for source, key in (
        (FeatureSource.USER, "USER_ID_FIELD"),
        (FeatureSource.ITEM, "ITEM_ID_FIELD"),
    ):
        file = folder / f"{token}.{source.value}"
        if dataset.config["load_col"] is None and dataset.config[key] is None and file.is_file():
            raise ValueError(
                f"{key}: rows have no {source.value}, but {file} describes {source.value}s. Name "
                "the column, or say by load_col: {inter: '*'} that only rows are read."
            )


@points_to_keys
def check_header(
    dataset: Dataset,
    file: Path,
    source: FeatureSource,
    header: Mapping[str, str],
    columns: Iterable[str],
) -> None:
    """Refuse a header that lacks one of ``columns``, or gives a column a type that its use forbids.

    ``columns`` are those that ``load_col`` names for the file.
    """
    kinds = dict.fromkeys(_id_fields(dataset).values(), "token")
    if source == FeatureSource.INTERACTION:
        # RecBole numbers the tokens of a column by first appearance, so that times and ratings
        # would lose their order.
        kinds |= dict.fromkeys(ordered_fields(dataset), "float")
    for field, kind in kinds.items():
        if header.get(field, kind) != kind:
            raise ValueError(
                f"The header of {file} declares '{field}:{header[field]}', which must be "
                f"'{field}:{kind}'. Change it there."
            )
    own, columns = _id_fields(dataset).get(source), list(columns)
    if own and columns and own not in columns:
        key = "USER_ID_FIELD" if source == FeatureSource.USER else "ITEM_ID_FIELD"
        raise ValueError(
            f"load_col: '{source.value}' lists {', '.join(columns)} without '{own}', the column "
            f"that says whom or what a line describes (key {key}). Add it."
        )
    for field in columns:
        if field not in header:
            raise ValueError(
                f"load_col: field '{field}' is not a column of {file}, which has "
                f"{', '.join(header)}.{nearest(field, header)}"
            )


def check_read_once(dataset: Dataset, file: Path, source: FeatureSource, fields: list[str]) -> None:
    """Refuse a column that another file has given: rows would get the value of their user or item,
    a label or an id too.

    Args:
        fields: the columns that are read of the file.
    """
    if source not in (FeatureSource.USER, FeatureSource.ITEM):
        return
    for field in fields:
        if field in dataset.field2source and field != _id_fields(dataset).get(source):
            before = dataset.field2source[field].value.removesuffix("_id")
            raise ValueError(
                f"load_col: '{field}' is read from {file} and from the .{before} file, and a row "
                "can have only one of them. Leave it out of one by load_col or unload_col, or "
                "rename it there."
            )


def check_described_once(
    dataset: Dataset, file: Path, source: FeatureSource, frame: pd.DataFrame
) -> None:
    """Refuse a user or item with two lines; RecBole would silently keep the first."""
    own = _id_fields(dataset).get(source)
    if own in frame and (again := frame[own].duplicated()).any():
        row = int(again.to_numpy().argmax())
        raise ValueError(
            f"{file} describes {again.sum()} of its {source.value}s twice, the first is "
            f"{frame[own].iloc[row]!r}, in line {line_in_file(dataset, file, row)}. Keep one line "
            "of each."
        )


def line_in_file(dataset: Dataset, file: Path, row: int) -> int:
    """The line of a file that holds row ``row``, from 0 on, for a message."""
    encoding = dataset.config["encoding"] or "utf-8"
    return line_of_row(file, row, dataset.config["field_separator"], encoding)


def place_of_row(dataset: Dataset, folder: Path, row: int) -> str:
    """Where row ``row`` of the interactions stands, from 0 on, before any filter: ``line 3``."""
    token = dataset.dataset_name
    if not dataset.benchmark_filename_list:
        return f"line {line_in_file(dataset, folder / f'{token}.inter', row)}"
    ends = np.cumsum(dataset.file_size_list)
    number = int(np.searchsorted(ends, row, side="right"))
    file = folder / f"{token}.{dataset.benchmark_filename_list[number]}.inter"
    line = line_in_file(dataset, file, row - int(ends[number - 1] if number else 0))
    return f"line {line} of {file.name}"


def warn_of_seq_separator(dataset: Dataset, file: Path, field: str, cells: pd.Series) -> None:
    """Warn of a column of tokens whose cells seem to be divided by another separator.

    Each cell would be read as one token.
    """
    separator = dataset.config["seq_separator"]
    if found := other_seq_separator(cells, separator):
        other, number, cell = found
        _logger.warning(
            f"{file}: no cell of '{field}' has the seq_separator {separator!r}, but {number} of "
            f"{len(cells)} have {other!r}, such as {cell!r}, and are read as one entry each. If "
            f"{other!r} divides entries, set seq_separator: {other!r}."
        )


def warn_of_long_cells(
    dataset: Dataset, source: FeatureSource, field: str, lengths: np.ndarray
) -> None:
    """Warn of a sequence that is far longer than the others: a batch is padded to its longest.

    Args:
        lengths: ``[R]`` entries that are read of each cell.
    """
    longest, usual = int(lengths.max()), int(np.quantile(lengths, 0.99, method="lower"))
    if longest >= LONG_CELL and longest > 10 * max(usual, 1):
        entries = "tokens" if dataset.field2type[field] == FeatureType.TOKEN_SEQ else "numbers"
        _logger.warning(
            f"{source.value} field '{field}': one row has {longest} {entries}, 99 % have at most "
            f"{usual}; every batch that has it is padded to it, in memory and time. Set seq_len: "
            f"{{{field}: {max(usual, 1)}}}."
        )


@points_to_keys
def check_loaded(dataset: Dataset, token: str, folder: Path, attached: set[str]) -> None:
    """Refuse columns that are missing, that do not fit a key, or whose values cannot be used.

    Args:
        attached: names of the columns that this plugin adds to batches.
    """
    kinds, config = dataset.field2type, dataset.config
    for field in _id_fields(dataset).values():
        if field not in dataset.inter_feat:
            raise ValueError(
                f"{folder}: {token}.inter gave no column '{field}'. {_how(dataset, field)} Name "
                "the id columns by USER_ID_FIELD and ITEM_ID_FIELD; or set both to ~ if rows have "
                "neither, for models that read no histories."
            )
    if reserved := sorted(attached & set(kinds)):
        raise ValueError(
            f"{folder}: {', '.join(reserved)} is the name of a column that this plugin attaches to "
            "every batch. Leave the field out by load_col or unload_col, rename it in the file, or "
            "give the column another name by LIST_SUFFIX, NEG_PREFIX or ITEM_LIST_LENGTH_FIELD."
        )
    for feat in (dataset.inter_feat, dataset.user_feat, dataset.item_feat):
        for field in set(_id_fields(dataset).values()) & set(feat if feat is not None else ()):
            if (feat[field] == PAD_TOKEN).any():
                raise ValueError(
                    f"{folder}: '{PAD_TOKEN}' is a value of '{field}' in {token}'s files; "
                    "RecBole's padding has that name. Rename it there."
                )
    known = [
        name for name, kind in kinds.items() if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ)
    ]
    fit = [name for name in known if name not in label_fields(dataset)]
    for field in config["numerical_features"] or ():
        if field in kinds and field not in known:
            is_id = field in _id_fields(dataset).values()
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
    _check_aliases(dataset)
    intervals = config["val_interval"] if isinstance(config["val_interval"], Mapping) else {}
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
    sequences = [f for f, kind in kinds.items() if kind.value.endswith("_seq")]
    for field in config["seq_len"] or {}:
        if field not in sequences:
            raise ValueError(
                f"seq_len: '{field}' is no loaded column of type token_seq or float_seq; those are "
                f"{', '.join(sequences) or 'none'}.{nearest(str(field), sequences)}"
            )
    ids = dataset.inter_feat[list(_id_fields(dataset).values())]
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
