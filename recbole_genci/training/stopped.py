"""What to do after Ctrl-C or SIGTERM: the very command that goes on, and what had finished by
then."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from recbole_genci.config.command_line import as_started
from recbole_genci.utils.layout import METRICS_FILE, STATE_FILE

TRAIN, TUNE = "run_recbole_genci.py", "run_hyper.py"


def go_on(script: str, words: Sequence[str]) -> str:
    """``Go on by: <command>``."""
    return f"Go on by: {shlex.join([*as_started(script), *words])}"


def of_runs(
    asked: Sequence[tuple[str, int]],
    runs: Sequence[dict],
    folder: Path | None,
    together: bool = False,
) -> str:
    """What a command that trains several models can still be made of.

    Args:
        asked: model and seed of all its runs, in order.
        runs: of them, what those that have finished wrote to their ``metrics.json``.
        folder: of the run that was stopped; None if none had begun, or if it is on another machine.
        together: whether several processes trained it, which keep no training state.
    """
    finished = [str(run["folder"]) for run in runs]
    left = list(asked[len(runs) :])
    if (
        folder is not None and left and (folder / METRICS_FILE).is_file()
    ):  # stopped right after it was written
        finished.append(str(folder))
        left.pop(0)
        folder = None
    sentences = []
    if left and folder is not None:
        sentences.append(_of_run(*left.pop(0), folder, together))
    if finished:
        table = shlex.join(
            ["python", "-m", "recbole_genci.report", *(f"{each}/metrics.json" for each in finished)]
        )
        names = ", ".join(f"{model} seed {seed}" for model, seed in asked[: len(finished)])
        sentences.append(f"Finished: {names}; their table: {table}")
    if left:
        sentences.append(f"Not begun: {', '.join(f'{model} seed {seed}' for model, seed in left)}")
    return ". ".join(sentences)


def _of_run(model: str, seed: int, folder: Path, together: bool) -> str:
    if (folder / STATE_FILE).is_file():
        return go_on(TRAIN, [f"--resume={folder}"])
    why = (
        "several processes (nproc) keep no training state"
        if together
        else f"no epoch had ended in {folder}/"
    )
    return f"{model} seed {seed} has to be started anew: {why}"
