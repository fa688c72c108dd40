"""Semantic IDs as one file, in the forms that other code reads and writes.

- ``.json``: the index of LC-Rec and MiniOneRec, ``{"<item>": ["<a_12>", "<b_7>", ...]}``.
- ``.safetensors``: ``semantic_ids`` ``[items, levels]`` int64, as common TIGER code has them; the
  items stand in the metadata ``items``, a JSON list. GRID reads the transpose, ``[levels, items]``,
  from a ``.pt``, which is a pickle: this package neither writes nor reads one.
- ``.parquet``: columns ``item``, ``code_0``, ``code_1``, ...

The last level is the collision digit, which forms no cohort.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_safetensors

from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.utils.disk import check_writable
from recbole_genci.utils.parquet import pyarrow_for
from recbole_genci.utils.value_checks import shortened
from recbole_genci.utils.writing import write_atomically

JSON, SAFETENSORS, PARQUET = ".json", ".safetensors", ".parquet"
SUFFIXES = (JSON, SAFETENSORS, PARQUET)
_TENSOR, _ITEMS = "semantic_ids", "items"
_TOKEN = re.compile(r"<([a-z])_(0|[1-9][0-9]{0,17})>")
_INTEGERS = {f"{sign}{bits}" for sign in "IU" for bits in (8, 16, 32, 64)}
#: A model keeps an embedding for every code below a level's largest one, used or not.
_MOST_CODES = 2**20
_SURROGATE = re.compile("[\ud800-\udfff]")
_PICKLES = (".pt", ".pth", ".pkl", ".pickle")
_WITHOUT_PYARROW = f"{JSON} or {SAFETENSORS}"
_OTHERS = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


def check_ids_file(file: Path, key: str) -> None:
    """Refuse a file that cannot hold semantic IDs, or be written, before long work.

    Args:
        key: the option that names it, for the error.

    Raises:
        ValueError: its name says no form, or its folder takes no file.
        ImportError: pyarrow, for Parquet, is not installed.
    """
    _check_suffix(file, key)
    if file.is_dir():
        raise ValueError(f"{key}: '{file}' is a folder; name a file.")
    if file.suffix == PARQUET:
        pyarrow_for(file, _WITHOUT_PYARROW)
    check_writable(file.parent, key)


def write_ids(ids: SemanticIDs, file: Path) -> None:
    """Write semantic IDs in the form that the file's suffix says, whole or not at all."""
    if file.suffix == PARQUET:
        arrow = pyarrow_for(file, _WITHOUT_PYARROW)
        columns: dict[str, Any] = {"item": list(ids.item_tokens)}
        columns |= {f"code_{level}": codes for level, codes in enumerate(ids.codes.T)}
        table = arrow.table(columns)
        write_atomically(
            file, lambda path: arrow.parquet.write_table(table, path, write_page_checksum=True)
        )
        return
    content = _as_json(ids) if file.suffix == JSON else _as_safetensors(ids)
    write_atomically(file, lambda path: path.write_bytes(content))


def _as_json(ids: SemanticIDs) -> bytes:
    if ids.num_levels > len(string.ascii_lowercase):
        raise ValueError(
            f"export: the index names levels by letters, and there are more than 26 "
            f"of them, {ids.num_levels}."
        )
    index = {
        item: [f"<{letter}_{code}>" for letter, code in zip(string.ascii_lowercase, codes)]
        for item, codes in zip(ids.item_tokens, ids.codes.tolist())
    }
    return (json.dumps(index, ensure_ascii=False, indent=1) + "\n").encode("utf-8")


def _as_safetensors(ids: SemanticIDs) -> bytes:
    metadata = {_ITEMS: json.dumps(list(ids.item_tokens), ensure_ascii=False)}
    return save_safetensors({_TENSOR: np.ascontiguousarray(ids.codes)}, metadata)


# ---------------------------------------------------------------- reading


def read_ids(file: Path) -> SemanticIDs:
    """Semantic IDs of a file in one of the forms; nothing is unpickled.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: it is damaged, or does not hold valid semantic IDs; names it.
        ImportError: pyarrow, for Parquet, is not installed.
    """
    key = "semantic_id_path"
    where = f"{key}: {file}"
    if not file.exists() and file.suffix not in (*SUFFIXES, *_PICKLES):
        raise FileNotFoundError(
            f"{key}: there is no folder or file {file}. Give the folder of an artifact, or a "
            f"{_OTHERS} file of IDs."
        )
    _check_suffix(file, key)
    if not file.is_file():
        raise FileNotFoundError(f"{where} does not exist.")
    read = {JSON: _from_json, SAFETENSORS: _from_safetensors, PARQUET: _from_parquet}
    try:
        items, levels = read[file.suffix](file)
        if len(levels) < 2:
            raise ValueError(
                f"codes are of shape {[len(items), len(levels)]}; [items, levels] with at least 2 "
                "levels are needed, the last of which is the collision digit (0 where nothing "
                "collides)."
            )
        _check_items(items)
        for number, level in enumerate(levels):
            _check_level(level, number, items)
        codes = np.stack([level.astype(np.int64) for level in levels], axis=1)
        sizes = codes.max(axis=0, initial=-1) + 1
        return SemanticIDs(codes, tuple(items), tuple(sizes.tolist()), file=file)
    except ValueError as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{where} holds no valid semantic IDs: {said}") from error


