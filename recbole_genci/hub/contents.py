"""What is uploaded of a folder: the files of a finished run, or of semantic IDs, all checked first.

The dataset's own content stays here unless a person asks for it: its licence may not allow passing
it on. This is a run's rows and the texts of items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.artifact.files import MANIFEST, TEXTS
from recbole_genci.tokenizer.artifact.published import without_texts
from recbole_genci.training.checkpoint import why_not_finished
from recbole_genci.training.saved_files import (
    COPY_OR_ANEW,
    check_config,
    check_files,
    check_there,
    read_metrics,
)
from recbole_genci.utils.layout import (
    CONFIG_FILE,
    DATA_FILE,
    DIAGNOSTICS_FILE,
    METRICS_FILE,
    SEMANTIC_ID_FOLDER,
    STATE_FILE,
    WEIGHTS_FILE,
)
from recbole_genci.utils.mappings import read_mapping


@dataclass(frozen=True)
class Contents:
    """What is uploaded of a folder.

    Attributes:
        files: by the name there, with ``/``, a file here or its content.
        left_out: the dataset's own content that stays here: bytes by name.
        metrics: the content of ``metrics.json``; None for semantic IDs.
        manifest: that of the semantic IDs; None for a run that reads none.
    """

    files: dict[str, Path | bytes]
    left_out: dict[str, int]
    metrics: dict[str, Any] | None
    manifest: Mapping[str, Any] | None

    @property
    def title(self) -> str:
        """What it is, in a line."""
        if self.metrics is None:
            assert self.manifest is not None
            return f"Semantic IDs of {self.manifest['items']:,} items"
        return f"{self.metrics['model']} on {self.metrics['dataset']}, seed {self.metrics['seed']}"


def contents_of(folder: Path, with_data: bool) -> Contents:
    """Check a folder, and choose its files.

    Args:
        folder: of a finished run, or of semantic IDs.
        with_data: whether rows and texts are uploaded too.

    Raises:
        FileNotFoundError: there is no such folder, it is neither of both, or the run has not
            finished.
        ValueError: a file is damaged, or of another run.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"push: there is no folder {folder}.")
    if any((folder / name).is_file() for name in (CONFIG_FILE, METRICS_FILE, STATE_FILE)):
        return _run(folder, with_data)
    if (folder / MANIFEST).is_file():
        files, left_out, manifest = _semantic_ids(folder, with_data)
        return Contents(files, left_out, None, manifest)
    raise FileNotFoundError(
        f"push: {folder} is neither the folder of a run (it has no {CONFIG_FILE}) nor of semantic "
        f"IDs (it has no {MANIFEST})."
    )


def _run(folder: Path, with_data: bool) -> Contents:
    if not (folder / METRICS_FILE).is_file():
        raise FileNotFoundError(f"push: {why_not_finished(folder)}")
    needed = (CONFIG_FILE, WEIGHTS_FILE, DATA_FILE) if with_data else (CONFIG_FILE, WEIGHTS_FILE)
    check_there(folder, needed, "push")
    metrics = read_metrics(folder / METRICS_FILE, COPY_OR_ANEW)
    saved = read_mapping(folder / CONFIG_FILE, ["model", "dataset"], COPY_OR_ANEW)
    check_config(folder / CONFIG_FILE, saved, metrics["config"])
    check_files(folder, metrics, COPY_OR_ANEW)
    names = [CONFIG_FILE, METRICS_FILE, WEIGHTS_FILE]
    names += [DIAGNOSTICS_FILE] if (folder / DIAGNOSTICS_FILE).is_file() else []
    left_out = {}
    if with_data:
        names.append(DATA_FILE)
    elif (folder / DATA_FILE).is_file():
        left_out[DATA_FILE] = (folder / DATA_FILE).stat().st_size
    files: dict[str, Path | bytes] = {name: folder / name for name in names}
    manifest = None
    if metrics["semantic_ids"]:
        ids, more_left_out, manifest = _semantic_ids(folder / SEMANTIC_ID_FOLDER, with_data)
        if manifest["digest"] != metrics["semantic_ids"]:
            raise ValueError(
                f"push: {folder / SEMANTIC_ID_FOLDER} holds the semantic IDs of another run. "
                f"{COPY_OR_ANEW}"
            )
        files |= {f"{SEMANTIC_ID_FOLDER}/{name}": file for name, file in ids.items()}
        left_out |= {f"{SEMANTIC_ID_FOLDER}/{name}": size for name, size in more_left_out.items()}
    return Contents(files, left_out, metrics, manifest)


def _semantic_ids(
    folder: Path, with_data: bool
) -> tuple[dict[str, Path | bytes], dict[str, int], Mapping[str, Any]]:
    """The files of semantic IDs, what of them is left out, and their manifest."""
    manifest = SemanticIDs.load(folder).manifest
    files: dict[str, Path | bytes] = {name: folder / name for name in manifest["files"]}
    files[MANIFEST] = folder / MANIFEST
    if with_data or TEXTS not in files:
        return files, {}, manifest
    size = (folder / TEXTS).stat().st_size
    files |= without_texts(folder)
    del files[TEXTS]
    return files, {TEXTS: size}, manifest
