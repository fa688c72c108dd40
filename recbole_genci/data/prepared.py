"""Prepared rows: read, filtered, split and with histories, kept for every run that asks for them.

The rows of a large dataset take minutes to build and the same memory in every process. They are
therefore written once (``prepared_rows_dir``), under the digest of all that shapes them: the files,
the keys and the code. Whoever needs them again maps the file into memory, so that processes share
it. Nothing is believed that does not fit its digest.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from recbole_genci.config import Config
from recbole_genci.config.keys import key_table, keys_with
from recbole_genci.data.dataset import CTRDataset, create_dataset
from recbole_genci.data.storage import load_prepared, save_prepared
from recbole_genci.utils.logs import Message, recorded, say_again
from recbole_genci.utils.sha256 import sha256_of
from recbole_genci.utils.writing import remove_leftovers, write_atomically, write_text

_logger = logging.getLogger(__name__)

#: Smaller files are read so quickly that keeping their rows is not worth the space: a run spends
#: less than two seconds on them.
SMALLEST_FILE = 2**25  # bytes

#: Keys that change neither rows nor histories. Every other key is a part of the digest, a key
#: without a role too. `data_path` is not: the files that it leads to are. `state` is: it decides
#: which messages of the building are kept.
SHAPES_NO_ROWS = keys_with("tokenizer", "training", "place") - {"state"}


def prepare_parts(config: Config) -> list[CTRDataset]:
    """The training, validation and test part that ``config`` describes; kept ones if there are any.

    Raises:
        FileNotFoundError, ValueError: as for ``CTRDataset``.
    """
    file = _file_of(config)
    if file is None:
        return create_dataset(config).build()
    key = row_key(config)
    parts = _kept(file, key, config)
    if parts is None:
        with _alone(file):
            # Another process may have prepared them while this one was waiting.
            parts = _kept(file, key, config, is_repeated=True)
            if parts is None:
                with recorded() as messages:
                    parts = create_dataset(config).build()
                # Not if a file was changed while it was read.
                if row_key(config) == key and _keep(parts, file, key, messages):
                    with contextlib.suppress(FileNotFoundError):  # it may be deleted at any time
                        parts, _ = load_prepared(file, config)  # mapped, so that the built ones go
    return parts


def row_key(config: Config) -> dict[str, Any]:
    """Everything that shapes the rows: files by content, keys, and the code that builds them."""
    keys = {name: config[name] for name in shaping_keys(config)}
    return {
        "dataset": config["dataset"],
        "keys": json.loads(json.dumps(keys, sort_keys=True, default=str)),
        "files": {file.name: _digest(file) for file in _files(config)},
        "code": _code(),
    }


def shaping_keys(config: Config) -> list[str]:
    """The keys that may shape rows and histories, by name; not where their files are."""
    return sorted({*key_table((), config["dataset"]), *_aliases(config)} - SHAPES_NO_ROWS)


def _aliases(config: Config) -> list[str]:
    return [name for name in config.final_config_dict if name.startswith("alias_of_")]


def _files(config: Config) -> list[Path]:
    """The dataset's files of rows and features that exist."""
    folder, name = Path(config["data_path"]), config["dataset"]
    parts = config["benchmark_filename"]
    endings = [f"{part}.inter" for part in parts] if parts else ["inter"]
    files = [folder / f"{name}.{ending}" for ending in (*endings, "user", "item")]
    return [file for file in files if file.is_file()]


def _digest(file: Path) -> str:
    facts = file.stat()
    return _digest_of(file, facts.st_size, facts.st_mtime_ns, facts.st_ino)


@functools.lru_cache(maxsize=64)  # of trials and experiments in one process
def _digest_of(file: Path, *facts: int) -> str:
    return sha256_of(file)


@functools.lru_cache(maxsize=1)
def _code() -> str:
    digest = hashlib.sha256()
    for name in ("recbole", "numpy", "pandas", "torch"):
        digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    here = Path(__file__).parent
    others = [here.parent / name for name in ("compat.py", "config/fitted.py", "utils/ragged.py")]
    readers = (here.parent / "utils/atomic_files").glob("*.py")
    for file in sorted([*here.glob("*.py"), *readers, *others]):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _file_of(config: Config) -> Path | None:
    """Where the rows are kept; None if they are not."""
    if not config["prepared_rows_dir"]:
        return None
    files = _files(config)
    if sum(file.stat().st_size for file in files) < SMALLEST_FILE:
        return None
    digest = hashlib.sha256(json.dumps(row_key(config), sort_keys=True).encode()).hexdigest()
    return Path(config["prepared_rows_dir"]) / f"{config['dataset']}-{digest[:16]}.safetensors"


def _digest_file(file: Path) -> Path:
    return file.with_suffix(".sha256")


def _kept(
    file: Path, key: dict[str, Any], config: Config, is_repeated: bool = False
) -> list[CTRDataset] | None:
    """The rows in ``file``; None if it is missing or damaged."""
    if not file.is_file():
        return None
    try:
        written = _digest_file(file).read_text(encoding="utf-8").split()
        if written != [sha256_of(file), file.name]:
            raise ValueError("it does not fit its digest")
        parts, facts = load_prepared(file, config)
        if facts["key"] != key:
            raise ValueError("it holds the rows of other files or keys")
    except (OSError, ValueError, KeyError) as error:
        if not is_repeated:
            _logger.warning(
                f"prepared_rows_dir: {file} is damaged or incomplete ({error}). The rows are read "
                "from the dataset's files and stored again."
            )
        return None
    _logger.info(
        f"Prepared rows of {config['dataset']}: {file} ({file.stat().st_size / 2**20:.0f} MiB)"
    )
    say_again(facts["messages"])
    return parts


def _keep(
    parts: list[CTRDataset], file: Path, key: dict[str, Any], messages: list[Message]
) -> bool:
    """Write the rows, and then their digest, without which nobody reads them; say if it worked."""
    facts = {"key": key, "messages": messages}
    remove_leftovers(file.parent, (file.name, _digest_file(file).name))
    try:
        _digest_file(file).unlink(missing_ok=True)
        write_atomically(file, lambda path: save_prepared(parts, path, facts))
        write_text(_digest_file(file), f"{sha256_of(file)}  {file.name}\n")
    except (OSError, SafetensorError) as error:
        _logger.warning(
            f"prepared_rows_dir: the prepared rows could not be stored in {file.parent} ({error}). "
            "This run goes on; the next one reads the dataset's files again."
        )
        return False
    _logger.info(
        f"The prepared rows are kept for other runs: {file} ({file.stat().st_size / 2**20:.0f} "
        "MiB). It may be deleted at any time; --prepared_rows_dir=None keeps none."
    )
    return True


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Let one process at a time prepare the rows of ``file``; the others wait for it."""
    lock = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _logger.info(f"Another process prepares these rows, {file.name}; this one waits.")
            lock.acquire()
    except OSError as error:  # a folder that cannot be written; _keep says so
        _logger.debug(f"{file.parent}: {error}")
    try:
        yield
    finally:
        if lock is not None:
            lock.release()
