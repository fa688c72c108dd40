"""Write a dataset's folder of atomic files; the folder appears complete or not at all."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from recbole_genci.data.prepare.cleaning import number_text
from recbole_genci.data.prepare.duplicates import RepeatFinder
from recbole_genci.utils.writing import give_usual_permissions

PROVENANCE_FILE = "provenance.json"
#: Ends the name of the file with published scores.
SCORES = ".bars.csv"
#: Ends the name of the file with items' vectors, for the key text_encoder.
VECTORS = ".item_vectors.npy"
#: What follows the dataset's name in the names of its files. Other files may be a person's own.
_ENDINGS = frozenset(
    [".inter", ".train.inter", ".valid.inter", ".test.inter", ".item", ".user", ".yaml"]
    + [".kg", ".link", ".net"]  # of downloaded datasets
    + [SCORES, VECTORS, str(Path(VECTORS).with_suffix(".txt"))]
)
INTERACTION_FIELDS = {
    "user_id": "token",
    "item_id": "token",
    "rating": "float",
    "timestamp": "float",
}

#: A rating above this is a click in the paper. MovieLens' properties drop rows with exactly this
#: rating.
NEUTRAL_RATING = 3


def check_target(folder: Path, overwrite: bool, sources: Mapping[str, Path] = {}) -> None:
    """Check before any work that ``folder`` may be made or replaced.

    Args:
        folder: the dataset's folder.
        overwrite: whether to replace an existing folder.
        sources: the files and folders that are read, by the argument that names each.

    Raises:
        FileExistsError: it exists and ``overwrite`` is not set, or it holds a source or other files
            than the dataset's.
    """
    if not os.path.lexists(folder):
        return
    for key, source in sources.items():
        if source.exists() and source.resolve().is_relative_to(folder.resolve()):
            raise FileExistsError(
                f"{key}: {source} lies in {folder}, the folder to be made, which would replace it. "
                "Move it elsewhere, or give another --dataset or --output."
            )
    if not overwrite:
        raise FileExistsError(
            f"{folder} exists already. Give --overwrite=True to replace it, or another --dataset "
            "or --output."
        )
    if folder.is_symlink() or not folder.is_dir():
        raise FileExistsError(
            f"{folder} is not a folder, so it is not replaced. Give another --dataset or --output."
        )
    own = {PROVENANCE_FILE, *(f"{folder.name}{ending}" for ending in _ENDINGS)}
    foreign = sorted(p.name for p in folder.iterdir() if p.is_dir() or p.name not in own)
    if foreign:
        raise FileExistsError(
            f"{folder} holds {', '.join(foreign[:5])}, which "
            f"{'is no file' if len(foreign) == 1 else 'are no files'} of the "
            "dataset, so it is not replaced. Move it away, or give another --dataset or --output."
        )


@contextlib.contextmanager
def whole_folder(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a hidden folder beside ``folder``, which gets the name ``folder`` after the block.

    If the block fails, nothing is left. If the process is killed, the hidden folder is left; no
    loader reads it as a dataset.

    Raises:
        FileExistsError: as for ``check_target``.
    """
    check_target(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    replaced = temporary.with_name(f"{temporary.name}-replaced")
    try:
        yield temporary
        for file in temporary.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        give_usual_permissions(temporary)
        if folder.exists():
            check_target(folder, overwrite)
            os.rename(folder, replaced)
        try:
            os.rename(temporary, folder)
        except BaseException:  # put the old folder back, whatever happened
            if replaced.exists() and not folder.exists():
                os.rename(replaced, folder)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)


def _header(fields: Mapping[str, str]) -> str:
    return "\t".join(f"{field}:{kind}" for field, kind in fields.items()) + "\n"


