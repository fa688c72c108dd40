"""Where a result came from: the revision of the code, the libraries and the machine."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

#: Files that a run's figures depend on. Records and documents do not count: experiments write them.
_SOURCES = ("recbole_genci", "properties", ":(glob)*.py", ":(glob)benchmarks/*.py")


def git_revision() -> str | None:
    """Git revision of the checkout that this package runs from; None if it runs from none.

    It ends in ``+changes`` if code or properties differ from the commit.
    """
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None

    # Without optional locks, so that a commit made meanwhile does not meet a lock.
    command = ["git", "--no-optional-locks", "-C", str(folder), "status", "--porcelain=v2"]
    command += ["--branch", "--", *_SOURCES]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None  # git is not installed
    head, *lines = text.splitlines()
    revision = head.removeprefix("# branch.oid ")
    if revision == "(initial)":
        return None  # the checkout has no commit
    return revision + ("" if all(line.startswith("# ") for line in lines) else "+changes")


def provenance() -> dict:
    """Library versions, machine and revision, which are saved beside every result."""
    names = (
        "recbole_genci",
        "recbole",
        "torch",
        "numpy",
        "pandas",
        "scikit-learn",
        "transformers",
        "sentence-transformers",
    )
    versions = {"python": platform.python_version()}
    for name in names:
        # A checkout or an extra may not be installed.
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "versions": versions,
        "machine": {
            "processor": platform.machine(),
            "cpu_count": os.cpu_count() or 1,
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "git_revision": git_revision(),
    }
