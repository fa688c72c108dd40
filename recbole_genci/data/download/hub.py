"""The Parquet and CSV files of a dataset on the Hugging Face hub, ``hf:user/name[@revision]``."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from recbole_genci.data.prepare.tables import chosen_files, none_chosen

HUB = "hf:"
_NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@(\S+))?")
_TIMEOUT = 30.0  # seconds


def hub_name(text: str) -> dict[str, str]:
    """The repository and revision that ``text`` names, as a provenance has them.

    Raises:
        ValueError: it is not of the form.
    """
    found = _NAME.fullmatch(text)
    if not found:
        raise ValueError(
            f"input: '{text}' is no dataset on the Hugging Face hub. Write hf:user/name, or "
            "hf:user/name@revision with a branch, a tag or a commit."
        )
    return {"source": "Hugging Face", "repository": found[1], "revision": found[2] or "main"}


def hub_files(origin: dict[str, str], pattern: str | None) -> list[Path]:
    """Download a dataset's files into the hub's cache, or find them there.

    ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_TOKEN`` and a stored login count, as for the hub's
    client. All files are of one commit.

    Args:
        origin: from ``hub_name``; its ``commit`` is set here.
        pattern: which files; by default all Parquet files, else all CSV files.

    Raises:
        ConnectionError: the hub does not give them; says why.
        FileNotFoundError: the repository has no such files.
    """
    from huggingface_hub import HfApi

    name, revision = origin["repository"], origin["revision"]
    where = f"input: {HUB}{name}@{revision}"
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="recbole_genci")
    with _explained(where, revision, api.endpoint):
        info = api.dataset_info(name, revision=revision, timeout=_TIMEOUT)
    names = sorted(each.rfilename for each in info.siblings or ())
    chosen = chosen_files(names, pattern)
    if not chosen:
        raise FileNotFoundError(
            f"{none_chosen(where, names, pattern)} The hub makes Parquet files of many datasets: "
            f"{HUB}{name}@refs/convert/parquet."
        )
    origin["commit"] = str(info.sha)
    with _explained(where, revision, api.endpoint):
        return [
            Path(api.hf_hub_download(name, file, repo_type="dataset", revision=info.sha))
            for file in chosen
        ]


@contextlib.contextmanager
def _explained(where: str, revision: str, endpoint: str) -> Iterator[None]:
    """Turn errors of the hub's client inside the block into a ``ConnectionError``."""
    from huggingface_hub import errors

    try:
        yield
    except errors.RepositoryNotFoundError as error:  # or one that must be asked for
        raise ConnectionError(
            f"{where}: {endpoint} has no dataset of that name that you may read. Look after the "
            "name, or log in (hf auth login, or the environment variable HF_TOKEN)."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ConnectionError(
            f"{where}: the dataset has no branch, tag or commit '{revision}'."
        ) from error
    except (errors.HTTPError, OSError) as error:
        raise ConnectionError(
            f"{where}: {endpoint} does not give it ({_reason(error)}). Look after the network, "
            "name a mirror by the environment variable HF_ENDPOINT, or download the files and "
            "give their folder as --input."
        ) from error


def _reason(error: BaseException) -> str:
    """The first error of a chain, in words."""
    while error.__cause__ is not None:
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"HTTP {status}" if status else " ".join(str(error).split()) or type(error).__name__
