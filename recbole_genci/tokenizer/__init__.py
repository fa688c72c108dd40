"""Items to semantic IDs: text, encoder, RQ-VAE, codes, collision digit, artifact."""

from recbole_genci.tokenizer.build import load_or_build_semantic_ids, tokenizer_settings
from recbole_genci.tokenizer.semantic_ids import SemanticIDs

__all__ = ["SemanticIDs", "load_or_build_semantic_ids", "tokenizer_settings"]
