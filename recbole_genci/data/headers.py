"""Check by the headers of a dataset's files what keys leave out, and that files of rows agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource

from recbole_genci.data.validation import points_to_keys
from recbole_genci.utils.atomic_files import read_header
from recbole_genci.utils.validation import nearest


@points_to_keys
def check_headers(dataset: Dataset, token: str, folder: Path) -> None:
    """Refuse ``unload_col`` and ``unused_col`` of columns that are not there, and files of rows of
    which one column has several types, or is a feature of some alone.

    RecBole leaves a column in that is misspelt there, and takes each column for what the last file
    calls it.

    Raises:
        ValueError: names the key or the column, and the files.
    """
    for source, files in _files(dataset, token, folder):
        columns = {file: _read_columns(dataset, source, file) for file in files}
        for field in (dataset.config["unused_col"] or {}).get(source.value) or ():
            for file, kinds in columns.items():
                if field not in kinds:
                    raise ValueError(
                        f"unused_col: '{field}' is no column that is read of {file}; those are "
                        f"{', '.join(kinds)}.{nearest(str(field), kinds)}"
                    )
        (first, of_first), *others = columns.items()
        for file, kinds in others:
            _check_alike(dataset, first, of_first, file, kinds)


def _files(
    dataset: Dataset, token: str, folder: Path
) -> Iterator[tuple[FeatureSource, list[Path]]]:
    """The files that are there, by what their lines describe."""
    rows = [f"{part}.inter" for part in dataset.benchmark_filename_list or ()] or ["inter"]
    yield FeatureSource.INTERACTION, [folder / f"{token}.{ending}" for ending in rows]
    for source, ending in ((FeatureSource.USER, "user"), (FeatureSource.ITEM, "item")):
        file = folder / f"{token}.{ending}"
        if file.is_file():
            yield source, [file]
            continue
        for key in ("unload_col", "unused_col"):
            if fields := (dataset.config[key] or {}).get(source.value):
                raise ValueError(
                    f"{key}: '{fields[0]}' would be a column of {file}, which does not exist. "
                    f"Leave '{source.value}' out."
                )


def _read_columns(dataset: Dataset, source: FeatureSource, file: Path) -> dict[str, str]:
    """The columns of a file that are read, with their types."""
    config = dataset.config
    header = read_header(file, config["field_separator"], config["encoding"] or "utf-8")
    wanted, unwanted = dataset._get_load_and_unload_col(source)
    for field in sorted(unwanted or ()):
        if field not in header:
            raise ValueError(
                f"unload_col: '{field}' is no column of {file}, which has {', '.join(header)}."
                f"{nearest(field, header)}"
            )
    return {
        name: kind
        for name, kind in header.items()
        if (wanted is None or name in wanted) and name not in (unwanted or ())
    }


def _check_alike(
    dataset: Dataset, first: Path, of_first: Mapping[str, str], other: Path, kinds: Mapping
) -> None:
    for field in of_first.keys() & kinds.keys():
        if of_first[field] != kinds[field]:
            raise ValueError(
                f"benchmark_filename: '{field}' is a column of type {of_first[field]} in {first} "
                f"and of type {kinds[field]} in {other}. Give it one type in all files."
            )
    numbers = dataset.config["numerical_features"] or ()
    for field in sorted(of_first.keys() ^ kinds.keys()):
        has, lacks = (first, other) if field in of_first else (other, first)
        kind = of_first.get(field) or kinds[field]
        is_feature = kind.startswith("token") or field in numbers
        # A column of `load_col` is refused where its file is read.
        if is_feature and dataset._get_load_and_unload_col(FeatureSource.INTERACTION)[0] is None:
            raise ValueError(
                f"benchmark_filename: {has} has the column '{field}', which models read, and "
                f"{lacks} does not. Add it there, or leave it out by unload_col."
            )
