"""Every table and figure of the paper from one command each: ``python run_recbole_genci.py
--experiment=NAME --dataset=NAME``.
"""

from recbole_genci.experiments.command import experiment

__all__ = ["experiment"]
