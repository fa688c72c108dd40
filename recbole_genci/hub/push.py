"""Upload a folder to the hub in one commit, so that a push that stops leaves nothing that loads."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from recbole_genci.data.download.http import readable
from recbole_genci.hub.card import CARD, card_of, licence_of
from recbole_genci.hub.contents import Contents, contents_of
from recbole_genci.utils.hub.manifest import manifest_of, read_manifest
from recbole_genci.utils.hub.name import HubName
from recbole_genci.utils.hub.probe import probe
from recbole_genci.utils.hub.refusals import HubError, explained
from recbole_genci.utils.layout import HUB_FILE
from recbole_genci.utils.sha256 import sha256_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_logger = logging.getLogger(__name__)


class _There(NamedTuple):
    """What the repository holds already.

    Attributes:
        head: its last commit; None if there is no such repository.
        is_private: whether only its owner may read it.
        files: the files of an earlier push to the same folder.
        licence: what the card of that push names.
    """

    head: str | None
    is_private: bool
    files: frozenset[str] = frozenset()
    licence: str | None = None


class Pushed(NamedTuple):
    """A push that ended: the commit's hash, and whether only its owner may read it."""

    commit: str
    is_private: bool


def push(folder: str | Path, name: str, *, public: bool = False, with_data: bool = False) -> str:
    """Upload a finished run or semantic IDs to the Hugging Face hub.

    Args:
        folder: the run's folder, or that of the semantic IDs.
        name: ``hf:user/name`` or ``hf:user/name/subfolder``; a repository that does not exist is
            made.
        public: make it one that everybody may read.
        with_data: upload the dataset's own content too, rows and texts of items, if its licence
            allows that.

    Returns:
        str: the commit's hash.

    Raises:
        FileNotFoundError, ValueError: the folder holds nothing that can be uploaded, or is damaged.
        HubError: the hub does not take it.
    """
    target, contents = check_push(folder, name, with_data)
    return upload(contents, target, public).commit


def check_push(folder: str | Path, name: str, with_data: bool = False) -> tuple[HubName, Contents]:
    """Check all that can be checked here; the arguments are those of ``push``."""
    target = HubName.read(name, "push")
    if target.revision:
        raise ValueError(
            f"push: {name} names a revision, and a push goes to the main branch. Leave "
            f"@{target.revision} out."
        )
    return target, contents_of(Path(folder), with_data)


def listing(contents: Contents, name: HubName) -> str:
    """What is uploaded, with sizes, and what is left out."""
    sizes = {
        each: len(file) if isinstance(file, bytes) else file.stat().st_size
        for each, file in contents.files.items()
    }
    width = max(map(len, sizes))
    lines = [f"{contents.title}. To {name}, {readable(sum(sizes.values()))}:"]
    lines += [f"  {each:<{width}}  {readable(size):>9}" for each, size in sizes.items()]
    lines.append(f"  and {CARD} (the model card) and {HUB_FILE} (digests of these files)")
    if contents.left_out:
        named = ", ".join(f"{each} ({readable(size)})" for each, size in contents.left_out.items())
        lines.append(
            f"Left out, as the dataset's own: {named}. If its licence allows passing them on, add "
            "--with_data=True."
        )
    return "\n".join(lines)


def upload(contents: Contents, name: HubName, public: bool = False) -> Pushed:
    """Upload what was checked.

    Raises:
        HubError: the hub does not take it.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    where = f"push: {name}"
    answer = probe(name.repository)
    if isinstance(answer, str):
        raise HubError(f"{where}: {answer}. Push it while the hub can be reached.")
    api, prefix = HfApi(library_name="recbole_genci"), f"{name.subfolder}/" * bool(name.subfolder)
    with explained(where, name):
        api.whoami()
        there = _look(api, name, public, where)
        if there.head is None:
            api.create_repo(name.repository, private=not public, exist_ok=True)
        whole = _with_lists(contents, name, there.licence)
        changes: list = [CommitOperationAdd(prefix + each, file) for each, file in whole.items()]
        changes += [
            CommitOperationDelete(prefix + each) for each in sorted(there.files - whole.keys())
        ]
        info = api.create_commit(
            name.repository,
            changes,
            commit_message=contents.title,
            parent_commit=there.head,
        )
    return Pushed(info.oid, there.is_private)


def _with_lists(contents: Contents, name: HubName, licence: str | None) -> dict[str, Path | bytes]:
    """All files to upload: the contents, their digests and the card."""
    digests = {
        each: hashlib.sha256(file).hexdigest() if isinstance(file, bytes) else sha256_of(file)
        for each, file in contents.files.items()
    }
    manifest = json.dumps(manifest_of(digests), indent=2).encode() + b"\n"
    card = card_of(contents, name, licence).encode()
    return {**contents.files, HUB_FILE: manifest, CARD: card}


def _look(api: HfApi, name: HubName, public: bool, where: str) -> _There:
    """What the repository holds already.

    Raises:
        HubError: it is public, which nobody asked for; or it holds what ``push`` did not upload.
    """
    from huggingface_hub import errors

    try:
        info = api.model_info(name.repository)
    except errors.GatedRepoError:
        raise
    except errors.RepositoryNotFoundError:
        return _There(None, not public)
    if not info.private and not public:
        raise HubError(
            f"{where}: everybody may read this repository. Add --public=True if you want that, or "
            "name another one."
        )
    prefix = f"{name.subfolder}/" * bool(name.subfolder)
    names = {each.rfilename for each in info.siblings or ()}
    inside = {each.removeprefix(prefix) for each in names if each.startswith(prefix)}
    foreign = sorted(inside - {CARD, ".gitattributes"})
    if foreign and HUB_FILE not in inside:
        raise HubError(
            f"{where}: it holds {foreign[0]}, which no push has put there. Name another "
            "repository or a subfolder, hf:user/name/subfolder."
        )

    def get(file: str) -> Path:
        return Path(api.hf_hub_download(name.repository, prefix + file, revision=info.sha))

    licence = licence_of(get(CARD).read_text(encoding="utf-8")) if CARD in inside else None
    earlier = _listed(get(HUB_FILE), where) & inside if HUB_FILE in inside else frozenset()
    return _There(info.sha, bool(info.private), earlier, licence)


def _listed(manifest: Path, where: str) -> frozenset[str]:
    """The files of an earlier push."""
    try:
        return frozenset(read_manifest(manifest, where))
    except ValueError as error:
        raise HubError(
            f"{where}: its {HUB_FILE} is damaged, so that nobody knows what an earlier push has "
            "put there. Delete that folder on the repository's page, or name another one."
        ) from error
