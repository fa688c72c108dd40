"""Weights & Biases: one W&B run for each of our runs.

RecBole opens one W&B run for a whole process and never ends it (utils/wandblogger.py:43), so that
models, seeds and trials share curves, and the last test metrics replace all others. The names of
the figures are RecBole's.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from recbole_genci.training.tracking.tracker import RunFacts
from recbole_genci.utils.layout import WANDB_ID_FILE
from recbole_genci.utils.writing import write_text

_LONGEST_TAG = 64  # characters that W&B takes


class WandbRun:
    """A W&B run; see `tracker.Tracker`. Its own files go to ``<folder>/wandb``.

    Raises:
        ConnectionError: W&B opened no run; says why.
    """

    def __init__(self, facts: RunFacts) -> None:
        import wandb

        self._wandb, self._eval_step = wandb, facts.keys["eval_step"]
        self.errors: tuple[type[Exception], ...] = (wandb.Error, OSError)
        file = facts.folder / WANDB_ID_FILE
        self.continues = file.is_file()
        number = (
            file.read_text(encoding="utf-8").strip() if self.continues else secrets.token_hex(4)
        )
        tags = [
            f"{name} {value}" if name == "seed" else value for name, value in facts.tags.items()
        ]
        try:
            wandb.init(
                project=facts.keys["wandb_project"],
                name=facts.folder.name,
                id=number,
                dir=str(facts.folder),
                config=dict(facts.keys),
                tags=[tag[:_LONGEST_TAG] for tag in tags],
                resume="allow",
            )
            wandb.define_metric("train/*", step_metric="train_step")
            wandb.define_metric("valid/*", step_metric="valid_step")
        except self.errors as error:
            raise ConnectionError(
                f"{facts.key}: W&B opened no run ({' '.join(str(error).split())}). Log in by "
                "`wandb login`, or set WANDB_MODE=offline to keep the curves on this machine."
            ) from error
        write_text(file, f"{number}\n")

    def log(self, part: str, figures: Mapping[str, float], epoch: int) -> None:
        """``train/...`` over epochs, ``valid/...`` over validations, both counted from 0."""
        shown = {f"{part}/{name}": value for name, value in figures.items()}
        if part == "train":
            shown |= {"train/epoch": epoch - 1, "train_step": epoch - 1}
        else:
            shown["valid_step"] = epoch // self._eval_step - 1
        self._wandb.log(shown)

    def log_test(self, metrics: Mapping[str, float]) -> None:
        """``eval/...`` in the summary."""
        for name, value in metrics.items():
            self._wandb.run.summary[f"eval/{name}"] = value

    def close(self, exit_code: int) -> None:
        """Finish the W&B run, as failed if it did not finish."""
        self._wandb.finish(exit_code=exit_code)
