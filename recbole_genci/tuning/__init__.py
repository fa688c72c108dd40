"""Hyper-parameter tuning: RecBole's parameter files, trials on shared rows, selection by validation
alone.
"""
