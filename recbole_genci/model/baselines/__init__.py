"""Baselines that RecBole lacks, or that differ from RecBole's."""
