"""The table of configuration keys: kind, range, default and meaning, from the properties files.

A key has one line there, ``key: default  # (kind; role) meaning``. Checks, ``--help`` and the
documents read that line. The role says what the key decides (``recbole_genci.config.roles``). Keys
of models have none. The YAML file beside a model of your own works in the same way.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import recbole
import yaml

from recbole_genci.config.kind import Kind, check_comment, parse_kind
from recbole_genci.config.roles import check_no_role, split_role
from recbole_genci.config.yaml_files import Loader, read_yaml
from recbole_genci.model.registry import Entry, entry_of
from recbole_genci.utils.value_checks import check_file_names

RECBOLE_FOLDER = Path(recbole.__file__).parent
SUPPLEMENT = "recbole.yaml"  # kinds, roles and meanings that RecBole's own files leave out
_OVERALL = "overall.yaml"
#: The recipe (properties/recipe/) of a run that names none; properties/overall.yaml says the same.
DEFAULT_RECIPE = "regularised"

#: Keys that RecBole or a loader reads although no properties file lists them.
UNLISTED_KEYS = {
    "model",
    "dataset",
    "config_files",
    "config_file",
    "device",
    "local_rank",
    "transform",
}

# The brackets of a kind may hold an interval, [0, 1), and a mapping, {rating: 4}.
_COMMENT = re.compile(
    r"(?:\((?P<kind>(?:in [\[(][^\])]*[\])]|[^()])*)\)\s*)?(?P<meaning>.*)", re.DOTALL
)
#: Heading of the supplement's keys that count for a model only if RecBole's file of it has them.
_OF_MODELS = "Keys of RecBole's models"


@dataclass(frozen=True)
class Key:
    """A configuration key.

    Attributes:
        name: the key.
        default: its value if nobody sets it.
        kind: the values it accepts; None if no file says.
        meaning: one or two sentences.
        section: the heading above it.
        role: what it decides, one of ``ROLES``; empty for a key of a model, and for a key that
            nothing here reads.
    """

    name: str
    default: object
    kind: Kind | None
    meaning: str
    section: str
    role: str = ""

    @property
    def does_nothing(self) -> bool:
        """Whether nothing here reads the key."""
        return self.kind is not None and not self.kind.has_effect

    def check(self, value: object) -> None:
        """Refuse a value of another kind.

        Raises:
            ValueError: names the key, the value and what is expected.
        """
        if self.kind is not None and not (value is None and self.default is None):
            self.kind.check(self.name, value)


def properties_folder() -> Path:
    """The plugin's ``properties/``: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parent.parent
    for folder in (here / "properties", here.parent / "properties"):
        if (folder / _OVERALL).is_file():
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
        ValueError: a bracket begins like a kind but is none, or has a role that is none; names file
            and line.
    """
    table: dict[str, Key] = {}
    for file in files:
        for key in _keys_of(file) if file.is_file() else ():
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
        ValueError: a model is unknown, a line in a person's own file is wrong, or the dataset's
            name is too long for a file.
    """
    check_file_names("dataset", dataset and f"{dataset}.inter")
    theirs, ours = RECBOLE_FOLDER / "properties", properties_folder()
    entries = [entry_of(model) for model in models]
    datasets = [f"dataset/{dataset}"] if dataset else []
    # A dataset's defaults beat a model's, as in `Config`.
    host = ["overall", *(f"model/{entry.base}" for entry in entries), "dataset/sample", *datasets]
    table = _supplemented(read_keys(theirs / f"{name}.yaml" for name in host), ours / SUPPLEMENT)
    found = [model_files(entry) for entry in entries]
    _add(table, [ours / _OVERALL, *(file for file, *_ in found)])
    recipe = read_keys(recipe_files(DEFAULT_RECIPE, *(entry.base for entry in entries)))
    table |= {
        name: _joined(table[name], key)
        for name, key in recipe.items()
        if name in table  # dropout of some models has another name, and some have none
    }
    _add(table, [file for _, *files in found for file in files])
    _add(table, [ours / f"{name}.yaml" for name in datasets])
    return table


def recipe_files(name: str, *models: str) -> list[Path]:
    """The file of a recipe, and those of what models have otherwise in it; none need be there."""
    names = (name, *(f"{name}-{model}" for model in models))
    return [properties_folder() / f"recipe/{each}.yaml" for each in names]


