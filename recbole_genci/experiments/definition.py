"""The definition of an experiment, read from properties/experiment/.

Each variant, a model with some keys of its own, is one line of the experiment's table.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from recbole_genci.config import properties_folder
from recbole_genci.model.registry import entry_of
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS
from recbole_genci.utils.value_checks import nearest

ALL = "all"
#: The order of `--experiment=all`: quick experiments and those with shared runs come first.
ORDER = (
    "statistics",
    "compare",
    "ablation",
    "extraction",
    "intents",
    "volatility",
    "layers",
    "mu",
    "eta",
    "cohorts",
)


@dataclass(frozen=True)
class Variant:
    """A model with some keys of its own: one line of an experiment's table.

    Attributes:
        name: its name in the table, unique in an experiment.
        model: the model that is trained, in the form of ``--model``.
        keys: the configuration keys that this variant sets.
        swept: in a sweep, the key whose value varies; else None.
        settings: the keys in words, if every model has the same list of settings; else None. Such
            a line may be the same run as another, where a key does nothing for the model.
    """

    name: str
    model: str
    keys: dict[str, Any] = field(default_factory=dict)
    swept: str | None = None
    settings: str | None = None

    @property
    def swept_value(self) -> Any:
        """The value of that key."""
        assert self.swept is not None
        return self.keys[self.swept]


@dataclass(frozen=True)
class Note:
    """A remark below a table.

    Attributes:
        text: the remark.
        line: the line of the table that it is about; None if it is about all.
        paper: the paper's table whose figures it is about; None if it is not about the paper's.
    """

    text: str
    line: str | None = None
    paper: int | None = None

    @classmethod
    def of(cls, written: str | dict) -> Note:
        """The note that a definition's file holds: a text, or ``{text: ...}`` with ``line`` or
        ``paper``.
        """
        return cls(written) if isinstance(written, str) else cls(**written)


@dataclass(frozen=True)
class Definition:
    """An experiment as its file defines it.

    Attributes:
        name: name of the file.
        about: one sentence about the experiment.
        paper: the table or figure of the paper that it reproduces.
        report: the module of `recbole_genci.experiments.reports` that makes tables and pictures.
        variants: the lines of the table, in order; empty if nothing is trained.
        open_models: whether ``--models`` may name other models.
        seeds: default of ``--seeds``; None if the experiment has one seed only.
        notes: remarks below the table, such as definitions that the paper leaves open.
        rows: size of the sample of test rows, if the report analyses a sample; else None.
        against: names of the lines that the report compares all others with.
    """

    name: str
    about: str
    paper: str
    report: str
    variants: tuple[Variant, ...]
    open_models: bool
    seeds: int | None
    notes: tuple[Note, ...]
    rows: int | None = None
    against: tuple[str, ...] = ()

    def with_models(self, models: Sequence) -> tuple[Variant, ...]:
        """Return variants for other models, each with every list of settings if there are such.

        The name of a line of the definition, such as "SR alone", stands for that line.

        Raises:
            ValueError: a model is unknown or named twice, or the experiment's variants are fixed.
        """
        if not self.open_models:
            about = (
                f"are variants of {self.variants[0].model}" if self.variants else "are no models"
            )
            raise ValueError(
                f"models: the lines of experiment '{self.name}' {about}; leave --models out."
            )
        if "" in models:
            raise ValueError(
                f"models: '{','.join(map(str, models))}' has an empty name. Take out a comma."
            )
        lines = self.lines()
        names = [model if model in lines else entry_of(model).name for model in models]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"models: {', '.join(names)} names {name} twice.")
        settings = {v.settings: v.keys for v in self.variants if v.settings is not None}
        variants: list[Variant] = []
        for name, model in zip(names, models, strict=True):
            if name in lines:
                variants.append(lines[name])
                continue
            reference = entry_of(model).reference
            variants += [
                Variant(f"{name}: {words}", reference, keys, settings=words)
                for words, keys in settings.items()
            ] or [Variant(name, reference)]
        return tuple(variants)

    def lines(self) -> dict[str, Variant]:
        """Its lines that are no model as it is, and no setting of every model, by name."""
        return {v.name: v for v in self.variants if v.keys and v.settings is None}

    def own_keys(self) -> set[str]:
        """Keys that every variant sets, so that a person's value would never be read."""
        return (
            set.intersection(*(set(variant.keys) for variant in self.variants))
            if self.variants
            else set()
        )

    def makes_semantic_ids(self) -> bool:
        """Whether its variants differ in how semantic IDs are made, so that none can be given."""
        return any(TOKENIZER_KEYS & set(variant.keys) for variant in self.variants)


def folder() -> Path:
    """The folder of the experiments' files."""
    return properties_folder() / "experiment"


def known_experiments() -> list[str]:
    """Every name that ``--experiment`` takes, except ``all``."""
    names = {file.stem for file in folder().glob("*.yaml")}
    return [name for name in ORDER if name in names] + sorted(names - set(ORDER))


def read(name: str) -> Definition:
    """Read an experiment's file.

    Raises:
        ValueError: there is no such experiment; names the nearest one.
    """
    known = known_experiments()
    if name not in known:
        raise ValueError(
            f"experiment: '{name}' is not an experiment.{nearest(name, [*known, ALL])} There are "
            f"{', '.join(known)}, and {ALL} of them."
        )
    content = yaml.safe_load((folder() / f"{name}.yaml").read_text(encoding="utf-8"))
    return defined(name, content)


def defined(name: str, content: dict) -> Definition:
    """The definition that the content of an experiment's file makes."""
    return Definition(
        name,
        content["about"],
        content["paper"],
        content["report"],
        tuple(_variants(content)),
        "models" in content,
        content.get("seeds"),
        tuple(map(Note.of, content.get("notes", ()))),
        content.get("rows"),
        tuple(content.get("against", ())),
    )


def chosen(name: str) -> list[Definition]:
    """The definition of a name, in a list, or every definition for ``all``."""
    return [read(each) for each in (known_experiments() if name == ALL else [name])]


def _variants(content: dict) -> Iterator[Variant]:
    for model in content.get("models", ()):
        if "settings" not in content:
            yield Variant(model, model)
        for keys in content.get("settings", ()):
            own = {key: value for key, value in keys.items() if key != "name"}
            words = ", ".join(f"{key} {value}" for key, value in own.items()) or "as it is"
            words = keys.get("name", words)
            yield Variant(f"{model}: {words}", model, own, settings=words)
    for variant in content.get("lines", ()):
        keys = {key: value for key, value in variant.items() if key not in ("name", "model")}
        yield Variant(variant["name"], variant.get("model") or content["model"], keys)
    for key, values in content.get("sweep", {}).items():
        for value in values:
            yield Variant(f"{key} = {value}", content["model"], {key: value}, swept=key)


def describe(name: str) -> str:
    """What ``--help --experiment=NAME`` prints about an experiment, or about ``all``."""
    parts = []
    for definition in chosen(name):
        seeds = "one seed" if definition.seeds is None else f"{definition.seeds} seeds (--seeds)"
        text = [f"{definition.name}: {definition.about} ({definition.paper})"]
        if definition.variants:
            others = "; --models chooses others" if definition.open_models else ""
            names = ", ".join(variant.name for variant in definition.variants)
            text.append(f"  lines: {names}{others}")
            text.append(f"  trains each with {seeds}")
        text += [f"  - {note.text}" for note in definition.notes]
        parts.append("\n".join(map(_wrapped, text)))
    return "\n\n".join(parts) + "\n"


def _wrapped(line: str) -> str:
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(
        line, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
