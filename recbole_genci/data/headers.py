"""Check by the headers of a dataset's files what keys leave out, and that files of rows agree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource

from recbole_genci.config.fitted import transforms_of
from recbole_genci.data.file_checks import is_read, points_to_keys
from recbole_genci.utils.atomic_files import encoding_of, read_header
from recbole_genci.utils.value_checks import nearest

_Headers = dict[Path, dict[str, str]]  # the types of columns by file


@points_to_keys
def check_headers(dataset: Dataset, token: str, folder: Path) -> None:
    """Refuse ``unload_col`` and ``unused_col`` of columns that are not there, and files of rows of
    which one column has several types, or is a feature of some alone.

    RecBole leaves a column in that is misspelt there, and takes each column for what the last file
    calls it.

    Raises:
        ValueError: names the key or the column, and the files.
    """
    for source, headers in _read_files(dataset, token, folder):
        there = {name: None for header in headers.values() for name in header}
        for key in ("unload_col", "unused_col"):
            for field in (dataset.config[key] or {}).get(source.value) or ():
                if field not in there:
                    raise ValueError(
                        f"{key}: '{field}' is no column of {' or '.join(map(str, headers))}; there "
                        f"are {', '.join(there)}.{nearest(str(field), there)}"
                    )
        _check_alike(dataset, headers)


def _read_files(
    dataset: Dataset, token: str, folder: Path
) -> Iterator[tuple[FeatureSource, _Headers]]:
    """The headers of the files that are read, by what their lines describe."""
    rows = [f"{part}.inter" for part in dataset.benchmark_filename_list or ()] or ["inter"]
    for source, endings in (
        (FeatureSource.INTERACTION, rows),
        (FeatureSource.USER, ["user"]),
        (FeatureSource.ITEM, ["item"]),
    ):
        files = [folder / f"{token}.{ending}" for ending in endings]
        wanted, _ = dataset._get_load_and_unload_col(source)
        if wanted != set() and files[0].is_file():
            separator, encoding = dataset.config["field_separator"], encoding_of(dataset.config)
            yield source, {file: read_header(file, separator, encoding) for file in files}
        elif fields := (dataset.config["unused_col"] or {}).get(source.value):
            why = "load_col reads nothing of it" if files[0].is_file() else "it does not exist"
            raise ValueError(
                f"unused_col: '{fields[0]}' would be a column of {files[0]}, and {why}. Leave "
                f"'{source.value}' out of unused_col."
            )


def _check_alike(dataset: Dataset, headers: _Headers) -> None:
    """Compare the columns that are read of several files of rows."""
    source = FeatureSource.INTERACTION
    wanted, _ = dataset._get_load_and_unload_col(source)
    unused = (dataset.config["unused_col"] or {}).get(source.value) or ()
    numbers = {*(dataset.config["numerical_features"] or ()), *transforms_of(dataset.config)}
    (first, of_first), *others = headers.items()
    for other, kinds in others:
        for field in sorted(of_first.keys() | kinds.keys()):
            if not is_read(dataset, source, field):
                continue
            one, two = of_first.get(field), kinds.get(field)
            if one is not None and two is not None and one != two:
                raise ValueError(
                    f"benchmark_filename: '{field}' is a column of type {one} in {first} and of "
                    f"type {two} in {other}. Give it one type in all files."
                )
            is_feature = str(one or two).startswith("token") or field in numbers
            # A column of `load_col` is refused where its file is read.
            if one != two and is_feature and wanted is None and field not in unused:
                has, lacks = (first, other) if two is None else (other, first)
                raise ValueError(
                    f"benchmark_filename: {has} has the column '{field}', which models read, and "
                    f"{lacks} does not. Add it there, or leave it out by unload_col."
                )
