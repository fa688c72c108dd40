"""Digests: what is read is what was written.

A mapping in a JSON file carries its own digest, its seal. Tensors of one file have a digest over
names, types, shapes and values.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from recbole_genci.utils.mappings import read_mapping
from recbole_genci.utils.sha256 import sha256_of

SEAL = "content_sha256"  # the entry of a mapping that holds its digest


def plain(value: Any) -> Any:
    """A value as JSON gives it back: text keys, lists, and words for what JSON has no form for."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _digest_of(content: Mapping) -> str:
    entries = without_seal(content)
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def sealed(content: Mapping) -> dict:
    """``content``, which JSON must give back unchanged, with its seal as the last entry."""
    entries = without_seal(content)
    return entries | {SEAL: _digest_of(entries)}


def without_seal(content: Mapping) -> dict:
    """``content`` without its seal."""
    return {key: value for key, value in content.items() if key != SEAL}


def sealed_line(content: Mapping) -> str:
    """``content`` with its seal as a line of JSON, for a journal."""
    return json.dumps(sealed(plain(content)), allow_nan=False)


def has_its_seal(content: Mapping) -> bool:
    """Whether ``content`` has a seal and fits it."""
    return content.get(SEAL) == _digest_of(content)


def check_seal(content: Mapping, where: object, remedy: str) -> None:
    """Refuse content that has no seal, or does not fit it.

    Args:
        content: what was read.
        where: the file, for the error.
        remedy: a sentence that tells a person what to do, for the error.

    Raises:
        ValueError: the content is not what was written.
    """
    if SEAL not in content:
        raise ValueError(
            f"{where} has no digest of its own ({SEAL}): it was edited, or an early version of "
            f"recbole_genci wrote it. {remedy}"
        )
    if not has_its_seal(content):
        raise ValueError(
            f"{where} is damaged or was edited: its content does not fit its own digest "
            f"({SEAL}). {remedy}"
        )


def read_sealed(file: Path, needed: Sequence[str], remedy: str, key: str = "") -> dict:
    """The content of a JSON file, whose seal is checked.

    Arguments and errors are those of ``read_mapping`` and ``check_seal``.
    """
    content = read_mapping(file, needed, remedy, key)
    check_seal(content, f"{key}: {file}" if key else str(file), remedy)
    return content


def check_file(file: Path, sha256: str, remedy: str) -> None:
    """Check that a file is the one that a run wrote.

    Raises:
        ValueError: its digest is not ``sha256``; ends with the ``remedy``.
    """
    now = sha256_of(file)
    if now != sha256:
        raise ValueError(
            f"{file} is damaged or of another run: its digest is {now[:12]}, that of the run "
            f"{str(sha256)[:12]}. {remedy}"
        )


def tensors_digest(tensors: Mapping[str, torch.Tensor], facts: str = "") -> str:
    """SHA-256 over CPU tensors, by name, and over a text that belongs to them."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"\0{name} {tensor.dtype} {list(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
