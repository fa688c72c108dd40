"""The hosts, sizes and hashes of each dataset, from ``properties/downloads.yaml``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from recbole_genci.config import RECBOLE_FOLDER, properties_folder

#: Limit of an archive whose size is not known beforehand; RecBole's largest has about 5 GB.
MAX_ARCHIVE_BYTES = 10 * 10**9


@dataclass(frozen=True)
class Source:
    """One host's copy of a dataset.

    Attributes:
        name: the host's name, for messages.
        url: address of the archive.
        is_atomic: whether it holds RecBole's atomic files; else it holds MovieLens' own files.
    """

    name: str
    url: str
    is_atomic: bool = False


@dataclass(frozen=True)
class Download:
    """A dataset that can be downloaded.

    Attributes:
        dataset: its name.
        archive: file name of MovieLens' zip; empty if only RecBole has the dataset.
        folder: the folder inside that zip.
        size: size of that zip in bytes; None if it is not known beforehand.
        max_bytes: limit of an archive whose size is unknown, or not that of the zip.
        hashes: hexadecimal hashes of that zip by algorithm.
        counts: number of rows, users and items in the atomic files.
        sources: the copies, in the order in which they are tried.
    """

    dataset: str
    sources: tuple[Source, ...]
    archive: str = ""
    folder: str = ""
    size: int | None = None
    max_bytes: int = MAX_ARCHIVE_BYTES
    hashes: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


def recbole_urls() -> dict[str, str]:
    """RecBole's dataset names and the addresses of its store."""
    file = RECBOLE_FOLDER / "properties/dataset/url.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def downloads_file() -> Path:
    """The list of hosts, sizes and hashes."""
    return properties_folder() / "downloads.yaml"


def known_downloads() -> dict[str, Download]:
    """Everything that can be downloaded, by the dataset's name."""
    table, urls = yaml.safe_load(downloads_file().read_text(encoding="utf-8")), recbole_urls()
    store = Source(table["hosts"]["store"]["name"], "", True)
    known = {name: Download(name, (Source(store.name, url, True),)) for name, url in urls.items()}
    for name, entry in table["datasets"].items():
        known[name] = Download(
            dataset=name,
            sources=tuple(
                _source(table["hosts"][host], entry, urls.get(name)) for host in entry["hosts"]
            ),
            archive=entry["archive"],
            folder=entry["folder"],
            size=entry.get("bytes"),
            max_bytes=entry.get("max_bytes", MAX_ARCHIVE_BYTES),
            hashes=entry.get("hashes", {}),
            counts=entry.get("counts", {}),
        )
    return known


def _source(host: dict, entry: dict, recbole_url: str | None) -> Source:
    url = host.get("url", recbole_url)
    assert url is not None  # the store is the host of what RecBole lists alone
    # The variable names another hub, such as a mirror, as for huggingface_hub.
    hub = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    url = url.replace("$HF_ENDPOINT", hub).replace("{archive}", entry["archive"])
    return Source(host["name"], url, host["form"] == "atomic")
