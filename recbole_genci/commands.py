"""The installed commands. Little is imported before a signal can be answered: the rest takes
seconds."""

from __future__ import annotations

import sys

from recbole_genci.utils import interrupts


def train() -> None:
    """``run_recbole_genci``: train and evaluate models, or run an experiment."""
    interrupts.end_at_once()
    from recbole_genci.quick_start import main

    sys.exit(main(sys.argv[1:]))


def tune() -> None:
    """``run_hyper``: search hyper-parameters."""
    interrupts.end_at_once()
    from recbole_genci.tuning.command import main

    sys.exit(main(sys.argv[1:]))
