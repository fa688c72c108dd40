"""Codes on disk: semantic IDs, their folder, and what is added to it later."""
