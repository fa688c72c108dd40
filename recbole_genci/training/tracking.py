"""Weights & Biases (``log_wandb``): one W&B run for each of our runs.

RecBole opens one W&B run for a whole process and never ends it (utils/wandblogger.py:43), so that
models, seeds and trials share curves, and the last test metrics replace all others. Here a W&B run
is already open when RecBole's logger looks for one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_genci.config import Config
from recbole_genci.utils.files import write_text
from recbole_genci.utils.interrupts import exit_status

if TYPE_CHECKING:
    from recbole.trainer import Trainer

#: Holds the ID of the W&B run, in which a stopped run resumes and a trained trial is tested.
ID_FILE = "wandb_id.txt"


def check(config: Config) -> None:
    """Check before anything is read that ``log_wandb`` can work.

    Raises:
        ImportError: the package is not installed.
        ValueError: the host program has a W&B run open, which all models would share.
    """
    if not config["log_wandb"]:
        return
    package = importlib.util.find_spec("wandb")
    # W&B leaves a folder wandb/ where it runs, which is not the package.
    if package is None or package.origin is None:
        raise ImportError(
            "log_wandb: it needs the package wandb, which is not installed: pip install wandb. Or "
            "leave log_wandb out."
        )
    host = sys.modules.get("wandb")
    if getattr(host, "run", None) is not None:
        raise ValueError(
            "log_wandb: this program has a W&B run open already, but each model gets one of its "
            "own. Call wandb.finish() first, or leave log_wandb out."
        )


@contextlib.contextmanager
def wandb_run(config: Config, folder: Path, keys: dict) -> Iterator[None]:
    """Keep a W&B run open inside the block, named after ``folder``.

    It ends with the block, as failed if the block raises.

    Args:
        config: the run's Config; without ``log_wandb`` nothing happens.
        folder: the run's folder. W&B's own files go to ``<folder>/wandb``. If an earlier block
            opened a W&B run for this folder, that one continues.
        keys: the configuration for W&B to show.

    Raises:
        ConnectionError: W&B opened no run; says why.
    """
    if not config["log_wandb"]:
        yield
        return
    import wandb

    file = folder / ID_FILE
    number = file.read_text(encoding="utf-8").strip() if file.is_file() else secrets.token_hex(4)
    try:
        wandb.init(
            project=config["wandb_project"],
            name=folder.name,
            id=number,
            dir=str(folder),
            config=keys,
            resume="allow",
        )
    except (wandb.Error, OSError) as error:
        raise ConnectionError(
            f"log_wandb: W&B opened no run ({' '.join(str(error).split())}). Log in by "
            "`wandb login`, or set WANDB_MODE=offline to keep the curves on this machine."
        ) from error
    write_text(file, f"{number}\n")
    try:
        yield
    except KeyboardInterrupt as stop:
        wandb.finish(exit_code=exit_status(stop))
        raise
    except BaseException:
        wandb.finish(exit_code=1)
        raise
    wandb.finish()


def without_curves(trainer: Trainer) -> None:
    """Keep the curves of a trainer, such as a teacher's, out of the W&B run."""
    trainer.wandblogger.log_wandb = False


def count_on(trainer: Trainer) -> None:
    """Make a resumed trainer continue the numbers of its validations in W&B.

    RecBole (trainer.py:428) would begin at 0 again.
    """
    log, before = trainer.wandblogger.log_metrics, trainer.start_epoch // trainer.eval_step

    def log_on(metrics: Mapping[str, Any], **more: Any) -> None:
        log(
            {**metrics, "valid_step": metrics["valid_step"] + before}
            if "valid_step" in metrics
            else metrics,
            **more,
        )

    trainer.wandblogger.log_metrics = log_on
