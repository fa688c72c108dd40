"""Where a result came from: the revision of the code, the libraries and the machine."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

#: What a run's figures come from; records and documents of the checkout may change while
#: experiments write them.
_SOURCES = ("recbole_genci", "properties", ":(glob)*.py", ":(glob)benchmarks/*.py")


def git_revision() -> str | None:
    """Revision of the checkout this package runs from, ``+changes`` if its code or properties have
    any; None if it is none.
    """
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = [
            "git",
            "--no-optional-locks",
            "-C",
            str(folder),
            *words,
        ]  # a commit made meanwhile must not meet a lock
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+changes" if git("status", "--porcelain", "--", *_SOURCES) else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # no git here, or a checkout without a commit: there is no revision to tell


def provenance() -> dict:
    """Library versions, machine and revision, to be written beside every number."""
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
        with contextlib.suppress(
            metadata.PackageNotFoundError
        ):  # a checkout that is not installed, an extra that is not there
            versions[name] = metadata.version(name)
    return {
        "versions": versions,
        "machine": {
            "processor": platform.machine(),
            "cpu_count": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "git_revision": git_revision(),
    }
