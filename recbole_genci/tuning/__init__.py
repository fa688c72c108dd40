"""Hyper-parameter tuning by RecBole's parameter files: trials share rows; validation selects."""
