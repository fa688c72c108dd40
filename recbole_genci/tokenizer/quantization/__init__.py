"""Vectors to codes."""
