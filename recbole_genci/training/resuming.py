"""Train a run in its own folder, or resume it there. Trials and experiments use it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from recbole_genci.config import Config
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.training.console import Heading
from recbole_genci.training.run import train_and_evaluate
from recbole_genci.training.saved_files import read_metrics
from recbole_genci.utils.layout import DATA_FILE, METRICS_FILE, STATE_FILE, WEIGHTS_FILE


def train_or_resume(
    config: Config,
    parts: Sequence[CTRDataset],
    semantic_ids: SemanticIDs | None,
    folder: Path,
    *,
    test: bool = True,
    after_epoch: Callable[[int, float], None] | None = None,
    heading: Heading | None = None,
) -> dict:
    """Train a run in its own folder, or resume it there.

    A stopped run resumes after its last evaluated epoch. A run that was stopped before its first
    evaluation, or has lost its weights, starts again. A run that has been tested is only read.

    Args:
        config: the run's Config; its ``checkpoint_dir`` becomes ``folder``.
        parts: the training, validation and test part.
        semantic_ids: for models that read them.
        folder: the folder of this run alone; the run is in its ``<model>-<dataset>-<time>/``.
        test, after_epoch, heading: as for ``train_and_evaluate``.

    Returns:
        dict: what ``train_and_evaluate`` returns.

    Raises:
        ValueError: the training state is damaged, or belongs to other rows or semantic IDs.
    """
    config["checkpoint_dir"] = str(folder)
    tested = next(
        (file for file in folder.glob(f"*/{METRICS_FILE}") if _is_whole(file.parent)), None
    )
    if test and tested:
        # The process may have been killed right after it wrote the last file.
        (tested.parent / STATE_FILE).unlink(missing_ok=True)
        metrics = read_metrics(tested, "Delete the folder, and the run is trained again.")
        return metrics | {"folder": str(tested.parent)}
    stopped = next(folder.glob(f"*/{STATE_FILE}"), None)
    if stopped is None:
        # The run was killed before its first epoch ended, or has lost its weights.
        if folder.exists():
            shutil.rmtree(folder)
    return train_and_evaluate(
        config,
        parts,
        semantic_ids,
        folder=stopped.parent if stopped else None,
        resumes=stopped is not None,
        test=test,
        after_epoch=after_epoch,
        heading=heading,
    )


def _is_whole(folder: Path) -> bool:
    """Whether a tested run still has the files that ``recbole_genci.load`` needs.

    People delete weights to save disk space.
    """
    return all((folder / name).is_file() for name in (WEIGHTS_FILE, DATA_FILE))
