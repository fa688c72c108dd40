"""Semantic IDs of a catalogue: a table of codes with its items, valid by construction."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from recbole_genci.tokenizer.artifact.files import (
    CODES,
    ITEMS,
    MANIFEST,
    REBUILD,
    read_artifact,
    read_tokenizer,
    write_artifact,
)
from recbole_genci.utils.value_checks import PAD_TOKEN, shortened


def _first(values: Sequence[str], number: int = 5) -> str:
    texts = (str(value) if isinstance(value, str) else value for value in values[:number])
    shown = ", ".join(shortened(text) for text in texts)
    return shown + (f" and {len(values) - number} more" if len(values) > number else "")


@dataclass(frozen=True, eq=False)
class SemanticIDs:
    """Semantic IDs of a catalogue; immutable and valid by construction.

    Attributes:
        codes: ``[I, N]`` int64, 0-based and read-only. Levels 0..N-2 come from the quantiser and
            form cohorts; level N-1 is the collision digit, which carries no meaning.
        item_tokens: the I raw item ids, distinct.
        level_sizes: codes per level, N entries.
        manifest: settings, library versions, quality and counts of the build; never read by a
            model.
        folder: the artifact folder that they were loaded from, if any.
        file: the file that they were read from, if any; see `exchange.read_ids`.

    Raises:
        ValueError: anything above does not hold, or two items share one semantic ID; the first
            offenders are named.
    """

    codes: np.ndarray
    item_tokens: tuple[str, ...]
    level_sizes: tuple[int, ...]
    manifest: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    file: Path | None = None

    def __post_init__(self) -> None:
        codes = np.array(self.codes)  # a copy, which nobody else can write to
        codes.setflags(write=False)
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "item_tokens", tuple(self.item_tokens))
        object.__setattr__(self, "level_sizes", tuple(int(size) for size in self.level_sizes))
        self._check_shape()
        self._check_tokens()
        self._check_codes()

    def _check_shape(self) -> None:
        if self.codes.dtype != np.int64 or self.codes.ndim != 2 or self.codes.shape[1] < 2:
            raise ValueError(
                "Semantic IDs need int64 codes [I, N] with N >= 2 (quantiser levels and a "
                f"collision digit); found {self.codes.dtype} {list(self.codes.shape)}."
            )
        if len(self.item_tokens) != len(self.codes) or len(self.level_sizes) != self.codes.shape[1]:
            raise ValueError(
                f"Semantic IDs disagree on their size: codes {list(self.codes.shape)}, "
                f"{len(self.item_tokens)} items, {len(self.level_sizes)} level sizes."
            )
        if len(self.codes) == 0 or min(self.level_sizes) < 1:
            raise ValueError(
                "Semantic IDs need at least one item and one code per level; found "
                f"{len(self.codes)} items, level sizes {list(self.level_sizes)}."
            )

    def _check_tokens(self) -> None:
        bad = [
            token
            for token in self.item_tokens
            if not isinstance(token, str) or not token or "\n" in token or token == PAD_TOKEN
        ]
        if bad:
            raise ValueError(
                f"Item tokens must be non-empty strings of one line other than {PAD_TOKEN}; found "
                f"{_first(bad)}. Pass the catalogue without its padding entry."
            )
        repeated = [token for token, times in Counter(self.item_tokens).items() if times > 1]
        if repeated:
            raise ValueError(f"Semantic IDs list items more than once: {_first(repeated)}.")

    def _check_codes(self) -> None:
        outside = (self.codes < 0) | (self.codes >= np.array(self.level_sizes))
        if outside.any():
            row, level = np.argwhere(outside)[0]
            raise ValueError(
                f"{outside.any(axis=1).sum()} semantic IDs have codes out of range, first item "
                f"{self.item_tokens[row]!r}: code {self.codes[row, level]} at level {level} of "
                f"size {self.level_sizes[level]}."
            )
        order = np.lexsort(self.codes.T)
        same = (self.codes[order[1:]] == self.codes[order[:-1]]).all(axis=1)
        if same.any():
            at = int(np.flatnonzero(same)[0])
            first, second = sorted((order[at], order[at + 1]))
            raise ValueError(
                f"{same.sum()} semantic IDs are not unique, first items "
                f"{self.item_tokens[first]!r} and {self.item_tokens[second]!r}, both "
                f"{self.codes[first].tolist()}."
            )

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def num_levels(self) -> int:
        """N, the number of levels with the collision digit."""
        return len(self.level_sizes)

    @cached_property
    def digest(self) -> str:
        """sha256 over codes, items and level sizes. Artifacts with the same digest are equal."""
        digest = hashlib.sha256(repr((self.codes.shape, self.level_sizes)).encode())
        digest.update(self.codes.astype("<i8").tobytes())
        digest.update("\n".join(self.item_tokens).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def aligned(self, id_tokens: Sequence[str]) -> np.ndarray:
        """Codes in the order of RecBole's internal ids: ``[V, N]`` int64; row 0, padding, is -1.

        Args:
            id_tokens: V raw ids, ``[PAD]`` first (``dataset.field2id_token[iid_field]``).

        Raises:
            ValueError: the first entry is not padding, or items have no semantic ID.
        """
        if len(id_tokens) == 0 or str(id_tokens[0]) != PAD_TOKEN:
            raise ValueError(
                f"Expected RecBole's id order, which starts with {PAD_TOKEN}; found "
                f"{_first(list(id_tokens), 3)}. Pass `dataset.field2id_token[dataset.iid_field]`."
            )
        row = {token: number for number, token in enumerate(self.item_tokens)}
        tokens = [str(token) for token in id_tokens[1:]]
        missing = [token for token in tokens if token not in row]
        if missing:
            said = f"{len(missing)} of {len(tokens)} items have no semantic ID: {_first(missing)}."
            if self.file is not None:
                raise ValueError(
                    f"semantic_id_path: in {self.file} {said} Give a file that has all items of "
                    "this dataset, or leave the key out to have semantic IDs made."
                )
            raise ValueError(
                f"{said} The artifact was built for another catalogue: build it again for this "
                "dataset (delete its folder, or use another cache), or add the items (`python -m "
                "recbole_genci.tokenizer --dataset=<name> --append_to=<folder> --output=<new "
                "folder>`)."
            )
        table = np.full((len(id_tokens), self.num_levels), -1, dtype=np.int64)
        table[1:] = self.codes[np.array([row[token] for token in tokens], dtype=np.int64)]
        return table

    def save(
        self,
        folder: Path | str,
        weights: Mapping[str, Tensor] | None = None,
        texts: Sequence[str] | None = None,
    ) -> None:
        """Write the artifact folder atomically; see `files.write_artifact`.

        Args:
            folder: must not hold another artifact; one with the same digest is left as it is.
            weights: the tokenizer's state, kept as ``tokenizer.safetensors``.
            texts: one text of one line for each item, kept as ``texts.tsv``.

        Raises:
            FileExistsError: the folder exists and holds something else.
        """
        write_artifact(self, Path(folder), weights, texts)

    def save_with_tokenizer(
        self, folder: Path | str, texts_of: Callable[[], Mapping[str, str]] | None = None
    ) -> None:
        """As ``save``, with the weights and texts of the folder that these IDs were loaded from.

        IDs that come with the package, and those of a folder that is gone, have none.

        Args:
            folder: where to write.
            texts_of: reads the texts of items by their ids, for IDs that have none; an item may be
                missing there.
        """
        own = (None, None) if self.folder is None else read_tokenizer(self.folder, self.digest)
        weights, texts = own
        if texts is None and texts_of is not None and (found := texts_of()):
            texts = [found.get(token, "") for token in self.item_tokens]
        self.save(folder, weights, texts)

    @classmethod
    def load(cls, folder: Path | str) -> SemanticIDs:
        """Read an artifact folder and check everything in it; see `files.read_artifact`.

        Raises:
            FileNotFoundError: the folder or one of its files is missing.
            ValueError: a file does not hold what the manifest says, or the IDs are not valid.
        """
        folder = Path(folder)
        fields = read_artifact(folder)
        try:
            ids = cls(**fields, folder=folder)
        except ValueError as error:
            raise ValueError(
                f"{folder / CODES} and {ITEMS} do not hold valid semantic IDs. {error} {REBUILD}"
            ) from error
        digest = ids.manifest["digest"]
        if ids.digest != digest:
            raise ValueError(
                f"{folder / MANIFEST} claims digest {digest[:12]}..., its files have "
                f"{ids.digest[:12]}... {REBUILD}"
            )
        return ids
