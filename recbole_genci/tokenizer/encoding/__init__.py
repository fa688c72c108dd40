"""Texts of items and their vectors."""
