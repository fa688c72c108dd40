"""How long early stopping waits for an improvement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recbole_genci.config.keys import properties_folder
from recbole_genci.utils.config_like import ConfigLike

_STEPS = 100  # on small sets vectors need as many to grow (docs/tuning.md)


def settled_patience(
    steps: int | None,
    by_hand: Mapping[str, Any],
    external: Mapping[str, Any],
    properties: Iterable[tuple[str | Path, Mapping]],
) -> int:
    """The value of ``min_patience_steps``; 0 where a person, or the file of a dataset or model,
    says by ``stopping_step`` how patient training is.

    Args:
        steps: what the key is so far. The default in a file, such as a run's ``config.yaml``,
            counts as none if ``stopping_step`` is set by hand or searched.
        by_hand: keys of the command line and of the dict.
        external: these, and the keys of configuration files.
        properties: each properties file with its keys, later ones win.
    """
    is_default = steps == _STEPS and "min_patience_steps" not in by_hand
    if steps is not None and not (is_default and "stopping_step" in by_hand):
        return steps
    file = [str(file) for file, keys in properties if "stopping_step" in keys][-1]
    is_set = "stopping_step" in external or file != str(properties_folder() / "overall.yaml")
    return 0 if is_set else _STEPS


def evaluations_in_a_row(config: ConfigLike, between: int) -> int:
    """So many evaluations without an improvement end a training.

    Args:
        config: for ``stopping_step`` and ``min_patience_steps``.
        between: steps from one evaluation to the next, at least 1.
    """
    return max(config["stopping_step"] + 1, -(-config["min_patience_steps"] // between))
