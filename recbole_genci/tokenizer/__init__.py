"""Items to semantic IDs: text, encoder, quantiser, codes, collision digit, artifact."""

from recbole_genci.tokenizer.artifact.append import append_items
from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.tokenizer.build import load_or_build_semantic_ids
from recbole_genci.tokenizer.settings import tokenizer_settings


def tokenize(dataset, config_files=None, config_dict=None, argv=()):
    """Semantic IDs of a dataset's items, from the cache or built now.

    Arguments and errors are those of `recbole_genci.run`.
    """
    # Imported here, because it loads RecBole's dataset code, which the rest does not need.
    from recbole_genci.tokenizer.command import tokenize

    return tokenize(dataset, config_files, config_dict, argv)


__all__ = [
    "SemanticIDs",
    "append_items",
    "load_or_build_semantic_ids",
    "tokenize",
    "tokenizer_settings",
]
