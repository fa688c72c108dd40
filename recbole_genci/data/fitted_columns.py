"""Check the columns that ``transforms`` and ``min_count`` name by the headers of the files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource

from recbole_genci.config.fitted import CRITEO, OTHERS, makes_tokens, transforms_of
from recbole_genci.data.file_checks import is_read, label_fields, points_to_keys
from recbole_genci.utils.atomic_files import encoding_of, read_header
from recbole_genci.utils.value_checks import nearest

_NUMBERS, _TOKENS = ("float", "float_seq"), ("token", "token_seq")


class _Column(NamedTuple):
    """A column of a file: its type, and whether ``load_col`` and ``unload_col`` let it in."""

    file: Path
    source: str
    kind: str
    is_read: bool


@points_to_keys
def check_fitted_columns(dataset: Dataset, token: str, folder: Path) -> None:
    """Refuse ``transforms`` and ``min_count`` of columns of another type, or of none.

    Raises:
        ValueError: names the key, the column and what may be meant.
    """
    config = dataset.config
    # Those that '*' stands for are checked as numerical_features.
    steps, counts = transforms_of(config), config["min_count"]
    written = [field for field in config["transforms"] or () if field != OTHERS]
    counted = [field for field in counts if field != OTHERS] if isinstance(counts, Mapping) else []
    if not written and not counted:
        return
    columns, ids = dict(_columns(dataset, token, folder)), (dataset.uid_field, dataset.iid_field)
    label = label_fields(dataset)
    for field in written:
        column = _known("transforms", field, columns, _NUMBERS, label)
        if column.kind in _TOKENS:
            numbers = f" If its values are numbers, call it '{field}:float' there."
            raise ValueError(
                f"transforms: '{field}' is a column of type {column.kind} in {column.file}, and "
                f"transforms changes numbers. Leave it out.{'' if field in ids else numbers}"
            )
        if not makes_tokens(steps[field]) and field not in (config["numerical_features"] or ()):
            raise ValueError(
                f"transforms: '{field}' is not in numerical_features, so that no model reads its "
                f"numbers. Add it there, or make categories of it: {{{field}: {{buckets: 10}}}}."
            )
    for field in counted:
        column = _known("min_count", field, columns, _TOKENS, label)
        if column.kind in _NUMBERS and not (field in steps and steps[field][-1][0] == CRITEO):
            raise ValueError(
                f"min_count: '{field}' is a column of type {column.kind} in {column.file}, and "
                "min_count counts tokens. Leave it out."
            )


def _known(
    key: str,
    field: str,
    columns: Mapping[str, _Column],
    kinds: tuple[str, ...],
    label: Collection[str],
) -> _Column:
    """The column of that name, which must be one that is read."""
    column = columns.get(field)
    if column is not None and column.is_read:
        return column
    if column is not None:
        raise ValueError(
            f"{key}: '{field}' is a column of {column.file} that is not read. Load it by load_col: "
            f"{{{column.source}: [..., {field}]}}."
        )
    fit = [
        name
        for name, own in columns.items()
        if own.is_read and own.kind in kinds and name not in label
    ]
    raise ValueError(
        f"{key}: '{field}' is no loaded column of type {' or '.join(kinds)}; those are "
        f"{', '.join(fit) or 'none'}.{nearest(field, fit) or nearest(field, columns)}"
    )


def _columns(dataset: Dataset, token: str, folder: Path) -> Iterator[tuple[str, _Column]]:
    separator, encoding = dataset.config["field_separator"], encoding_of(dataset.config)
    rows = [f"{part}.inter" for part in dataset.benchmark_filename_list or ()] or ["inter"]
    for source, ending in (
        (FeatureSource.USER, "user"),
        (FeatureSource.ITEM, "item"),
        (FeatureSource.INTERACTION, rows[0]),
    ):
        file = folder / f"{token}.{ending}"
        if not file.is_file():
            continue
        for name, kind in read_header(file, separator, encoding).items():
            yield name, _Column(file, source.value, kind, is_read(dataset, source, name))
