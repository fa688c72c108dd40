"""The table of configuration keys: kind, range, default and meaning, from the properties files.

A new key needs only one line there, ``key: default  # (kind) meaning``. Checks, ``--help`` and the
documents read that line. The YAML file beside a model of your own works in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import recbole
import yaml

from recbole_genci.config.kind import NO_EFFECT, Kind, parse_kind
from recbole_genci.config.yaml_files import Loader, read_yaml
from recbole_genci.model.registry import Entry, entry_of

RECBOLE_FOLDER = Path(recbole.__file__).parent
SUPPLEMENT = "recbole.yaml"  # kinds and meanings that RecBole's own files leave out

#: Keys that RecBole or a loader reads although no properties file lists them.
_UNLISTED_KEYS = {
    "model",
    "dataset",
    "config_files",
    "config_file",
    "device",
    "local_rank",
    "transform",
}

# The brackets of a kind may hold an interval, [0, 1), and a mapping, {rating: 4}.
_LINE = re.compile(
    r"^(?P<key>\w+):[^#]*"
    r"(?:#\s*(?:\((?P<kind>(?:in [\[(][^\])]*[\])]|[^()])*)\)\s*)?(?P<meaning>.*))?$"
)


@dataclass(frozen=True)
class Key:
    """A configuration key.

    Attributes:
        name: the key.
        default: its value if nobody sets it.
        kind: the values it accepts; None if no file says.
        meaning: one or two sentences.
        section: the heading above it.
    """

    name: str
    default: object
    kind: Kind | None
    meaning: str
    section: str

    def check(self, value) -> None:
        """Refuse a value of another kind.

        Raises:
            ValueError: names the key, the value and what is expected.
        """
        if self.kind is None or value is None and self.default is None or self.kind.accepts(value):
            return
        raise ValueError(self.kind.refusal(self.name, value))


def properties_folder() -> Path:
    """The plugin's ``properties/``: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parent.parent
    for folder in (here / "properties", here.parent / "properties"):
        if (folder / "overall.yaml").is_file():
            return folder
    raise FileNotFoundError(
        f"recbole_genci's properties/ folder was found neither in {here} nor in {here.parent}. "
        "The installation is incomplete: reinstall the package."
    )


def read_keys(files: Iterable[Path]) -> dict[str, Key]:
    """The keys of those properties files that exist; a later file adds to an earlier one.

    A later line with a kind replaces kind and meaning. A later line without a kind keeps the kind,
    and its comment is appended to the meaning.

    Raises:
        ValueError: a bracket begins like a kind but is none; names file and line.
    """
    table: dict[str, Key] = {}
    for file in files:
        for key in _keys_of(file):
            table[key.name] = _joined(table[key.name], key) if key.name in table else key
    return table


def model_files(entry: Entry) -> list[Path]:
    """Files that may hold a model's defaults, this plugin's before a person's own; later ones win.

    Raises:
        ValueError: a person's own file holds no keys.
    """
    for file in entry.own_files:
        if file.is_file():
            read_yaml(file, f"model: the defaults of {entry.name}")
    return [properties_folder() / f"model/{entry.base}.yaml", *entry.own_files]


def key_table(models: Sequence = (), dataset: str | None = None) -> dict[str, Key]:
    """Every key that a run of ``models`` on ``dataset`` may set, whichever of the models reads it.

    Args:
        models: as for ``entry_of``.
        dataset: name of the dataset; None leaves out the defaults of datasets.

    Raises:
        ValueError: a model is unknown, or a line in a person's own file is wrong.
    """
    theirs, ours = RECBOLE_FOLDER / "properties", properties_folder()
    entries = [entry_of(model) for model in models]
    datasets = [f"dataset/{dataset}"] if dataset else []
    host = ["overall", "dataset/sample", *datasets, *(f"model/{entry.base}" for entry in entries)]
    own = [ours / f"{name}.yaml" for name in ("overall", *datasets)]
    own += [file for entry in entries for file in model_files(entry)]
    table = _supplemented(read_keys(theirs / f"{name}.yaml" for name in host), ours / SUPPLEMENT)
    for key in read_keys(own).values():
        table[key.name] = _joined(table[key.name], key) if key.name in table else key
    return table


def known_keys(models: Sequence, dataset: str) -> set[str]:
    """The names of ``key_table`` and of the keys that only the command line knows."""
    return set(key_table(models, dataset)) | _UNLISTED_KEYS


def _supplemented(table: dict[str, Key], file: Path) -> dict[str, Key]:
    """Add the kinds and meanings of our supplement to RecBole's keys.

    A key of RecBole's models is added only if the table already has it.
    """
    of_models = "Keys of RecBole's models"
    for key in read_keys([file]).values():
        if key.name in table:
            before = table[key.name]
            section = key.section if key.kind and key.kind.base == NO_EFFECT else before.section
            meaning = key.meaning or before.meaning
            table[key.name] = replace(
                before, kind=key.kind or before.kind, meaning=meaning, section=section
            )
        elif key.section != of_models:
            table[key.name] = key
    return table


def _joined(before: Key, key: Key) -> Key:
    meanings = [key.meaning] if key.kind and key.meaning else [before.meaning, key.meaning]
    return replace(
        before,
        default=key.default,
        kind=key.kind or before.kind,
        meaning=" ".join(filter(None, meanings)),
    )


def _keys_of(file: Path) -> Iterable[Key]:
    if not file.is_file():
        return
    text, section = file.read_text(encoding="utf-8"), ""
    values = yaml.load(text, Loader=Loader) or {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("# "):
            section = re.split(r"[.,:(]", line[2:])[0].strip()
        match = _LINE.match(line)
        if match and match["key"] in values:
            meaning = (match["meaning"] or "").strip()
            kind = _kind_of(match["kind"], file, number)
            if match["kind"] and kind is None and not _is_recboles(file):
                meaning = f"({match['kind']}) {meaning}"  # the bracket is part of the sentence
            yield Key(match["key"], values[match["key"]], kind, meaning, section)


def _kind_of(words: str | None, file: Path, number: int) -> Kind | None:
    try:
        return parse_kind(words) if words else None
    except ValueError as error:
        if _is_recboles(file):  # such as `(list or int or None)`; the supplement gives the kind
            return None
        raise ValueError(f"{file}, line {number}: {error}") from error


def _is_recboles(file: Path) -> bool:
    return RECBOLE_FOLDER in file.parents
