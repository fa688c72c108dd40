"""Semantic IDs that come with the package, and whether they fit a catalogue.

They are artifacts in ``properties/semantic_ids/<name>``, with two differences. They hold no texts
of items, because MovieLens' licence does not allow passing on its data; instead, digests of the
texts tell whether a catalogue is the same. And ``manifest.json`` has an entry ``published`` with
the name. To publish IDs, take ``codes.npy``, ``items.txt`` and ``manifest.json`` of an artifact and
call `publish`.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recbole_genci.config import properties_folder
from recbole_genci.tokenizer.artifact.files import (
    MANIFEST,
    TEXT_DIGESTS,
    TEXTS,
    array_content,
    manifest_content,
    read_text_digests,
    read_texts,
)
from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.encoding.text import ItemTable, read_items
from recbole_genci.utils.writing import write_atomically

PUBLISHED = "published"  # entry of the manifest


def normalized(text: str) -> str:
    """The form in which texts are compared: NFKC, case folded, white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_digests(texts: Sequence[str]) -> np.ndarray:
    """One digest per text, ``[I]`` uint64; 8 bytes are enough to tell texts of one item apart."""
    hashes = (
        hashlib.blake2b(normalized(text).encode("utf-8", "surrogatepass"), digest_size=8)
        for text in texts
    )
    return np.frombuffer(b"".join(each.digest() for each in hashes), dtype="<u8").astype(np.uint64)


def publish(folder: Path, name: str, *origins: Mapping[str, str]) -> None:
    """Add digests of the items' texts to an artifact folder, and the name to its manifest.

    Codes and the IDs' own digest do not change.

    Args:
        folder: a folder with ``codes.npy``, ``items.txt`` and ``manifest.json``.
        name: the name under which the IDs are published.
        origins: each maps raw item ids to texts, made of the fields that the manifest names
            (`text.read_item_texts`). Give several if the same catalogue exists with other texts. An
            origin may lack items that an earlier one has.

    Raises:
        KeyError: an item has no text.
        ValueError, FileNotFoundError: see `SemanticIDs.load`.
    """
    ids = SemanticIDs.load(folder)
    texts: dict[str, str] = {}
    columns = []
    for origin in origins:
        texts |= origin
        columns.append(text_digests([texts[token] for token in ids.item_tokens]))
    content = array_content(np.stack(columns, axis=1))
    files = ids.manifest["files"] | {TEXT_DIGESTS: hashlib.sha256(content).hexdigest()}
    manifest = manifest_content(ids.manifest | {"files": files, PUBLISHED: name})
    write_atomically(folder / TEXT_DIGESTS, lambda file: file.write_bytes(content))
    write_atomically(folder / MANIFEST, lambda file: file.write_bytes(manifest))


def without_texts(folder: Path) -> dict[str, bytes]:
    """The files of an artifact that differ once its texts are left out: their digests stand in.

    The IDs' own digest does not change.

    Returns:
        dict: contents by the file's name; empty if the artifact has no texts.

    Raises:
        ValueError, FileNotFoundError: see `SemanticIDs.load`.
    """
    ids = SemanticIDs.load(folder)
    files = dict(ids.manifest["files"])
    if files.pop(TEXTS, None) is None:
        return {}
    content = array_content(text_digests(read_texts(folder))[:, None])
    files[TEXT_DIGESTS] = hashlib.sha256(content).hexdigest()
    return {
        TEXT_DIGESTS: content,
        MANIFEST: manifest_content(ids.manifest | {"files": files}),
    }


class Published(NamedTuple):
    """Semantic IDs that come with the package.

    Attributes:
        name: name of the dataset that they were made for.
        folder: their folder.
        ids: the semantic IDs.
        digests: ``[I, V]`` uint64 digests of the items' texts; an item may have any of V texts.
    """

    name: str
    folder: Path
    ids: SemanticIDs
    digests: np.ndarray

    @property
    def text_fields(self) -> list[str]:
        """Columns of the .item file that the texts are made of."""
        return self.ids.manifest["settings"]["item_text_fields"]


def published_folders() -> list[Path]:
    """The folders of the published semantic IDs; a folder has the name of its IDs."""
    return sorted(
        file.parent for file in (properties_folder() / "semantic_ids").glob(f"*/{MANIFEST}")
    )


def read_published(folder: Path) -> Published:
    """Read one of `published_folders`.

    Raises:
        ValueError: it is damaged; the package must be installed again.
    """
    try:
        ids = SemanticIDs.load(folder)
        digests = read_text_digests(folder)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(
            f"The semantic IDs that come with recbole_genci are damaged: {error} Here that means: "
            "install recbole_genci again, or build new ones by a tokenizer key, for example "
            "--text_encoder=lsa."
        ) from error
    return Published(folder.name, folder, ids, digests)


class Fit(NamedTuple):
    """How a catalogue compares to published semantic IDs.

    Attributes:
        published: the IDs.
        items: number of items in the catalogue.
        absent: raw ids of the catalogue's items without a published ID.
        differing: raw id and text of items whose published ID was made from another text.
    """

    published: Published
    items: int
    absent: list[str]
    differing: list[tuple[str, str]]

    @property
    def equal(self) -> int:
        """Number of items that have a published ID made from their text."""
        return self.items - len(self.absent) - len(self.differing)


def fit_of(published: Published, table: ItemTable, tokens: Sequence[str]) -> Fit:
    """How a catalogue compares to semantic IDs whose items' texts, or their digests, are known."""
    row = {token: number for number, token in enumerate(published.ids.item_tokens)}
    there = [token for token in tokens if token in row]
    texts = table.texts(published.text_fields, there).texts
    known = published.digests[[row[token] for token in there]]
    same = (known == text_digests(texts)[:, None]).any(axis=1)
    differing = [
        (token, text)
        for token, text, is_same in zip(there, texts, same, strict=True)
        if not is_same
    ]
    return Fit(published, len(tokens), [token for token in tokens if token not in row], differing)


def best_fit(item_file: ItemFile, tokens: Sequence[str] | None = None) -> Fit | None:
    """The published semantic IDs that fit the most items of a catalogue, by id and text; None if
    none has any of its items.

    Args:
        item_file: the dataset's .item file.
        tokens: raw ids of the catalogue; None for all items of the file.

    Raises:
        ValueError: published IDs are damaged, or the .item file is malformed.
    """
    fields = set(item_file.header())
    candidates = [read_published(folder) for folder in published_folders()]
    candidates = [published for published in candidates if set(published.text_fields) <= fields]
    if not candidates:  # no need to read a large file
        return None
    table = read_items(item_file)
    tokens = list(table.rows) if tokens is None else tokens
    fits = [fit_of(published, table, tokens) for published in candidates]
    fits = [fit for fit in fits if len(fit.absent) < fit.items]
    return max(fits, key=lambda fit: (fit.equal, -len(fit.absent)), default=None)
