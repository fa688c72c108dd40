"""Check a dataset's files as they are read. Errors name the file or column.

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

from recbole_genci.config.values import ALL_COLUMNS
from recbole_genci.utils.atomic_files import encoding_of, line_of_row, other_seq_separator
from recbole_genci.utils.value_checks import nearest

_logger = logging.getLogger(__name__)

P = ParamSpec("P")

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


def id_fields(dataset: Dataset) -> dict[FeatureSource, str]:
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
    for source, own in id_fields(dataset).items():
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
    kinds = dict.fromkeys(id_fields(dataset).values(), "token")
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
    own, columns = id_fields(dataset).get(source), list(columns)
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
        if field in dataset.field2source and field != id_fields(dataset).get(source):
            before = dataset.field2source[field].value.removesuffix("_id")
            raise ValueError(
                f"load_col: '{field}' is read from {file} and from the .{before} file, and a row "
                "can have only one of them. Leave it out of one by load_col or unload_col, or "
                "rename it there."
            )


def check_described_once(
    dataset: Dataset, file: Path, source: FeatureSource, frame: pd.DataFrame
) -> None:
    """Refuse a user or item with two lines, of which RecBole would silently keep the first, and two
    lines without an id.
    """
    own = id_fields(dataset).get(source)
    if own not in frame:
        return
    lacks_id = frame[own].isna().to_numpy()
    if lacks_id.sum() > 1:
        line = line_in_file(dataset, file, int(lacks_id.argmax()))
        raise ValueError(
            f"{file}: {lacks_id.sum()} lines have no {own}, the first is line {line}. Write the id "
            "into each, or take the line out."
        )
    if (again := frame[own].duplicated()).any():
        row = int(again.to_numpy().argmax())
        raise ValueError(
            f"{file} describes {again.sum()} of its {source.value}s twice, the first is "
            f"{frame[own].iloc[row]!r}, in line {line_in_file(dataset, file, row)}. Keep one line "
            "of each."
        )


def line_in_file(dataset: Dataset, file: Path, row: int) -> int:
    """The line of a file that holds row ``row``, from 0 on, for a message."""
    encoding = encoding_of(dataset.config)
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
