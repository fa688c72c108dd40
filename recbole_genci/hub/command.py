"""``python -m recbole_genci.hub``: push a run or semantic IDs to the Hugging Face hub, or pull."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_genci.utils.answers import Work, answering
from recbole_genci.utils.value_checks import nearest

USAGE = """\
usage: python -m recbole_genci.hub push FOLDER hf:user/name[/subfolder] [--key=value ...]
       python -m recbole_genci.hub pull hf:user/name[@revision][/subfolder] FOLDER [--key=value ...]

Uploads the folder of a finished run, or of semantic IDs, to the Hugging Face hub, or downloads it.
Commands that read such a folder take hf:user/name too (--run, --semantic_id_path, --append_to).
Every file is compared with its SHA-256, and none is unpickled.

push lists what it uploads. It leaves out what is the dataset's own: rows and texts of items. The
repository is private, and made if it does not exist. Log in first: hf auth login, or HF_TOKEN.
  --public        True: everybody may read it
  --with_data     True: upload rows and texts too, if the dataset's licence allows passing them on
  --dry_run       True: only list what would be uploaded

pull makes rows and texts of a run that was pushed without them again, from the dataset's files.
  --data_path     the folder that holds that of the dataset (default dataset); ml-100k and other
                  known datasets are downloaded into it
  --model, --trust_code
                  for a model of your own: its module:Class, or True to import what the run names

HF_ENDPOINT names another hub, HF_HUB_CACHE the cache, and HF_HUB_OFFLINE=1 reads only the cache.
"""
_OPTIONS = {
    "push": ("public", "with_data", "dry_run"),
    "pull": ("data_path", "model", "trust_code"),
}
_FORMS = {
    "push": "push saved/GenCI-ml-100k-<time> hf:user/name",
    "pull": "pull hf:user/name a-new-folder",
}


@answering
def main(argv: Sequence[str]) -> Work:
    """Check a request and return the work.

    A wrong request is one sentence on stderr and exit status 2.
    """
    if {"--help", "-h"} & set(argv) or not argv:
        print(USAGE, end="")
        return lambda: 0
    verb, *words = argv
    if verb not in _FORMS:
        raise ValueError(
            f"command line: '{verb}' is neither push nor pull.{nearest(verb, _FORMS)} --help shows "
            "both."
        )
    places, options = words[:2], words[2:]
    if len(places) < 2 or any(place.startswith("-") for place in places):
        raise ValueError(f"command line: {verb} needs two places, for example {_FORMS[verb]}.")
    return _push(places, options) if verb == "push" else _pull(places, options)


def _values(verb: str, words: Sequence[str]) -> dict:
    from recbole_genci.serving.run_command import options_of

    return options_of(words, USAGE, {}, _OPTIONS[verb], ("data_path",)) or {}


def _push(places: Sequence[str], words: Sequence[str]) -> Work:
    values = _values("push", words)
    for key, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"{key}: {value!r} is neither True nor False.")
    from recbole_genci.hub.push import check_push, listing, upload
    from recbole_genci.utils.hub.name import HubName
    from recbole_genci.utils.logs import start_console

    start_console(None)
    folder, name = places
    target, contents = check_push(folder, name, values.get("with_data", False))
    print(listing(contents, target), flush=True)
    if values.get("dry_run", False):
        print("Nothing was uploaded (--dry_run).")
        return lambda: 0
    public = values.get("public", False)

    def work() -> int:
        pushed = upload(contents, target, public)
        who = "private" if pushed.is_private else "everybody may read it"
        exactly = HubName(target.repository, pushed.commit, target.subfolder)
        print(f"Uploaded ({who}). {target} names the latest push, {exactly} this one.")
        return 0

    return work


def _pull(places: Sequence[str], words: Sequence[str]) -> Work:
    values = _values("pull", words)
    from recbole_genci.hub.pull import check_target, pull
    from recbole_genci.utils.hub.name import HubName
    from recbole_genci.utils.logs import start_console

    start_console(None)
    name, folder = places
    HubName.read(name, "pull")
    check_target(Path(folder))

    def work() -> int:
        commit = pull(name, folder, **values)
        print(f"{folder} holds {name}, commit {commit}.")
        return 0

    return work
