"""The Parquet or CSV files of a dataset on the Hugging Face hub, ``hf:user/name[@revision]``."""

from __future__ import annotations

from pathlib import Path

from recbole_genci.data.prepare.table_files import chosen_files, none_chosen
from recbole_genci.utils.hub.name import HubName
from recbole_genci.utils.hub.refusals import explained

_TIMEOUT = 30.0  # seconds


def hub_files(text: str, key: str, pattern: str | None) -> tuple[dict[str, str], list[Path]]:
    """Download a dataset's files into the hub's cache, or find them there.

    ``HF_ENDPOINT``, ``HF_TOKEN`` and a stored login count, as for the hub's client. All files are
    of one commit.

    Args:
        text: ``hf:user/name``, ``hf:user/name@revision`` or ``hf:user/name@revision/subfolder``.
        key: the argument that it was given for, for errors.
        pattern: which files, by their names in the repository; by default as `chosen_files`
            chooses.

    Returns:
        (dict, list): where they came from, for a provenance; and the files in the order of names.

    Raises:
        ValueError: ``text`` is not of the form.
        HubError: the hub does not give them; says why.
        FileNotFoundError: the repository has no such files.
    """
    from huggingface_hub import HfApi

    name = HubName.read(text, key)
    if name.revision == "refs":  # the hub's own branches have slashes, such as refs/convert/parquet
        name = HubName(name.repository, f"refs/{name.subfolder}")
    where, api = f"{key}: {name}", HfApi(library_name="recbole_genci")
    with explained(where, name):
        info = api.dataset_info(name.repository, revision=name.revision, timeout=_TIMEOUT)
    below = f"{name.subfolder}/" if name.subfolder else ""
    names = sorted(each.rfilename for each in info.siblings or ())
    names = [each for each in names if each.startswith(below)]
    chosen = chosen_files(names, pattern)
    if not chosen:
        raise FileNotFoundError(
            f"{none_chosen(where, names, pattern)} The hub makes Parquet files of many datasets: "
            f"hf:{name.repository}@refs/convert/parquet."
        )
    origin = {"source": str(name), "commit": str(info.sha)}
    with explained(where, name):
        return origin, [
            Path(api.hf_hub_download(name.repository, file, repo_type="dataset", revision=info.sha))
            for file in chosen
        ]
