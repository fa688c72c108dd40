"""Write the artifact folder of semantic IDs atomically, and check every file when reading it.

A folder holds ``codes.npy`` (int64), ``items.txt`` (one raw id per line), optionally
``tokenizer.safetensors``, optionally ``texts.tsv`` (raw id and text of every item, for people and
for adding items), optionally ``text_digests.npy`` (for IDs that are published without their texts,
see `published`), and ``manifest.json``, which is written last and holds the sha256 of the others.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from recbole_genci.utils.digests import check_seal, plain, sealed
from recbole_genci.utils.writing import naming

FORMAT_VERSION = 2  # 1 had no texts
_READABLE = (1, 2)
CODES, ITEMS, WEIGHTS, TEXTS, MANIFEST = (
    "codes.npy",
    "items.txt",
    "tokenizer.safetensors",
    "texts.tsv",
    "manifest.json",
)
TEXT_DIGESTS = "text_digests.npy"
REBUILD = (
    "Take it from a copy; if it lies in semantic_id_dir, a cache, delete the folder, and the next "
    "run builds it again."
)


def _write(file: Path, content: bytes) -> None:
    with naming(file), file.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def array_content(array: np.ndarray) -> bytes:
    """The bytes of an array's ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def manifest_content(manifest: Mapping[str, Any]) -> bytes:
    """The bytes of a ``manifest.json``, sealed."""
    content = sealed(plain(manifest))
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"


def _holds(folder: Path, digest: str) -> bool:
    return json.loads(_read(folder, MANIFEST)).get("digest") == digest


def _texts_content(item_tokens: Sequence[str], texts: Sequence[str]) -> bytes:
    bad = [token for token, text in zip(item_tokens, texts) if "\n" in text or "\t" in text]
    if len(texts) != len(item_tokens) or bad:
        problem = f", and tabs or line ends in that of {bad[0]!r}" if bad else ""
        raise ValueError(
            f"{TEXTS} needs one text of one line without tabs for each item; found {len(texts)} "
            f"texts for {len(item_tokens)} items{problem}."
        )
    return "".join(f"{token}\t{text}\n" for token, text in zip(item_tokens, texts)).encode("utf-8")


def write_artifact(
    ids: Any,
    folder: Path,
    weights: Mapping[str, Tensor] | None = None,
    texts: Sequence[str] | None = None,
) -> None:
    """Write into a temporary folder and rename it, so that the folder appears complete or not at
    all.

    If several processes write, one wins; the others succeed if their digest is the same.

    Args:
        ids: the `SemanticIDs`.
        folder: the artifact's folder.
        weights: the tokenizer's state.
        texts: one text of one line for each item.

    Raises:
        FileExistsError: the folder exists and holds something else.
        ValueError: ``texts`` are not one line for each item.
    """
    contents = {
        CODES: array_content(ids.codes),
        ITEMS: "".join(f"{token}\n" for token in ids.item_tokens).encode("utf-8"),
    }
    if weights is not None:
        state = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        contents[WEIGHTS] = save_safetensors(state)
    if texts is not None:
        contents[TEXTS] = _texts_content(ids.item_tokens, texts)
    manifest = {
        **ids.manifest,
        "format_version": FORMAT_VERSION,
        "digest": ids.digest,
        "level_sizes": list(ids.level_sizes),
        "items": len(ids),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    contents[MANIFEST] = manifest_content(manifest)

    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp's 0700 would lock out other users of a shared cache
        for name, content in contents.items():  # the manifest comes last
            _write(temporary / name, content)
        try:
            os.rename(temporary, folder)  # refuses a folder that is there and not empty
        except OSError as error:
            if not (folder / MANIFEST).is_file() or not _holds(folder, ids.digest):
                raise FileExistsError(
                    f"The semantic-ID folder {folder} exists and holds something else "
                    f"({error.strerror}). Choose another folder, or delete it."
                ) from error
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def _read(folder: Path, name: str) -> bytes:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no semantic-ID folder {folder}.")
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"The semantic-ID folder {folder} has no {name}: it is no artifact, or not complete. "
            f"{REBUILD}"
        )
    return (folder / name).read_bytes()


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(_read(folder, MANIFEST))
    except (ValueError, RecursionError) as error:  # JSON and UTF-8 errors alike
        raise ValueError(f"{folder / MANIFEST} is not valid JSON ({error}). {REBUILD}") from error
    expected = {
        "format_version": int,
        "digest": str,
        "level_sizes": list,
        "items": int,
        "files": dict,
    }
    entries = manifest if isinstance(manifest, dict) else {}
    check_seal(entries, folder / MANIFEST, REBUILD)
    wrong = [key for key, kind in expected.items() if not isinstance(entries.get(key), kind)]
    if not wrong and not all(type(size) is int for size in manifest["level_sizes"]):
        wrong = ["level_sizes"]
    if not wrong and not {CODES, ITEMS} <= manifest["files"].keys() <= {
        CODES,
        ITEMS,
        WEIGHTS,
        TEXTS,
        TEXT_DIGESTS,
    }:
        wrong = ["files"]
    if wrong:
        raise ValueError(f"{folder / MANIFEST} lacks valid entries for {wrong}. {REBUILD}")
    if manifest["format_version"] not in _READABLE:
        raise ValueError(
            f"{folder / MANIFEST} has format version {manifest['format_version']}; this version of "
            f"recbole_genci reads {' and '.join(map(str, _READABLE))}. {REBUILD}"
        )
    return manifest