def _check_items(items: Sequence[object]) -> None:
    """Refuse names that no file can hold; `SemanticIDs` checks everything else."""
    for item in items:
        if isinstance(item, str) and _SURROGATE.search(item):
            raise ValueError(
                f"item {shortened(item)} has half a character, a lone surrogate, which no .item "
                "file can have."
            )


def _check_level(level: np.ndarray, number: int, items: Sequence[object]) -> None:
    """Refuse negative codes of a level ``[items]``, and those that no catalogue needs."""
    if (level < 0).any():
        row = int((level < 0).argmax())
        raise ValueError(
            f"item {shortened(items[row])} has a negative code, {level[row]} at level {number}."
        )
    most = max(_MOST_CODES, len(items))
    if (level >= most).any():
        row = int((level >= most).argmax())
        raise ValueError(
            f"item {shortened(items[row])} has the code {level[row]} at level {number}; codes "
            f"count from 0 and stay below {most:,}, as a model keeps an embedding for each up to "
            "the largest. Number the codes of each level anew."
        )


def _from_json(file: Path) -> tuple[list[str], Sequence[np.ndarray]]:
    def distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for item, codes in pairs:
            if item in found:
                raise ValueError(f"item {item!r} stands there twice.")
            found[item] = codes
        return found

    try:
        index = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=distinct)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({error}).") from error
    if not isinstance(index, dict) or not index:
        raise ValueError('it is not of the form {"item": ["<a_12>", "<b_7>", ...]}.')
    codes = [_codes_of(item, words) for item, words in index.items()]
    first = len(codes[0])
    for item, each in zip(index, codes):
        if len(each) != first:
            raise ValueError(
                f"item {item!r} has {len(each)} codes, and {next(iter(index))!r} has {first}; all "
                "items need as many."
            )
    return list(index), list(np.array(codes, dtype=np.int64).reshape(len(index), first).T)


def _codes_of(item: str, words: object) -> list[int]:
    if not isinstance(words, list):
        raise ValueError(
            f"item {item!r} has {shortened(words)}, which is no list of codes as "
            '["<a_12>", "<b_7>"].'
        )
    codes = []
    for letter, word in zip(string.ascii_lowercase, words):
        match = _TOKEN.fullmatch(word) if isinstance(word, str) else None
        if match is None or match[1] != letter:
            raise ValueError(
                f"item {item!r} has the code {shortened(word)}, where one as '<{letter}_7>' is "
                "needed."
            )
        codes.append(int(match[2]))
    if len(words) > len(codes):
        raise ValueError(f"item {item!r} has {len(words)} codes; there are letters for 26.")
    return codes


def _from_safetensors(file: Path) -> tuple[list[str], Sequence[np.ndarray]]:
    try:
        with safe_open(file, framework="numpy") as stored:
            if _TENSOR not in stored.keys():
                raise ValueError(f"it has no tensor '{_TENSOR}'.")
            part, metadata = stored.get_slice(_TENSOR), stored.metadata() or {}
            kind, shape = part.get_dtype(), part.get_shape()
            # numpy has no bfloat16 and nothing smaller.
            codes = stored.get_tensor(_TENSOR) if kind in _INTEGERS else None
    except (SafetensorError, OSError) as error:
        raise ValueError(f"it is no safetensors file, or damaged ({error}).") from error
    try:
        items = json.loads(metadata.get(_ITEMS, "null"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"its metadata '{_ITEMS}' is no JSON ({error}).") from error
    if not isinstance(items, list):
        raise ValueError(
            f"its metadata has no '{_ITEMS}', a JSON list of the items in their order."
        )
    if codes is None or len(shape) != 2 or shape[0] != len(items):
        raise ValueError(
            f"'{_TENSOR}' is {kind} {shape}; integers [{len(items)}, levels] are needed, a row for "
            "each of its items."
        )
    return items, list(codes.T)


def _from_parquet(file: Path) -> tuple[list[str], Sequence[np.ndarray]]:
    arrow = pyarrow_for(file, _WITHOUT_PYARROW)
    try:
        table = arrow.parquet.read_table(file, page_checksum_verification=True)
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"it is no Parquet file, or damaged ({error}).") from error
    names = table.column_names
    levels = [name for name in names if name.startswith("code_")]
    wanted = [f"code_{level}" for level in range(len(levels))]
    if "item" not in names or not levels or sorted(levels) != sorted(wanted):
        raise ValueError(
            f"it has the columns {', '.join(names)}; item, code_0, code_1, ... are needed."
        )
    for name in ("item", *wanted):
        column, is_item = table[name], name == "item"
        kinds = arrow.types
        fits = kinds.is_string if is_item else kinds.is_integer
        large = is_item and kinds.is_large_string(column.type)
        if not (fits(column.type) or large) or column.null_count:
            what = "texts" if is_item else "whole numbers"
            missing = f" with {column.null_count} missing" if column.null_count else ""
            raise ValueError(f"column '{name}' is {column.type}{missing}; {what} are needed.")
    return table["item"].to_pylist(), [table[name].to_numpy() for name in wanted]


def _check_suffix(file: Path, key: str) -> None:
    if file.suffix in _PICKLES:
        raise ValueError(
            f"{key}: '{file}' is a pickle, which can run code and is neither written nor read. Use "
            f"{SAFETENSORS}; for GRID, torch.save its 'semantic_ids' transposed."
        )
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{key}: '{file}' ends with none of {_OTHERS}.")


def is_ids_file(path: Path) -> bool:
    """Whether a path names a file of semantic IDs rather than an artifact's folder."""
    return not path.is_dir() and path.suffix != ""
