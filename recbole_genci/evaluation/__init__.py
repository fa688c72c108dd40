"""Measurements beyond RecBole's metrics."""
