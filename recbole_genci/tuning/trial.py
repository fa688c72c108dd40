"""One trial: train the search's configuration with some values changed, in the trial's folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from recbole_genci.config import Config
from recbole_genci.config.config import TRUST
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.training.console import Heading
from recbole_genci.training.own_checks import check_model_settings
from recbole_genci.training.resuming import train_or_resume
from recbole_genci.tuning.space import canonical
from recbole_genci.utils.layout import CONFIG_FILE, LOG_FILE
from recbole_genci.utils.mappings import parse_yaml, read_mapping

_logger = logging.getLogger(__name__)

KEPT = (CONFIG_FILE, LOG_FILE)  # files of trials that are not the best


class MachineFailed(RuntimeError):
    """The machine failed during a trial (full disk, no memory), whatever the trial's values."""

    def __init__(self, number: int, reason: str):
        super().__init__(number, reason)
        self.number, self.reason = number, reason

    def __str__(self) -> str:
        return (
            f"trial {self.number} could not be run here ({self.reason}). The search has kept the "
            "trials before it. Mend the machine first; going on runs this trial again."
        )


@dataclass(frozen=True)
class Shared:
    """The data and configuration that all trials of a search share.

    Attributes:
        config_file: YAML file of the configuration that trials start from.
        parts: the training, validation and test part.
        semantic_ids: those of the items; None if the model reads none.
        placement: keys that say on which devices trials run here.
        sources: words for where the search has the values of keys from.
    """

    config_file: Path
    parts: list
    semantic_ids: SemanticIDs | None
    placement: dict = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def config(self, params: dict, folder: Path) -> Config:
        """The Config of a trial whose run is below ``folder``.

        Raises:
            ValueError: the values do not fit together.
        """
        saved = parse_yaml(self.config_file.read_text(encoding="utf-8"))
        # A person has named or allowed the code when the search began.
        values = params | self.placement | {"checkpoint_dir": str(folder), TRUST: True}
        config = Config(saved["model"], saved["dataset"], [str(self.config_file)], values)
        check_model_settings(config)
        return config


def folder_of(search_folder: Path, number: int) -> Path:
    """The folder of a trial."""
    return search_folder / "trials" / f"{number:04d}"


def train(
    shared: Shared,
    params: dict,
    folder: Path,
    after_epoch: Callable[[int, float], None] | None = None,
) -> dict:
    """Train and validate a trial without its test rows. A stopped trial resumes.

    Args:
        folder: the folder of this trial, as ``folder_of`` names it.
        after_epoch: called with each evaluated epoch and its validation score.

    Returns:
        dict: ``score`` (of ``valid_metric``), ``valid`` metrics, ``best_epoch``, ``epochs``,
            ``training_s``.

    Raises:
        ValueError: the values do not fit together, or a loss or score is not finite.
    """
    config = shared.config(params, folder)
    _forget_other_values(params, folder)
    which = f"trial {int(folder.name)}" if folder.name.isdigit() else "a trial"
    heading = _heading(shared, config, params, which)
    run = train_or_resume(
        config,
        shared.parts,
        shared.semantic_ids,
        folder,
        test=False,
        after_epoch=after_epoch,
        heading=heading,
    )
    score = run["best_valid"][str(config["valid_metric"]).lower()]
    if score is None:
        raise ValueError(
            f"valid_metric: {config['valid_metric']} of the validation rows is undefined."
        )
    return {
        "score": score,
        "valid": run["best_valid"],
        **{k: run[k] for k in ("best_epoch", "epochs", "training_s")},
    }


def _forget_other_values(params: dict, folder: Path) -> None:
    """Delete a stopped run whose values differ.

    If somebody removes lines from the journal, trials get new numbers, and the folder may belong to
    another point.
    """
    for file in folder.glob(f"*/{CONFIG_FILE}"):
        try:
            before = read_mapping(file, ["model"], "")
            same = canonical({name: before.get(name) for name in params}) == canonical(params)
        except (
            ValueError,
            TypeError,
        ):  # it is damaged, or its values are none that a search has written
            same = False
        if not same:
            _logger.warning(
                f"{file.parent} holds a stopped run with other values, or a damaged one. It is "
                "removed, and the trial starts anew."
            )
            shutil.rmtree(file.parent)


def finish(shared: Shared, params: dict, folder: Path) -> dict:
    """Test a trained trial; return the content of its ``metrics.json``."""
    config = shared.config(params, folder)
    heading = _heading(shared, config, params, "the selected trial")
    return train_or_resume(config, shared.parts, shared.semantic_ids, folder, heading=heading)


def _heading(shared: Shared, config: Config, params: dict, which: str) -> Heading:
    # The trial's own Config has all other keys from one file, the search's.
    sources = shared.sources | dict.fromkeys(params, "this trial")
    return Heading.of(config, f"{which}, seed {config['seed']}", sources)


def clean(folder: Path) -> None:
    """Remove a trial's weights, rows and training state; keep its configuration and log."""
    for path in folder.glob("*/*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in KEPT:
            path.unlink()
