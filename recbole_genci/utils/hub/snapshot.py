"""Fetch a pushed folder into the hub's cache, and check every file against its manifest."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from recbole_genci.utils.hub.manifest import read_manifest
from recbole_genci.utils.hub.name import HubName, is_hub_name
from recbole_genci.utils.hub.probe import probe
from recbole_genci.utils.hub.refusals import HubError, explained
from recbole_genci.utils.layout import HUB_FILE
from recbole_genci.utils.sha256 import sha256_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_logger = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """A folder of one commit, in the hub's cache.

    Attributes:
        folder: its files, as the hub's client lays them out; nobody may write there.
        commit: the commit's hash.
        files: their names below the folder, with ``/``.
    """

    folder: Path
    commit: str
    files: tuple[str, ...]


def local_folder(folder: str | Path, key: str = "") -> Path:
    """A folder as it is; for a name on the hub that of its files here, all checked.

    Args:
        folder: a path, or ``hf:user/name[@revision][/subfolder]``.
        key: the option that it was given for, for errors.

    Raises:
        ValueError, HubError: as for ``fetch``.
    """
    if not is_hub_name(folder):
        return Path(folder)
    return fetch(HubName.read(str(folder), key), key).folder


def fetch(name: HubName, key: str = "") -> Snapshot:
    """Fetch what the cache lacks, and check all files. If the hub is out of reach, the cache does.

    Raises:
        HubError: the hub does not give the folder, or is out of reach and the cache lacks a file.
        ValueError: nothing was pushed there, or a file is not the one that was pushed.
    """
    from huggingface_hub import HfApi

    where = f"{key}: {name}" if key else str(name)
    answer = probe(name.repository)
    unreachable = answer if isinstance(answer, str) else None
    api = HfApi(library_name="recbole_genci")
    with explained(where, name, unreachable):
        manifest, above = _manifest(api, name, where, unreachable is not None)
        commit = manifest.parents[len(above)].name
        inside = "/".join(name.subfolder.split("/")[len(above) :]) if name.subfolder else ""
        digests = {
            each.removeprefix(f"{inside}/"): digest
            for each, digest in read_manifest(manifest, where).items()
            if not inside or each.startswith(f"{inside}/")
        }
        if not digests:
            raise ValueError(f"{where}: no folder of that name was pushed there.")
        folder = manifest.parent / inside
        prefix = "".join(f"{part}/" for part in [*above, *filter(None, inside.split("/"))])
        for each, digest in digests.items():
            file = api.hf_hub_download(
                name.repository,
                prefix + each,
                revision=commit,
                local_files_only=unreachable is not None,
            )
            _check(Path(file), digest, where, each)
    said = f"{name} is commit {commit[:12]}; its files are those that were pushed."
    if unreachable:
        _logger.warning(f"{said} They come from the cache and may be old: {unreachable}.")
    elif isinstance(answer, int) and answer >= 400:
        _logger.warning(f"{said} They come from the cache: the hub answers with HTTP {answer}.")
    else:
        _logger.info(said)
    return Snapshot(folder, commit, tuple(digests))


def _manifest(
    api: HfApi, name: HubName, where: str, is_cached: bool
) -> tuple[Path, tuple[str, ...]]:
    """The nearest manifest at or above a name's folder, and the folders above it."""
    from huggingface_hub import errors

    parts = tuple(name.subfolder.split("/")) if name.subfolder else ()
    missing: Exception | None = None
    for depth in range(len(parts), -1, -1):
        above = parts[:depth]
        try:
            file = api.hf_hub_download(
                name.repository,
                "/".join([*above, HUB_FILE]),
                revision=name.revision,
                local_files_only=is_cached,
            )
            return Path(file), above
        except errors.EntryNotFoundError as error:
            missing = error
    if isinstance(missing, errors.LocalEntryNotFoundError):
        raise missing
    raise HubError(
        f"{where}: it holds no {HUB_FILE}, so that nothing was pushed there by `python -m "
        "recbole_genci.hub push`, or the push did not end."
    ) from missing


def _check(file: Path, digest: str, where: str, name: str) -> None:
    found = sha256_of(file)
    if found != digest:
        raise ValueError(
            f"{where}: {name} is not the file that was pushed: its SHA-256 is {found[:12]}..., "
            f"that in {HUB_FILE} {digest[:12]}... Delete {file.resolve()} and fetch it again; if "
            "that does not help, the repository is damaged: push the folder again."
        )
