"""Add items to published semantic IDs: the frozen tokenizer codes new items, published IDs stay."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from recbole_genci.tokenizer.artifact.collisions import resolve_collisions
from recbole_genci.tokenizer.artifact.frozen import (
    Artifact,
    check_agreement,
    encode_with,
    quantize_vectors,
    quantizer_from_weights,
    read_frozen,
)
from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.tokenizer.build import telling_texts
from recbole_genci.tokenizer.encoding.encoders import is_array_file
from recbole_genci.tokenizer.encoding.text import shorten
from recbole_genci.tokenizer.encoding.vectors import vectors_of_file
from recbole_genci.tokenizer.quantization.quality import codes_quality, is_balanced
from recbole_genci.tokenizer.quantization.spread import spread_codes
from recbole_genci.utils.words import counted

_logger = logging.getLogger(__name__)


def _twins(artifact: Artifact, tokens: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """For each new item the row of the first published item with the same text, else -1: ``[J]``.

    If item vectors come from a file, vectors are compared instead of texts.
    """
    published, new = artifact.texts, texts
    if is_array_file(artifact.settings["text_encoder"]):
        # Adding 0.0 turns -0 into 0.
        vectors = vectors_of_file(artifact.settings, [*artifact.ids.item_tokens, *tokens]) + 0.0
        contents = [vector.tobytes() for vector in vectors]
        published, new = contents[: -len(tokens)], contents[-len(tokens) :]
    first = {content: row for row, content in reversed(list(enumerate(published)))}
    return np.array([first.get(content, -1) for content in new])


def _check_texts(artifact: Artifact, new_texts: Mapping[str, str], folder: Path | str) -> None:
    """Warn if texts of published items have changed, and refuse if most have.

    In that case the same ids seem to mean other items. If vectors come from a file, texts do not
    matter.
    """
    if is_array_file(artifact.settings["text_encoder"]):
        return
    both = [
        (token, text)
        for token, text in zip(artifact.ids.item_tokens, artifact.texts, strict=True)
        if token in new_texts
    ]
    changed = [(token, text) for token, text in both if new_texts[token] != text]
    if not changed:
        return
    token, text = changed[0]
    message = (
        f"{len(changed)} of the {len(both)} items given that {folder} has already have other texts "
        f"there, first {token!r}: {shorten(text)!r} there, {shorten(new_texts[token])!r} now"
    )
    if 2 * len(changed) > len(both):
        raise ValueError(
            f"{message}. The artifact seems to be of another dataset: name the one of this "
            "dataset, or build all IDs anew."
        )
    _logger.warning(
        f"{message}. They keep the codes of their published texts; build all IDs anew to change "
        "that."
    )


def append_items(
    folder: Path | str,
    output: Path | str,
    item_tokens: Sequence[str],
    texts: Sequence[str],
    device: str = "cpu",
) -> SemanticIDs:
    """Give semantic IDs to the items that an artifact lacks, and write a new artifact with all IDs.

    A new item with the text of a published one (or its vector, if vectors come from a file) gets
    the same codes. The frozen tokenizer encodes and quantises all others (Eq. 3). Collision digits
    continue from the published ones. The IDs do not depend on the order of rows, and items that
    were added earlier keep their IDs.

    Args:
        folder: the published artifact, which does not change.
        output: the folder of the new artifact.
        item_tokens: raw ids. For published ones among them only the texts are compared.
        texts: the text of each of ``item_tokens``, made like the published texts
            (`read_item_texts`).
        device: where a sentence-transformers model runs.

    Returns:
        SemanticIDs: the published items in their order, then the new ones sorted by id.

    Raises:
        ValueError: there is nothing to add, an id is given twice, most published items have other
            texts than in the artifact, the encoder or tokenizer has changed, or more items share
            their codes than the collision level holds.
        FileNotFoundError: the artifact, its weights or its texts are missing.
        FileExistsError: ``output`` holds something else.
    """
    artifact = read_frozen(Path(folder))
    extended = with_items(artifact, item_tokens, texts, device, folder)
    extended.ids.save(output, artifact.weights, extended.texts)
    appended, quality = extended.ids.manifest["appended"], extended.ids.manifest["quality"]
    _logger.info(
        f"{counted(appended['items'], 'item')} added to {folder} as {output} (digest "
        f"{extended.ids.digest[:12]}); of them with the text of a published item: "
        f"{appended['equal_texts']}; collision rate now {quality['collision_rate']:.2%}."
    )
    if not all(is_balanced(level) for level in quality["levels"]):
        _logger.warning(
            "A level of the semantic IDs is unbalanced by now: build all IDs anew when you can."
        )
    return extended.ids


def with_items(
    artifact: Artifact,
    item_tokens: Sequence[str],
    texts: Sequence[str],
    device: str = "cpu",
    name: Path | str = "the artifact",
) -> Artifact:
    """As `append_items`, in memory: the artifact with all IDs, whose manifest says what was added.

    Args:
        artifact: the published artifact, which does not change.
        item_tokens, texts, device: as for `append_items`.
        name: the artifact's folder, for messages.

    Raises:
        ValueError: as for `append_items`.
    """
    ids = artifact.ids
    new = _new_items(artifact, item_tokens, texts, name)
    tokens, new_texts = list(new), list(new.values())
    codes, twin = _codes_of_new(artifact, tokens, new_texts, device, name)
    all_texts = [*artifact.texts, *new_texts]
    digit = resolve_collisions(
        codes, tokens, ids.level_sizes[-1], ids.codes, telling_texts(artifact.settings, all_texts)
    )
    all_codes = np.concatenate([ids.codes, np.column_stack([codes, digit])])
    quality = codes_quality(all_codes[:, :-1], ids.level_sizes[:-1])
    manifest = {
        **ids.manifest,
        "quality": {**ids.manifest["quality"], **quality},
        "appended": {"to": ids.digest, "items": len(tokens), "equal_texts": int(twin.sum())},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    extended = SemanticIDs(all_codes, (*ids.item_tokens, *tokens), ids.level_sizes, manifest)
    return Artifact(extended, all_texts, artifact.weights)


def _new_items(
    artifact: Artifact, item_tokens: Sequence[str], texts: Sequence[str], name: Path | str
) -> dict[str, str]:
    """Raw ids, sorted, and texts of the items that the artifact lacks; at least one."""
    text_of = dict(zip(item_tokens, texts, strict=True))
    if len(text_of) != len(item_tokens):
        raise ValueError(
            f"append_items was given {len(item_tokens) - len(text_of)} items more than once; give "
            "each once."
        )
    _check_texts(artifact, text_of, name)
    tokens = sorted(text_of.keys() - set(artifact.ids.item_tokens))
    if not tokens:
        raise ValueError(
            f"{name} has semantic IDs for all of the {len(text_of)} items already; there is "
            "nothing to add."
        )
    return {token: text_of[token] for token in tokens}


def _codes_of_new(
    artifact: Artifact, tokens: Sequence[str], texts: Sequence[str], device: str, name: Path | str
) -> tuple[np.ndarray, np.ndarray]:
    """Codes ``[T, L]`` of new items without the collision digit, and which of them ``[T]`` have the
    text, or the vector, of a published item.
    """
    rows, vectors = encode_with(artifact, tokens, texts, device)
    model = quantizer_from_weights(artifact.weights, Path(name))
    if vectors.shape[1] != len(model.input_mean):
        raise ValueError(
            f"The new items have vectors of width {vectors.shape[1]}, the tokenizer reads "
            f"{len(model.input_mean)}."
        )
    quantized, residuals = quantize_vectors(model, vectors)
    codes = quantized.numpy()
    check_agreement(artifact, rows, codes[: len(rows)])
    codes = codes[len(rows) :]
    published = artifact.ids.codes[:, :-1]
    twins = _twins(artifact, tokens, texts)
    twin = twins >= 0
    if artifact.settings["spread_collisions"] and not twin.all():
        residual = residuals[len(rows) :, -1]
        codes[~twin] = spread_codes(
            codes[~twin], residual[~twin], model.codebooks[-1].codes, published
        )
    codes[twin] = published[twins[twin]]
    return codes, twin
