"""The paper's tables and figures, each made by one command.

The command is ``python run_recbole_genci.py --experiment=NAME --dataset=NAME``.
"""

from recbole_genci.experiments.command import experiment

__all__ = ["experiment"]
