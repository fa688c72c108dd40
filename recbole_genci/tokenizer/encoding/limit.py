"""How much of the texts a sentence encoder reads: it cuts each at a number of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_CHUNK = 4096  # texts that are tokenized at a time


class TextLimit(NamedTuple):
    """How many texts an encoder has cut.

    Attributes:
        tokens: the most tokens of a text that it reads.
        cut: number of texts that are longer.
        texts: number of all texts.
    """

    tokens: int
    cut: int
    texts: int

    @property
    def sentence(self) -> str:
        """What a person should know, for a log and a report; empty if no text is cut."""
        if not self.cut:
            return ""
        return (
            f"{self.cut} of {self.texts} texts are longer than the {self.tokens} tokens that the "
            "encoder reads; what follows is lost. Put the telling fields first in item_text_fields."
        )


def cut_texts(model: SentenceTransformer, texts: Sequence[str]) -> tuple[int, np.ndarray] | None:
    """Which texts a sentence-transformers model cuts.

    Returns:
        (tokens that the model reads, whether each text ``[I]`` is longer); None if the model has no
        limit, or none that can be found out.
    """
    from transformers import PreTrainedTokenizerBase

    limit, tokenizer = model.max_seq_length, model.tokenizer
    if not isinstance(limit, int) or not isinstance(tokenizer, PreTrainedTokenizerBase):
        return None
    longer = np.zeros(len(texts), dtype=bool)
    for start in range(0, len(texts), _CHUNK):
        tokens = tokenizer(
            [text.strip() for text in texts[start : start + _CHUNK]],
            truncation=False,
            padding=False,
            verbose=False,
            return_attention_mask=False,
        )["input_ids"]
        longer[start : start + _CHUNK] = [len(text) > limit for text in tokens]
    return limit, longer


def text_limit(manifest: Mapping[str, Any]) -> TextLimit | None:
    """What an artifact's manifest says of the texts that were cut; None if it says nothing."""
    limit = manifest.get("text_limit")
    if not isinstance(limit, Mapping) or set(limit) != set(TextLimit._fields):
        return None
    return TextLimit(**{name: int(value) for name, value in limit.items()})
