"""Weights & Biases (``log_wandb``): one run for each run of ours, from its first epoch to its test
metrics.

RecBole opens one run for a whole process and never ends it (utils/wandblogger.py:43), so that
models, seeds and trials share their curves, and the last one's test metrics replace the others'.
Here the run is open before RecBole's logger looks for one.
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

#: A stopped run goes on in its W&B run, and a trial is tested in the one it was trained in.
ID_FILE = "wandb_id.txt"


def check(config: Config) -> None:
    """Refuse ``log_wandb`` where it cannot work, before anything is read.

    Raises:
        ImportError: the package is not installed.
        ValueError: the host program has a W&B run open, which all models would share.
    """
    if not config["log_wandb"]:
        return
    found = importlib.util.find_spec("wandb")
    # A folder wandb/, which W&B leaves where it runs, is no package.
    if found is None or found.origin is None:
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
    """Keep a W&B run open inside the block, named after ``folder``; it ends with the block, as
    failed if that raises.

    Args:
        config: the run's Config; without ``log_wandb`` nothing happens.
        folder: of the run. W&B's own files go to ``<folder>/wandb``. The W&B run of an earlier
        block is gone on with.
        keys: the configuration as W&B shows it.

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
    """Keep a trainer of something that is no run of its own, such as a teacher, out of the W&B
    run."""
    trainer.wandblogger.log_wandb = False


def count_on(trainer: Trainer) -> None:
    """Have a trainer that was resumed number its validations on; RecBole (trainer.py:428) begins at
    0 again."""
    log, before = trainer.wandblogger.log_metrics, trainer.start_epoch // trainer.eval_step

    def log_on(metrics: Mapping[str, Any], **more: Any) -> None:
        log(
            {**metrics, "valid_step": metrics["valid_step"] + before}
            if "valid_step" in metrics
            else metrics,
            **more,
        )

    trainer.wandblogger.log_metrics = log_on