def _read_checked(folder: Path, name: str, manifest: Mapping[str, Any]) -> bytes:
    content = _read(folder, name)
    actual = hashlib.sha256(content).hexdigest()
    if actual != manifest["files"][name]:
        raise ValueError(
            f"{folder / name} is not the file that {MANIFEST} describes: sha256 {actual[:12]}..., "
            f"expected {str(manifest['files'][name])[:12]}... It is damaged or was edited. "
            f"{REBUILD}"
        )
    return content


def _array_of(content: bytes, file: Path) -> np.ndarray:
    try:
        _check_size(content)
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, TypeError, EOFError, OSError, RecursionError, MemoryError) as error:
        raise ValueError(f"{file} is not a NumPy array ({error}). {REBUILD}") from error


def _check_size(content: bytes) -> None:
    """Refuse a header of format 1, as ``np.save`` writes it, that claims another size than there
    is; numpy would ask for that much memory.
    """
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("its header is not of format 1")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    claimed, there = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if claimed != there:
        raise ValueError(f"its header claims {claimed} bytes, {there} follow")


def read_artifact(folder: Path) -> dict[str, Any]:
    """Read the fields of `SemanticIDs`, and check every file against the manifest.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: a file is damaged, edited or of another format; the file is named.
    """
    manifest = _read_manifest(folder)
    content = {name: _read_checked(folder, name, manifest) for name in manifest["files"]}
    codes = _array_of(content[CODES], folder / CODES)
    try:
        lines = content[ITEMS].decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{folder / ITEMS} is not UTF-8 ({error}). {REBUILD}") from error
    if lines.pop() != "" or len(lines) != manifest["items"] or not isinstance(codes, np.ndarray):
        raise ValueError(
            f"{folder / ITEMS} has {len(lines)} items, {MANIFEST} says {manifest['items']}. "
            f"{REBUILD}"
        )
    return {
        "codes": codes,
        "item_tokens": tuple(lines),
        "level_sizes": tuple(manifest["level_sizes"]),
        "manifest": manifest,
    }


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tokenizer's state from ``tokenizer.safetensors``, checked against the manifest.

    Raises:
        FileNotFoundError: the artifact was saved without weights, or is missing.
        ValueError: the file is damaged.
    """
    manifest = _read_manifest(folder)
    if WEIGHTS not in manifest["files"]:
        raise FileNotFoundError(f"The semantic-ID folder {folder} was saved without {WEIGHTS}.")
    try:
        return load_safetensors(_read_checked(folder, WEIGHTS, manifest))
    except SafetensorError as error:
        raise ValueError(
            f"{folder / WEIGHTS} is not a safetensors file ({error}). {REBUILD}"
        ) from error


def read_texts(folder: Path) -> list[str]:
    """The items' texts from ``texts.tsv``, in the order of ``items.txt``, checked against the
    manifest.

    Raises:
        FileNotFoundError: the artifact was saved without texts, or is missing.
        ValueError: the file is damaged or lists other items.
    """
    manifest = _read_manifest(folder)
    if TEXTS not in manifest["files"]:
        raise FileNotFoundError(f"The semantic-ID folder {folder} was saved without {TEXTS}.")
    lines = _read_checked(folder, TEXTS, manifest).decode("utf-8").split("\n")[:-1]
    tokens = _read_checked(folder, ITEMS, manifest).decode("utf-8").split("\n")[:-1]
    split = [line.rpartition("\t") for line in lines]  # an id may hold a tab, a text never does
    if [token for token, _, _ in split] != tokens:
        raise ValueError(
            f"{folder / TEXTS} does not list the items of {ITEMS} in their order. {REBUILD}"
        )
    return [text for _, _, text in split]


def read_tokenizer(folder: Path, digest: str) -> tuple[dict[str, Tensor] | None, list[str] | None]:
    """The tokenizer's state and the items' texts; None for what the folder does not hold, or if it
    no longer holds the IDs of this digest.

    Raises:
        ValueError: a file is damaged.
    """
    if not (folder / MANIFEST).is_file() or not _holds(folder, digest):
        return None, None
    files = _read_manifest(folder)["files"]
    weights = read_weights(folder) if WEIGHTS in files else None
    return weights, read_texts(folder) if TEXTS in files else None


def read_text_digests(folder: Path) -> np.ndarray:
    """The digests of the items' texts ``[I, V]`` uint64 from ``text_digests.npy``, checked against
    the manifest.

    Raises:
        FileNotFoundError: the artifact was saved without them, or is missing.
        ValueError: the file is damaged or is not of these items.
    """
    manifest = _read_manifest(folder)
    if TEXT_DIGESTS not in manifest["files"]:
        raise FileNotFoundError(
            f"The semantic-ID folder {folder} was saved without {TEXT_DIGESTS}."
        )
    digests = _array_of(_read_checked(folder, TEXT_DIGESTS, manifest), folder / TEXT_DIGESTS)
    actual = f"{getattr(digests, 'dtype', type(digests))} {list(getattr(digests, 'shape', []))}"
    items = manifest["items"]
    if (
        not isinstance(digests, np.ndarray)
        or digests.dtype != np.uint64
        or digests.ndim != 2
        or len(digests) != items
    ):
        raise ValueError(
            f"{folder / TEXT_DIGESTS} must hold uint64 [{items}, V]; it holds {actual}. {REBUILD}"
        )
    return digests
