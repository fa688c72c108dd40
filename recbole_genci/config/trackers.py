"""The programs that a run's figures also go to: ``track``, and RecBole's ``log_wandb``."""

from __future__ import annotations

from recbole_genci.utils.config_like import ConfigLike
from recbole_genci.utils.validation import nearest

TENSORBOARD, WANDB, MLFLOW = TRACKERS = ("tensorboard", "wandb", "mlflow")


def trackers(config: ConfigLike) -> tuple[str, ...]:
    """The names of the programs, each once.

    Raises:
        ValueError: ``track`` names none of them.
    """
    asked = config["track"] or []
    names = [name.strip() for name in (asked.split(",") if isinstance(asked, str) else asked)]
    for name in names:
        if name not in TRACKERS:
            raise ValueError(
                f"track: '{name}' is none of {', '.join(TRACKERS)}.{nearest(name, TRACKERS)}"
            )
    if config["log_wandb"]:
        names.append(WANDB)
    return tuple(name for name in TRACKERS if name in names)


def key_of(config: ConfigLike, name: str) -> str:
    """The key that asks for a program, for messages."""
    return "log_wandb" if name == WANDB and WANDB not in (config["track"] or ()) else "track"
