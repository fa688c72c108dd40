"""Semantic IDs on disk: the artifact folder, published IDs, and adding items later."""
