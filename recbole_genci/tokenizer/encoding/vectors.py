"""Item vectors in files: a user's own ``.npy``, and the cache of encoded texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from recbole_genci.tokenizer.encoding.limit import TextLimit
from recbole_genci.utils.run_folders import what_it_is
from recbole_genci.utils.writing import write_atomically

VECTORS = "vectors"
#: Smaller numbers lose digits in float32, or become 0.
_LEAST = 1e-30


def ids_file_of(array_file: Path, ids_file: str | None) -> Path:
    """The text file that names the rows of a ``.npy``: ``ids_file``, or the ``.txt`` beside it."""
    return Path(ids_file).expanduser() if ids_file else array_file.with_suffix(".txt")


def file_revision(array_file: Path, ids_file: Path) -> str:
    """sha256 over both files' content."""
    digest = hashlib.sha256()
    for file in (array_file, ids_file):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256 {digest.hexdigest()}"


def read_item_vectors(array_file: Path, ids_file: Path, item_tokens: Sequence[str]) -> np.ndarray:
    """The rows of a ``.npy`` for ``item_tokens``, in their order: ``[I, D]`` float32.

    Args:
        array_file: numbers ``[rows, D]``.
        ids_file: one raw item id per line, in the order of rows.
        item_tokens: the items; the files may hold more.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file cannot be read, the array is not two-dimensional or not finite in
            float32, all numbers are too small for it, the numbers of rows and ids differ, an id is
            listed twice, or items have no row; names the first ones.
    """
    _check_there(array_file, ids_file)
    vectors, ids = _open_array(array_file), _read_ids(ids_file)
    _check_numbers(array_file, vectors)
    if len(ids) != len(vectors):
        raise ValueError(
            f"{ids_file} lists {len(ids)} items, {array_file} has {len(vectors)} rows; give one id "
            "a row."
        )
    rows = _rows_of(ids_file, ids, item_tokens)
    return _as_float32(array_file, vectors[rows], item_tokens)


def _check_there(array_file: Path, ids_file: Path) -> None:
    for file, what in ((array_file, "vectors"), (ids_file, "item ids, one a line, row by row")):
        if not file.is_file():
            raise FileNotFoundError(
                f"`text_encoder: {array_file}` needs the file {file} ({what}), which "
                f"{what_it_is(file)}. Another place for the ids can be given as "
                "`text_encoder_ids`."
            )


def _open_array(array_file: Path) -> Any:
    """What a .npy holds, left in the file until it is read; an archive is no array."""
    try:
        return np.load(array_file, allow_pickle=False, mmap_mode="r")
    except (ValueError, EOFError, BadZipFile) as error:
        raise ValueError(
            f"{array_file} cannot be read as an array of numbers: it is another kind of file, or "
            "not whole. Write it by numpy.save."
        ) from error


def _read_ids(ids_file: Path) -> list[str]:
    """The lines of a file, blank ones too."""
    try:
        ids = ids_file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{ids_file} cannot be read as text in UTF-8. Write one item id a line, row by row."
        ) from error
    if ids[-1] == "":
        ids.pop()
    return [line.removesuffix("\r") for line in ids]


def _check_numbers(array_file: Path, vectors: Any) -> None:
    if (
        not isinstance(vectors, np.ndarray)
        or vectors.ndim != 2
        or vectors.dtype.kind not in "fiu"
        or vectors.shape[1] == 0
    ):
        raise ValueError(
            f"{array_file} must hold numbers [items, D]; it holds "
            f"{getattr(vectors, 'dtype', type(vectors))} {list(getattr(vectors, 'shape', []))}."
        )


def _rows_of(ids_file: Path, ids: Sequence[str], item_tokens: Sequence[str]) -> list[int]:
    """The row of each item, of a file that lists every id once."""
    row = {token: number for number, token in enumerate(ids)}
    if len(row) != len(ids):
        twice = next(token for number, token in enumerate(ids) if row[token] != number)
        raise ValueError(
            f"{ids_file} lists {len(ids) - len(row)} items more than once, first {twice!r}; one "
            "item, one row."
        )
    missing = [token for token in item_tokens if token not in row]
    if missing:
        raise ValueError(
            f"{ids_file} has no row for {len(missing)} of {len(item_tokens)} items, first "
            f"{missing[:5]}. Add their vectors."
        )
    return [row[token] for token in item_tokens]


