"""Where a dataset's folder comes from: the disk, or RecBole's public store of atomic files."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from urllib.error import URLError

import yaml
from recbole.utils.url import decide_download, download_url, extract_zip, rename_atomic_files

from recbole_genci.config import RECBOLE_FOLDER
from recbole_genci.utils.validation import nearest


def known_downloads() -> dict[str, str]:
    """RecBole's dataset names and their addresses."""
    return yaml.safe_load((RECBOLE_FOLDER / "properties/dataset/url.yaml").read_text(encoding="utf-8"))


def check_dataset(config) -> None:
    """Refuse an unknown dataset before any work.

    Raises:
        ValueError: neither a folder under ``data_path`` nor a name in RecBole's store.
    """
    folder, name = Path(config["data_path"]), config["dataset"]
    if folder.is_dir() or name in known_downloads():
        return
    here = sorted({file.parent.name for file in folder.parent.glob("*/*.inter")})
    raise ValueError(
        f"dataset: there is no folder {folder}, and '{name}' is no name in RecBole's dataset store."
        f"{nearest(name, [*here, *known_downloads()])} Put {name}.inter (and .user, .item) into that folder or point "
        f"--data_path at the folder that holds {name}/; python -m recbole_genci.data.prepare makes them from MovieLens' and "
        f"Amazon's published files. Found there: {', '.join(here) or 'nothing'}. Relative "
        f"paths start at {Path.cwd()}."
    )


def find_or_download(dataset, folder: Path) -> None:
    """Make sure ``folder`` holds the dataset's atomic files, downloading them whole or not at all.

    Raises:
        ConnectionError: the store cannot be reached.
    """
    if folder.is_dir():
        return
    check_dataset(dataset.config)
    url = known_downloads()[dataset.dataset_name]
    folder.parent.mkdir(parents=True, exist_ok=True)
    # RecBole's own _download waits on a process group that a single process does not have (dataset.py:252), and leaves a
    # half-filled folder behind when the connection breaks.
    partial = tempfile.mkdtemp(prefix=f".{dataset.dataset_name}-", dir=folder.parent)
    try:
        if not decide_download(url):
            raise ConnectionError(f"The download of {url} was declined.")
        path = download_url(url, partial)
        extract_zip(path, partial)
        os.unlink(path)
        rename_atomic_files(partial, os.path.splitext(os.path.basename(path))[0], dataset.dataset_name)
        os.chmod(partial, 0o755)  # mkdtemp makes folders private
        os.replace(partial, folder)
    except (URLError, OSError) as error:
        raise ConnectionError(
            f"dataset: {folder} does not exist and downloading it from {url} failed ({error}). Put the atomic files there "
            "by hand, or point --data_path at a folder that has them."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
