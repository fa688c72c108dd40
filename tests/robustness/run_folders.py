"""Damaged folders of finished runs, of stopped runs and of semantic IDs; kills; a full disk.

Each folder is made once and copied for each case. What is read from the copy must be equal to what
the undamaged one gives, to the last bit, or be refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from conftest import SMALL_GENCI, tiny_rows, write_dataset

from recbole_genci import load
from recbole_genci.cli import main
from recbole_genci.quick_start import resume, run
from recbole_genci.report import main as report
from recbole_genci.tokenizer.artifact.files import manifest_content
from recbole_genci.tokenizer.artifact.frozen import quantizer_from_weights, read_frozen
from recbole_genci.training import trainer
from robustness.harness import Case, Refused, command

SAME = ("test", "best_valid", "best_epoch", "epochs", "data_fingerprint", "semantic_ids", "seed")
Damage = Callable[[Path, np.random.Generator, Path], str]


@dataclass(frozen=True)
class Folders:
    """The undamaged folders and what they give.

    Attributes:
        finished: of a finished run; ``other`` is one of another seed.
        stopped: of a stopped run; ``other_stopped`` is one of another seed.
        artifact: of semantic IDs, with tokenizer and texts.
        scores: test scores of the finished run.
        metrics: ``metrics.json`` of the stopped run, had it not been stopped.
        codes: digest of everything in the artifact.
    """

    finished: Path
    other: Path
    stopped: Path
    other_stopped: Path
    artifact: Path
    scores: torch.Tensor
    metrics: dict
    codes: str


def cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    """Yield damages of all kinds of folders in turn; of twelve cases, one is a kill and one a full
    disk.
    """
    folders = _made(folder)
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        kind = number % 12
        what = f"seed {seed}, case {number}: "
        if kind == 0:
            after = float(rng.uniform(0.0, 1.2))
            yield Case(f"{what}killed after {after:.3f} s", partial(_kill, folders, after))
        elif kind == 1:
            size = int(rng.integers(16 << 10, 192 << 10))
            check = partial(_full_disk, folders, size)
            yield Case(f"{what}no file above {size} bytes", check, ("could not be written",))
        else:
            yield _damage_case(what, folders, kind, [seed, number])


def _damage_case(what: str, folders: Folders, kind: int, draw: list[int]) -> Case:
    rng = np.random.default_rng(draw)
    source, other, check = (
        (folders.finished, folders.other, _loads),
        (folders.stopped, folders.other_stopped, _resumes),
        (folders.artifact, folders.other / "semantic_ids", _reads),
        (folders.finished, folders.other, _reports),
    )[(0, 1, 0, 1, 2)[kind % 5] if kind != 11 else 3]
    files = [
        file.relative_to(source)
        for file in sorted(source.rglob("*"))
        if file.is_file() and file.name != ".lock"
    ]
    file = files[int(rng.integers(len(files)))]
    damage = DAMAGES[int(rng.integers(len(DAMAGES)))]

    def run_case() -> str | None:
        copy = Path(source.name)
        shutil.copytree(source, copy)
        damage(copy / file, np.random.default_rng([*draw, 1]), other / file)
        return check(folders, copy)

    words = f"{what}{damage.__name__.strip('_')} of {source.name}/{file}, {check.__name__}"
    # The configuration may become another valid one, whose keys are then named.
    names = () if file.name == "config.yaml" else (file.name, file.parent.name or source.name)
    return Case(words, run_case, names)


# ---------------------------------------------------------------- damages


def _flip(file: Path, rng: np.random.Generator, other: Path) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(int(rng.integers(1, 4))):
        if content:
            content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)


def _flip_in_head(file: Path, rng: np.random.Generator, other: Path) -> None:
    content = bytearray(file.read_bytes())
    if content:
        content[int(rng.integers(min(len(content), 400)))] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)


def _truncate(file: Path, rng: np.random.Generator, other: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(rng.integers(len(content) + 1))])


def _delete(file: Path, rng: np.random.Generator, other: Path) -> None:
    file.unlink()


def _swap(file: Path, rng: np.random.Generator, other: Path) -> None:
    if other.is_file():
        shutil.copy(other, file)


def _zero(file: Path, rng: np.random.Generator, other: Path) -> None:
    content = bytearray(file.read_bytes())
    start = int(rng.integers(len(content) + 1))
    end = min(len(content), start + int(rng.integers(1, 4096)))
    content[start:end] = bytes(end - start)
    file.write_bytes(content)


def _append(file: Path, rng: np.random.Generator, other: Path) -> None:
    with file.open("ab") as stream:
        stream.write(rng.bytes(int(rng.integers(1, 100))))


def _replace_by_word(file: Path, rng: np.random.Generator, other: Path) -> None:
    words = ["", "null", "5", "[]", "{}", "[" * 50000, '{"a":' * 9000, "- a\n- b\n", "\0", "nan"]
    file.write_text(words[int(rng.integers(len(words)))])


def _forge_header(file: Path, rng: np.random.Generator, other: Path) -> None:
    """A header that claims terabytes, and a manifest that says it is right."""
    content = file.read_bytes()
    if file.suffix == ".npy":
        header = "{'descr': '<i8', 'fortran_order': False, 'shape': (100000000000, 4), }"
        header = header.ljust(117) + "\n"
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    elif file.suffix == ".safetensors":
        forged = [
            struct.pack("<Q", 1 << 62) + content[8:],
            _safetensors({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
            _safetensors({"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}) + b"1234",
        ]
        content = forged[int(rng.integers(len(forged)))]
    file.write_bytes(content)
    manifest = file.parent / "manifest.json"
    if manifest.is_file() and file != manifest:
        entries = json.loads(manifest.read_text())
        entries["files"][file.name] = hashlib.sha256(content).hexdigest()
        manifest.write_bytes(manifest_content(entries))


def _safetensors(header: dict) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


DAMAGES: list[Damage] = [
    _flip,
    _flip,
    _flip,
    _flip_in_head,
    _truncate,
    _delete,
    _swap,
    _zero,
    _append,
    _replace_by_word,
    _forge_header,
]


# ---------------------------------------------------------------- what is read


def _loads(folders: Folders, copy: Path) -> str | None:
    loaded = load(copy)
    scores, _ = loaded.predict("test")
    if not torch.equal(scores, folders.scores):
        return "other scores"
    expected = json.loads((folders.finished / "metrics.json").read_text())
    return None if loaded.metrics == expected else "other metrics"


def _resumes(folders: Folders, copy: Path) -> str | None:
    result = resume(copy)
    different = [name for name in SAME if result[name] != folders.metrics[name]]
    if different:
        return f"other {different}"
    if not torch.equal(load(copy).predict("test")[0], folders.scores):
        return "other scores"
    return None


def _reads(folders: Folders, copy: Path) -> str | None:
    return None if _content(copy) == folders.codes else "other IDs, texts, weights or settings"


def _reports(folders: Folders, copy: Path) -> str | None:
    command(report, [str(copy)])
    figures = json.loads((copy / "metrics.json").read_text())
    expected = json.loads((folders.finished / "metrics.json").read_text())
    return None if figures == expected else "a table of other figures"


def _content(folder: Path) -> str:
    artifact = read_frozen(folder)
    quantizer_from_weights(artifact.weights, folder)
    digest = hashlib.sha256(artifact.ids.digest.encode())
    digest.update(json.dumps(artifact.ids.manifest, sort_keys=True).encode())
    digest.update("\n".join(artifact.texts).encode())
    for name in sorted(artifact.weights):
        digest.update(name.encode() + artifact.weights[name].numpy().tobytes())
    return digest.hexdigest()


# ---------------------------------------------------------------- kills and a full disk


def _kill(folders: Folders, after: float) -> str | None:
    copy = Path("stopped")
    shutil.copytree(folders.stopped, copy)
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            resume(copy)
        os._exit(0)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if (copy / "metrics.json").is_file():
        same = torch.equal(load(copy).predict("test")[0], folders.scores)
        return None if same else "other scores"
    return _resumes(folders, copy)


def _full_disk(folders: Folders, size: int) -> str | None:
    copy = Path("stopped")
    shutil.copytree(folders.stopped, copy)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    refused = None
    try:
        command(main, [f"--resume={copy}"])
    except Refused as error:
        refused = error
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    # What it has left goes on where there is room.
    wrong = None if (copy / "metrics.json").is_file() else _resumes(folders, copy)
    if wrong:
        return wrong
    if refused and "--resume=" not in str(refused):
        return f"does not say how to go on: {refused}"
    if refused:
        raise refused
    return None


# ---------------------------------------------------------------- the undamaged folders


def _made(folder: Path) -> Folders:
    before = Path.cwd()
    os.chdir(folder)
    try:
        keys = write_dataset(folder / "data", tiny_rows(rows_per_user=30)) | SMALL_GENCI
        keys |= {"epochs": 3, "stopping_step": 9, "dropout_prob": 0.2, "checkpoint_dir": "saved"}
        whole = run("GenCI", "tiny", config_dict=keys)[0]
        other = run("GenCI", "tiny", config_dict=keys | {"seed": 7})[0]
        stopped = _stopped_after(1, keys, "stopped")
        other_stopped = _stopped_after(1, keys | {"seed": 7}, "other-stopped")
        artifact = next(path for path in (folder / "data/semantic_ids").glob("tiny-*"))
        shutil.rmtree(artifact / "report", ignore_errors=True)
        return Folders(
            whole.folder.rename(folder / "finished"),
            other.folder.rename(folder / "other"),
            stopped.rename(folder / "stopped"),
            other_stopped.rename(folder / "other-stopped"),
            Path(shutil.copytree(artifact, folder / "artifact")),
            load(folder / "finished").predict("test")[0],
            whole.metrics,
            _content(artifact),
        )
    finally:
        os.chdir(before)


class _Stop(Exception):
    """Ends a run after an epoch, as a kill would."""


def _stopped_after(epoch: int, keys: dict, name: str) -> Path:
    original = trainer.save_training_state

    def save(folder: Path, this: object, number: int, *rest: object) -> None:
        original(folder, this, number, *rest)
        if number == epoch:
            raise _Stop

    trainer.save_training_state = save
    try:
        run("GenCI", "tiny", config_dict=keys | {"checkpoint_dir": f"half-{name}"})
    except _Stop:
        return next(Path(f"half-{name}").resolve().glob("*"))
    finally:
        trainer.save_training_state = original
    raise AssertionError("the run was not stopped")
