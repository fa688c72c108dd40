"""Whether the files of a run's folder are still those that the run wrote.

``metrics.json`` of a finished run says what they were: it holds the configuration and the digests
of rows and weights, and seals itself. Semantic IDs have a manifest of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_genci.config.keys import keys_with
from recbole_genci.utils.digests import check_file, plain, read_sealed
from recbole_genci.utils.layout import DATA_FILE, WEIGHTS_FILE
from recbole_genci.utils.mappings import parse_yaml

#: Keys that decide only where things lie and run, or what is shown. They may be edited later.
PLACE_KEYS = keys_with("place")
_SHOWN = 3  # so many edited keys are named
#: What to do about a file of a finished run that is damaged or missing.
COPY_OR_ANEW = "Take it from a copy of the folder, or train the run anew."


_NEEDED = (
    "config",
    "data_fingerprint",
    "rows_fingerprint",
    "semantic_ids",
    "data_sha256",
    "weights_sha256",
    "model_revision",
)
#: Digests in ``metrics.json``, each with its file.
_DIGESTS = {"data_sha256": DATA_FILE, "weights_sha256": WEIGHTS_FILE}


def read_metrics(file: Path, remedy: str, needed: Sequence[str] = _NEEDED) -> dict:
    """The content of a ``metrics.json``, whose seal is checked.

    Args:
        file: the file.
        remedy: a sentence that tells a person what to do, for the error.
        needed: entries that it must have.

    Raises:
        ValueError: the file is damaged or was edited.
    """
    return read_sealed(file, needed, remedy)


def check_there(folder: Path, names: Iterable[str], key: str = "") -> None:
    """Check that files of a finished run are there; ``key`` begins the error.

    Raises:
        FileNotFoundError: names the first that is missing, and says what to do.
    """
    for name in names:
        if not (folder / name).exists():
            where = f"{key}: {folder}" if key else str(folder)
            raise FileNotFoundError(f"{where} has no {name}. {COPY_OR_ANEW}")


def check_files(folder: Path, metrics: Mapping, remedy: str) -> None:
    """Check rows and weights, as far as they are there, against the digests in ``metrics``.

    Raises:
        ValueError: a file is not the one that the run wrote.
    """
    for name, file in _DIGESTS.items():
        if (folder / file).is_file():
            check_file(folder / file, metrics[name], remedy)


def config_mapping(text: str) -> dict[str, Any]:
    """The keys of a ``config.yaml``, as JSON gives them back."""
    return plain(parse_yaml(text))


def check_config(file: Path, now: Mapping, trained: Mapping, key: str = "") -> None:
    """Refuse a ``config.yaml`` that was edited after its run began.

    Args:
        file: the file, for the error.
        now: what it holds.
        trained: what ``config_mapping`` gave when the run began.
        key: the option that reads the folder, for the error.

    Raises:
        ValueError: keys differ that decide what the model learns or computes; names them.
    """
    now = plain(now)
    differing = sorted(
        name
        for name in (now.keys() | trained.keys()) - PLACE_KEYS
        if (name in now) != (name in trained) or now[name] != trained[name]
    )
    if not differing:
        return
    shown = "; ".join(
        f"{name} was {_word(trained, name)} and is now {_word(now, name)}"
        for name in differing[:_SHOWN]
    )
    more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    where = f"{key}: {file}" if key else str(file)
    raise ValueError(
        f"{where} was edited or damaged after the run began: {shown}{more}. Restore it, or train "
        "a new run with these values (--config_files reads the file)."
    )


def _word(keys: Mapping, name: str) -> str:
    if name not in keys:
        return "not there"
    text = repr(keys[name])
    return text if len(text) <= 60 else f"{text[:57]}..."
