"""Advice after a signal or an error: the command that goes on, and the runs that have finished."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from recbole_genci.config.command_line import as_started
from recbole_genci.utils.answers import is_out_of_memory
from recbole_genci.utils.layout import METRICS_FILE, STATE_FILE
from recbole_genci.utils.own_code import is_reference
from recbole_genci.utils.scripts import TRAIN


def go_on(script: str, words: Sequence[str]) -> str:
    """The advice ``Go on by: <command>``."""
    return f"Go on by: {shlex.join([*as_started(script), *words])}"


def model_words(reference: str) -> list[str]:
    """``--model=...`` for code of one's own, which no folder may import by itself; else nothing."""
    return [f"--model={reference}"] if is_reference(reference) else []


def of_runs(
    planned: Sequence[tuple[str, int]],
    runs: Sequence[dict],
    folder: Path | None,
    together: bool = False,
    references: Mapping[str, str] | None = None,
    error: BaseException | None = None,
) -> str:
    """Advice for a stopped command that trains several models.

    Args:
        planned: model and seed of all its runs, in order.
        runs: the ``metrics.json`` contents of the runs that have finished.
        folder: the folder of the stopped run; None if none had begun, or on another machine.
        together: whether several processes trained it; they keep no training state.
        references: by model's name, how it is found again; see ``model_words``.
        error: what stopped it. If going on would end in the same, no command that goes on is named.
    """
    finished = [str(run["folder"]) for run in runs]
    left = list(planned[len(runs) :])
    # The command may have been stopped right after it wrote the run's last file.
    if folder is not None and left and (folder / METRICS_FILE).is_file():
        finished.append(str(folder))
        left.pop(0)
        folder = None
    sentences = []
    if left and folder is not None:
        model, seed = left.pop(0)
        words = model_words((references or {}).get(model, model))
        if error is not None and not may_go_on(error):
            sentences.append(f"The files of {model} seed {seed} are in {folder}/")
        else:
            sentences.append(_of_run(model, seed, folder, together, words))
    if finished:
        table = shlex.join(
            ["python", "-m", "recbole_genci.report", *(f"{each}/metrics.json" for each in finished)]
        )
        names = ", ".join(f"{model} seed {seed}" for model, seed in planned[: len(finished)])
        sentences.append(f"Finished: {names}; their table: {table}")
    if left:
        sentences.append(f"Not begun: {', '.join(f'{model} seed {seed}' for model, seed in left)}")
    return "\n".join(sentences)  # a command at the end of a line is copied as it is


def may_go_on(error: BaseException) -> bool:
    """Whether a run can go on once what stopped it is mended: a signal, a file, the memory (a
    GPU's, too), or a process's death. Otherwise its settings or its code are at fault.
    """
    return isinstance(error, (KeyboardInterrupt, OSError, ProcessDied)) or is_out_of_memory(error)


class ProcessDied(RuntimeError):
    """One of the processes that train a model together was killed."""


def _of_run(model: str, seed: int, folder: Path, together: bool, words: list[str]) -> str:
    if (folder / STATE_FILE).is_file():
        return go_on(TRAIN, [f"--resume={folder}", *words])
    why = (
        "several processes (nproc) keep no training state"
        if together
        else f"no epoch had ended in {folder}/"
    )
    return f"{model} seed {seed} has to be started anew: {why}"