def _as_float32(array_file: Path, given: np.ndarray, item_tokens: Sequence[str]) -> np.ndarray:
    """The items' vectors ``[I, D]``, of any type of number, as float32 that holds them."""
    with np.errstate(over="ignore"):
        wanted = np.asarray(given, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(wanted).all(axis=1))
    if len(bad):
        is_finite = np.isfinite(given[bad]).all()
        what = "numbers beyond 3.4e38, the largest of float32," if is_finite else "NaN or infinity"
        remedy = "Divide all vectors by one number" if is_finite else "Mend these vectors"
        raise ValueError(
            f"{array_file} has {what} for {len(bad)} of {len(wanted)} items, first "
            f"{item_tokens[bad[0]]!r}. {remedy}."
        )
    largest = float(np.abs(given).max(initial=0))
    if 0 < largest < _LEAST:
        raise ValueError(
            f"{array_file}: the largest number of all {len(wanted)} items is {largest:.2g}, too "
            "small for float32. Multiply all vectors by one number."
        )
    return wanted


def vectors_of_file(settings: Mapping[str, Any], item_tokens: Sequence[str]) -> np.ndarray:
    """``read_item_vectors`` for the files of ``text_encoder`` and ``text_encoder_ids``."""
    array_file = Path(settings["text_encoder"]).expanduser()
    return read_item_vectors(
        array_file, ids_file_of(array_file, settings["text_encoder_ids"]), item_tokens
    )


def cache_file(
    cache_dir: Path, encoder: str, revision: str, options: dict, texts: Sequence[str]
) -> Path:
    """The cache file for vectors of exactly these texts, encoder, revision and options."""
    key = hashlib.sha256(
        json.dumps([encoder, revision, options, list(texts)], sort_keys=True).encode()
    ).hexdigest()
    return cache_dir / f"{key[:32]}.safetensors"


def write_cached_vectors(
    file: Path,
    vectors: np.ndarray,
    encoder: str,
    revision: str,
    limit: TextLimit | None = None,
) -> None:
    """Write vectors ``[I, D]`` atomically, with their encoder, revision and hash.

    ``limit`` says how many of the texts the encoder has cut.
    """
    about = {
        "encoder": encoder,
        "revision": revision,
        "sha256": hashlib.sha256(vectors.tobytes()).hexdigest(),
    }
    if limit is not None:
        about["limit"] = json.dumps(limit)
    write_atomically(
        file, lambda temporary: save_file({VECTORS: vectors}, temporary, metadata=about)
    )


def read_cached_vectors(file: Path, num_items: int) -> np.ndarray | None:
    """Cached vectors ``[num_items, D]``; None if there are none.

    Raises:
        ValueError: the file is damaged.
    """
    if not file.is_file():
        return None
    damaged = (
        f"The cached item vectors {file} are damaged. Delete the file, so that the texts are "
        "encoded again."
    )
    try:
        with safe_open(file, framework="numpy") as stored:
            about, vectors = stored.metadata() or {}, stored.get_tensor(VECTORS)
    except SafetensorError as error:
        raise ValueError(f"{damaged} ({error})") from error
    if (
        len(vectors) != num_items
        or about.get("sha256") != hashlib.sha256(vectors.tobytes()).hexdigest()
    ):
        raise ValueError(damaged)
    return vectors


def read_cached_limit(file: Path) -> TextLimit | None:
    """How many texts were cut when the vectors of a cache file were made; None if it is unknown.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(file, framework="numpy") as stored:
            limit = (stored.metadata() or {}).get("limit")
        return TextLimit(*map(int, json.loads(limit))) if limit else None
    except (SafetensorError, ValueError, TypeError) as error:
        raise ValueError(
            f"The cached item vectors {file} are damaged ({error}). Delete the file, so that the "
            "texts are encoded again."
        ) from error
