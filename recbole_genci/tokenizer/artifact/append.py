"""Adding items to published semantic IDs: new items get IDs from the frozen tokenizer, published
ones never move.
"""

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

_logger = logging.getLogger(__name__)


def _twins(artifact: Artifact, tokens: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """For each new item the first published one of the same text, or vector where a file has those,
    or -1; ``[J]``.
    """
    published, new = artifact.texts, texts
    if is_array_file(artifact.settings["text_encoder"]):
        vectors = (
            vectors_of_file(artifact.settings, [*artifact.ids.item_tokens, *tokens]) + 0.0
        )  # of -0 and 0 makes one
        contents = [vector.tobytes() for vector in vectors]
        published, new = contents[: -len(tokens)], contents[-len(tokens) :]
    first = {content: row for row, content in reversed(list(enumerate(published)))}
    return np.array([first.get(content, -1) for content in new])


def _check_texts(artifact: Artifact, given: Mapping[str, str], folder: Path | str) -> None:
    """Warn where published items have other texts by now; refuse where most have, as equal ids then
    mean other items.

    With vectors from a file texts say nothing.
    """
    if is_array_file(artifact.settings["text_encoder"]):
        return
    both = [
        (token, text)
        for token, text in zip(artifact.ids.item_tokens, artifact.texts, strict=True)
        if token in given
    ]
    changed = [(token, text) for token, text in both if given[token] != text]
    if not changed:
        return
    token, text = changed[0]
    told = (
        f"{len(changed)} of the {len(both)} items given that {folder} has already have other texts "
        f"there, first {token!r}: "
        f"{shorten(text)!r} there, {shorten(given[token])!r} now"
    )
    if 2 * len(changed) > len(both):
        raise ValueError(
            f"{told}. The artifact seems to be of another dataset: name the one of this dataset, "
            "or build all IDs anew."
        )
    _logger.warning(
        f"{told}. They keep the codes of their published texts; build all IDs anew to change that."
    )


def append_items(
    folder: Path | str,
    output: Path | str,
    item_tokens: Sequence[str],
    texts: Sequence[str],
    device: str = "cpu",
) -> SemanticIDs:
    """Give the items that an artifact lacks their semantic IDs, and write all of them as a new
    artifact.

    A new item whose text (or vector, where a file has those) equals a published one's takes its
    codes; the others are encoded and quantised by the frozen tokenizer (Eq. 3). Collision digits go
    on from the published ones. What is added does not depend on the order of rows; items added in
    two steps have IDs that those of the first step keep in the second.

    Args:
        folder: the published artifact; stays as it is.
        output: where the new artifact goes.
        item_tokens: raw ids; published ones among them only have their texts compared.
        texts: one for each of ``item_tokens``, made as the published ones were (`read_item_texts`).
        device: where a sentence-transformers model runs.

    Returns:
        SemanticIDs: the published items in their order, then the new ones sorted by id.

    Raises:
        ValueError: nothing to add, ids given twice, most published ones with other texts than the
            artifact's, an encoder or tokenizer that is not the artifact's any more, or more items
            of the same codes than the collision level holds; the number is named.
        FileNotFoundError: the artifact, or its weights or texts, are missing.
        FileExistsError: ``output`` holds something else.
    """
    artifact = read_frozen(Path(folder))
    ids = artifact.ids
    given = dict(zip(item_tokens, texts, strict=True))
    if len(given) != len(item_tokens):
        raise ValueError(
            f"append_items was given {len(item_tokens) - len(given)} items more than once; give "
            "each once."
        )
    _check_texts(artifact, given, folder)
    tokens = sorted(given.keys() - set(ids.item_tokens))
    if not tokens:
        raise ValueError(
            f"{folder} has semantic IDs for all of the {len(given)} items already; there is "
            "nothing to add."
        )
    new_texts = [given[token] for token in tokens]

    rows, vectors = encode_with(artifact, tokens, new_texts, device)
    model = quantizer_from_weights(artifact.weights)
    if vectors.shape[1] != len(model.input_mean):
        raise ValueError(
            f"The new items have vectors of width {vectors.shape[1]}, the tokenizer reads "
            f"{len(model.input_mean)}."
        )
    codes, residuals = quantize_vectors(model, vectors)
    codes = codes.numpy()
    check_agreement(artifact, rows, codes[: len(rows)])
    codes = codes[len(rows) :]
    published = ids.codes
    twins = _twins(artifact, tokens, new_texts)
    twin = twins >= 0
    if artifact.settings["spread_collisions"] and not twin.all():
        residual = residuals[len(rows) :, -1]
        codes[~twin] = spread_codes(
            codes[~twin], residual[~twin], model.codebooks[-1].codes, published[:, :-1]
        )
    codes[twin] = published[twins[twin], :-1]
    all_texts = [*artifact.texts, *new_texts]
    digit = resolve_collisions(
        codes, tokens, ids.level_sizes[-1], published, telling_texts(artifact.settings, all_texts)
    )

    all_codes = np.concatenate([published, np.column_stack([codes, digit])])
    quality = codes_quality(all_codes[:, :-1], ids.level_sizes[:-1])
    manifest = {
        **ids.manifest,
        "quality": {**ids.manifest["quality"], **quality},
        "appended": {"to": ids.digest, "items": len(tokens), "equal_texts": int(twin.sum())},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    extended = SemanticIDs(all_codes, (*ids.item_tokens, *tokens), ids.level_sizes, manifest)
    extended.save(output, artifact.weights, all_texts)
    _logger.info(
        f"{len(tokens)} items added to {folder} as {output} (digest {extended.digest[:12]}); "
        f"{twin.sum()} have the text of a "
        f"published item, collision rate now {quality['collision_rate']:.2%}."
    )
    if not all(is_balanced(level) for level in quality["levels"]):
        _logger.warning(
            "A level of the semantic IDs is unbalanced by now: build all IDs anew when it is "
            "possible."
        )
    return extended