def _add(table: dict[str, Key], files: Iterable[Path]) -> None:
    for key in read_keys(files).values():
        table[key.name] = _joined(table[key.name], key) if key.name in table else key


@functools.cache
def keys_with(*roles: str) -> frozenset[str]:
    """The keys of this plugin, and RecBole's, that have one of the roles; those of no model."""
    ours = properties_folder()
    table = read_keys([ours / SUPPLEMENT, ours / _OVERALL])
    return frozenset(key.name for key in table.values() if key.role in roles)


def known_keys(models: Sequence, dataset: str | None) -> set[str]:
    """The names of ``key_table`` and of the keys that only the command line knows."""
    return set(key_table(models, dataset)) | UNLISTED_KEYS


def _supplemented(table: dict[str, Key], file: Path) -> dict[str, Key]:
    """Add the kinds and meanings of our supplement to RecBole's keys.

    A key of RecBole's models is added only if the table already has it.
    """
    for key in read_keys([file]).values():
        if key.name in table:
            before = table[key.name]
            section = key.section if key.does_nothing else before.section
            meaning = key.meaning or before.meaning
            table[key.name] = replace(
                before,
                kind=key.kind or before.kind,
                meaning=meaning,
                section=section,
                role=key.role,
            )
        elif key.section != _OF_MODELS:
            table[key.name] = key
    return table


def _joined(before: Key, key: Key) -> Key:
    meanings = [key.meaning] if key.kind and key.meaning else [before.meaning, key.meaning]
    return replace(
        before,
        default=key.default,
        kind=key.kind or before.kind,
        meaning=" ".join(filter(None, meanings)),
        role=key.role or before.role,
    )


def _keys_of(file: Path) -> tuple[Key, ...]:
    return _keys_of_text(file, file.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=256)  # of trials and hints: each asks for the same dozen files
def _keys_of_text(file: Path, text: str) -> tuple[Key, ...]:
    loader = Loader(text)
    try:
        root = loader.get_single_node()
        values = loader.construct_document(root) if root else {}
    finally:
        loader.dispose()
    headings, keys = _headings(text), []
    for name, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if name.value not in values:  # not a text: `on`, `1`
            continue
        line = name.start_mark.line
        match = _COMMENT.fullmatch(_comment(text, name, value))
        assert match is not None  # every text matches
        meaning = match["meaning"].strip()
        kind, role = _kind_and_role(match["kind"], meaning, file, line + 1)
        if match["kind"] and kind is None and not _is_recboles(file):
            meaning = f"({match['kind']}) {meaning}"  # the bracket is part of the sentence
        keys.append(Key(name.value, values[name.value], kind, meaning, headings[line], role))
    return tuple(keys)


def _comment(text: str, name: yaml.Node, value: yaml.Node) -> str:
    """The comment behind a value on its last line, or behind the name of a block value."""
    is_flow = isinstance(value, yaml.CollectionNode) and value.flow_style
    inline = is_flow or isinstance(value, yaml.ScalarNode) and value.style not in ("|", ">")
    end = (value if inline else name).end_mark.index
    rest = text[end:].partition("\n")[0]
    return rest.partition("#")[2].strip()


def _headings(text: str) -> list[str]:
    """The heading above each line: the beginning of the last block of comment lines."""
    headings, heading, in_block = [], "", False
    for line in text.splitlines():
        is_comment = line.startswith("# ")
        if is_comment and not in_block:
            heading = re.split(r"[.,:(]", line[2:])[0].strip()
        in_block = is_comment
        headings.append(heading)
    return headings


def _kind_and_role(
    words: str | None, meaning: str, file: Path, number: int
) -> tuple[Kind | None, str]:
    try:
        if not words and meaning.startswith("("):  # it has brackets in it, or no end
            check_comment(meaning[1:])
        if not words:
            return None, ""
        if not _says_roles(file):
            check_no_role(words)
            return parse_kind(words), ""
        words, role = split_role(words)
        return parse_kind(words), role
    except ValueError as error:
        if _is_recboles(file):  # such as `(list or int or None)`; the supplement gives the kind
            return None, ""
        raise ValueError(f"{file}, line {number}: {error}") from error


def _says_roles(file: Path) -> bool:
    """Whether keys of the file have roles: those of models, ours or a person's, have none."""
    return file.name in (_OVERALL, SUPPLEMENT) and not _is_recboles(file)


def _is_recboles(file: Path) -> bool:
    return RECBOLE_FOLDER in file.parents
