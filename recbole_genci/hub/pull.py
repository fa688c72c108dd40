"""Copy a pushed folder from the hub's cache to a folder, which appears complete or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from recbole_genci.hub.restore import restore_data
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.artifact.files import MANIFEST
from recbole_genci.utils.disk import check_writable
from recbole_genci.utils.hub.name import HubName, is_hub_name
from recbole_genci.utils.hub.snapshot import fetch
from recbole_genci.utils.layout import DATA_FILE, METRICS_FILE
from recbole_genci.utils.writing import give_usual_permissions, naming


def pull(
    name: str,
    folder: str | Path,
    *,
    data_path: str | Path = "dataset",
    model: str | type | None = None,
    trust_code: bool = False,
) -> str:
    """Download a run or semantic IDs that ``push`` has uploaded, and check every file.

    What was downloaded before comes from the cache. The rows and texts of a run that was pushed
    without them are made again from the dataset's files.

    Args:
        name: ``hf:user/name[@revision][/subfolder]``.
        folder: a new folder.
        data_path: the folder that holds that of the dataset, if rows are to be made.
        model, trust_code: as for ``load``, if the rows of a model of your own are to be made.

    Returns:
        str: the commit's hash.

    Raises:
        FileExistsError: ``folder`` exists and is not empty.
        HubError: the hub does not give it.
        ValueError: a file is not the one that was pushed, or the dataset gives other rows.
    """
    source, target = HubName.read(name, "pull"), Path(folder)
    check_target(target)
    snapshot = fetch(source, "pull")
    names = snapshot.files
    if METRICS_FILE not in names and MANIFEST not in names:
        raise ValueError(f"pull: {name} is neither a run nor semantic IDs.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        with naming(target):
            for each in sorted(names, key=_is_last):
                (temporary / each).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(snapshot.folder / each, temporary / each)
        if METRICS_FILE not in names:
            SemanticIDs.load(temporary)
        elif DATA_FILE not in names:
            restore_data(temporary, name, data_path, model, trust_code)
        give_usual_permissions(temporary)
        with naming(target):
            os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return snapshot.commit


def check_target(folder: Path) -> None:
    """Refuse a folder that holds something, or that cannot be made.

    Raises:
        FileExistsError, ValueError: as said.
    """
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f"pull: {folder} exists already. Name a new folder.")
    if is_hub_name(folder):  # no command could read it from there
        raise ValueError(f"pull: '{folder}' is a name on the hub. Name a new folder here.")
    check_writable(folder.parent, "pull")


def _is_last(name: str) -> bool:
    """Whether a file says that the folder is complete; it is copied last."""
    return name in (METRICS_FILE, MANIFEST)