def write_interactions(
    file: Path,
    rows: Iterable[tuple],
    fields: Mapping[str, str] = INTERACTION_FIELDS,
    click_from: float | None = None,
) -> tuple[dict, dict, dict]:
    """Write the ``.inter`` file in the order of ``rows``, without exact repeats.

    A model could otherwise be trained on a row and tested on its copy. Repeated (user, item) pairs
    with another rating or time stay; RecBole's key ``rm_dup_inter`` keeps the first or the last of
    them.

    Args:
        file: the file to write.
        rows: (user, item, number, timestamp, other cells ...), in the order of ``fields``; the
            number is a rating, or what else tells a click.
        fields: ``{field: type}``.
        click_from: the number from which on a row counts as a click; None if it is a rating from 1
            to 5.

    Returns:
        (dict, dict, dict): the counts; users and items in order of appearance, as the keys of a
        dict. Memory grows only with the number of users and items.
    """
    users: dict[str, None] = {}
    items: dict[str, None] = {}
    lines, pairs = (
        RepeatFinder(file.with_name("lines.tmp")),
        RepeatFinder(file.with_name("pairs.tmp")),
    )
    number = clicks = neutral = 0
    least_click = math.nextafter(NEUTRAL_RATING, math.inf) if click_from is None else click_from
    with file.open("w", encoding="utf-8", newline="\n") as output:
        output.write(_header(fields))
        for user, item, value, timestamp, *others in rows:
            line = "\t".join((user, item, number_text(value), str(timestamp), *others)) + "\n"
            output.write(line)
            lines.add(line)
            pairs.add((user, item))
            users[user] = items[item] = None
            number += 1
            clicks += value >= least_click
            neutral += value == NEUTRAL_RATING
    repeated_lines, repeated_pairs = lines.hashes(), pairs.count()
    dropped = _drop_repeated(file, repeated_lines) if repeated_lines else []
    values = [float(line.split("\t")[2]) for line in dropped]
    clicks -= sum(value >= least_click for value in values)
    neutral -= sum(value == NEUTRAL_RATING for value in values)
    counts = {
        "rows": number - len(dropped),
        "users": len(users),
        "items": len(items),
        **(
            {"rows_rated_above_3": clicks, "rows_rated_3": neutral}
            if click_from is None
            else {"clicks": clicks}
        ),
        "exact_repeats_left_out": len(dropped),
        "repeated_user_item_pairs_kept": repeated_pairs - len(dropped),
    }
    return counts, users, items


def _drop_repeated(file: Path, repeated: set[int]) -> list[str]:
    """Rewrite ``file`` without the second and later copies of its lines, and return these."""
    seen, dropped = set(), []
    whole = file.with_name("whole.tmp")
    with (
        file.open(encoding="utf-8", newline="\n") as source,
        whole.open("w", encoding="utf-8", newline="\n") as output,
    ):
        for line in source:
            if hash(line) in repeated:
                if line in seen:
                    dropped.append(line)
                    continue
                seen.add(line)
            output.write(line)
    os.replace(whole, file)
    return dropped


def write_table(
    file: Path, fields: dict[str, str], rows: Iterable[dict[str, str]], ids: Iterable[str]
) -> dict[str, int]:
    """Write a ``.item`` or ``.user`` file with one line per id, the first of each id in ``rows``.

    Args:
        file: the file to write.
        fields: ``{field: type}``; the first is the id.
        rows: cleaned cells by field; a missing field becomes an empty cell.
        ids: the ids of the interactions; an id that ``rows`` lacks gets a line with the id only.

    Returns:
        dict: numbers of ``lines``, of ``repeated_ids`` left out, and of ids
            ``without_description``.
    """
    id_field, written, repeated = next(iter(fields)), set(), 0
    with file.open("w", encoding="utf-8", newline="\n") as output:
        output.write(_header(fields))

        def write(row: Mapping[str, str]) -> None:
            output.write("\t".join(row.get(field, "") for field in fields) + "\n")
            written.add(row[id_field])

        for row in rows:
            if row[id_field] in written:
                repeated += 1
            else:
                write(row)
        described = len(written)
        for missing in (i for i in ids if i not in written):
            write({id_field: missing})
    return {
        "lines": len(written),
        "repeated_ids": repeated,
        "without_description": len(written) - described,
    }
