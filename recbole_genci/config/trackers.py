"""The programs that a run's figures also go to: ``track``, and RecBole's ``log_wandb``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_genci.utils.config_like import ConfigLike
from recbole_genci.utils.value_checks import nearest, shortened

TENSORBOARD, WANDB, MLFLOW = TRACKERS = ("tensorboard", "wandb", "mlflow")


def trackers(config: ConfigLike | Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the programs, each once.

    Raises:
        ValueError: ``track`` names none of them.
    """
    asked = config["track"] or []
    if isinstance(asked, str):
        asked = [name.strip() for name in asked.split(",")]
    names = list(asked) if isinstance(asked, (list, tuple)) else [asked]
    for name in names:
        if name not in TRACKERS:
            raise ValueError(
                f"track: {shortened(name)} is none of {', '.join(TRACKERS)}."
                f"{nearest(str(name), TRACKERS)}"
            )
    if config["log_wandb"]:
        names.append(WANDB)
    return tuple(name for name in TRACKERS if name in names)


def key_of(config: ConfigLike, name: str) -> str:
    """The key that asks for a program, for messages."""
    return "log_wandb" if name == WANDB and WANDB not in (config["track"] or ()) else "track"
