"""What an experiment is: the lines of its table, each a model with some keys of its own, read from
properties/experiment/.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from recbole_genci.config import properties_folder
from recbole_genci.model.registry import entry_of
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS
from recbole_genci.utils.validation import nearest

ALL = "all"
#: `--experiment=all` runs them in this order: the cheap and the shared first.
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
class Line:
    """One line of a table.

    Attributes:
        name: as the table shows it, unique in an experiment.
        model: what is trained, as ``--model`` takes it.
        keys: configuration keys of this line alone.
        swept: of a sweep, the key whose value this line has.
    """

    name: str
    model: str
    keys: dict[str, Any] = field(default_factory=dict)
    swept: str | None = None

    @property
    def swept_value(self) -> Any:
        """The value of that key."""
        assert self.swept is not None
        return self.keys[self.swept]


@dataclass(frozen=True)
class Definition:
    """An experiment as its file defines it.

    Attributes:
        name: of the file.
        about, paper: one sentence, and the table or figure it is after.
        report: the module of `recbole_genci.experiments` that makes its tables and pictures.
        lines: of the table, in order; none where nothing is trained.
        open_models: whether ``--models`` may name other models.
        seeds: how many, unless ``--seeds`` says otherwise; None where one seed is all there is.
        notes: definitions that the paper leaves open, for the table's header.
        rows: of the test part that are looked at, where an analysis takes a sample.
    """

    name: str
    about: str
    paper: str
    report: str
    lines: tuple[Line, ...]
    open_models: bool
    seeds: int | None
    notes: tuple[str, ...]
    rows: int | None = None

    def with_models(self, models: Sequence) -> tuple[Line, ...]:
        """The lines for other models.

        Raises:
            ValueError: an unknown model, one named twice, or an experiment whose lines are fixed.
        """
        if not self.open_models:
            about = f"are variants of {self.lines[0].model}" if self.lines else "are no models"
            raise ValueError(
                f"models: the lines of experiment '{self.name}' {about}; leave --models out."
            )
        entries = [entry_of(model) for model in models]
        names = [entry.name for entry in entries]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"models: {', '.join(names)} names {name} twice.")
        return tuple(Line(entry.name, entry.reference) for entry in entries)

    def own_keys(self) -> set[str]:
        """Keys that every line sets, so that no other value of them would be read."""
        return set.intersection(*(set(line.keys) for line in self.lines)) if self.lines else set()

    def makes_semantic_ids(self) -> bool:
        """Whether its lines are about how semantic IDs are made, so that none can be given."""
        return any(TOKENIZER_KEYS & set(line.keys) for line in self.lines)


def folder() -> Path:
    """Where experiments are defined."""
    return properties_folder() / "experiment"


def known_experiments() -> list[str]:
    """Every name that ``--experiment`` takes, ``all`` apart."""
    names = {file.stem for file in folder().glob("*.yaml")}
    return [name for name in ORDER if name in names] + sorted(names - set(ORDER))


def read(name: str) -> Definition:
    """Read an experiment's file.

    Raises:
        ValueError: no such experiment; the nearest is named.
    """
    known = known_experiments()
    if name not in known:
        raise ValueError(
            f"experiment: '{name}' is not an experiment.{nearest(name, [*known, ALL])} There are "
            f"{', '.join(known)}, and {ALL} of them."
        )
    content = yaml.safe_load((folder() / f"{name}.yaml").read_text(encoding="utf-8"))
    return Definition(
        name,
        content["about"],
        content["paper"],
        content["report"],
        tuple(_lines(content)),
        "models" in content,
        content.get("seeds"),
        tuple(content.get("notes", ())),
        content.get("rows"),
    )


def chosen(name: str) -> list[Definition]:
    """The definitions behind a name: one, or ``all`` of them."""
    return [read(each) for each in (known_experiments() if name == ALL else [name])]


def _lines(content: dict) -> Iterator[Line]:
    for model in content.get("models", ()):
        yield Line(model, model)
    for line in content.get("lines", ()):
        keys = {key: value for key, value in line.items() if key not in ("name", "model")}
        yield Line(line["name"], line.get("model") or content["model"], keys)
    for key, values in content.get("sweep", {}).items():
        for value in values:
            yield Line(f"{key} = {value}", content["model"], {key: value}, swept=key)


def describe(name: str) -> str:
    """What ``--help --experiment=NAME`` prints of experiments."""
    parts = []
    for definition in chosen(name):
        seeds = "one seed" if definition.seeds is None else f"{definition.seeds} seeds (--seeds)"
        text = [f"{definition.name}: {definition.about} ({definition.paper})"]
        if definition.lines:
            others = "; --models chooses others" if definition.open_models else ""
            text.append(f"  lines: {', '.join(line.name for line in definition.lines)}{others}")
            text.append(f"  trains each with {seeds}")
        text += [f"  - {note}" for note in definition.notes]
        parts.append("\n".join(text))
    return "\n\n".join(parts) + "\n"
