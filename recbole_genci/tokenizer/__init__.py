"""Items to semantic IDs: text, encoder, quantiser, codes, collision digit, artifact."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_genci.tokenizer.artifact.append import append_items
from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.tokenizer.build import load_or_build_semantic_ids
from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.settings import tokenizer_settings


def tokenize(
    dataset: str,
    config_files: str | Path | Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
) -> SemanticIDs:
    """Semantic IDs of a dataset's items, from the cache or built now.

    Arguments and errors are those of `recbole_genci.run`.
    """
    # Imported here, because it loads RecBole's dataset code, which the rest does not need.
    from recbole_genci.tokenizer.command import tokenize

    return tokenize(dataset, config_files, config_dict, argv)


__all__ = [
    "ItemFile",
    "SemanticIDs",
    "append_items",
    "load_or_build_semantic_ids",
    "tokenize",
    "tokenizer_settings",
]
