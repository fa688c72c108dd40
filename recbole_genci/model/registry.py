"""Find a model by its name, reference or class: ours, RecBole's or a person's own."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import recbole
import recbole.model.context_aware_recommender as context_aware
from recbole.model.abstract_recommender import AbstractRecommender, ContextRecommender
from recbole.utils import InputType, ModelType

from recbole_genci.model.base import contract_of, is_recboles_history_model
from recbole_genci.utils.own_code import (
    is_of_a_library,
    is_reference,
    load_object,
    reference_of,
    source_file,
)
from recbole_genci.utils.value_checks import nearest

#: The module of each plugin model; the class has the model's name.
#: Eight are thin subclasses of RecBole's models (DIN to xDeepFM); their docstrings say why.
PLUGIN_MODELS = {
    "GenCI": "recbole_genci.model.genci.genci",
    "DIN": "recbole_genci.model.baselines.din",
    "DIEN": "recbole_genci.model.baselines.dien",
    "FFM": "recbole_genci.model.baselines.ffm",
    "FwFM": "recbole_genci.model.baselines.fwfm",
    "KD_DAGFM": "recbole_genci.model.baselines.kd_dagfm",
    "AutoInt": "recbole_genci.model.baselines.autoint",
    "DCNV2": "recbole_genci.model.baselines.dcnv2",
    "xDeepFM": "recbole_genci.model.baselines.xdeepfm",
    "AFN": "recbole_genci.model.baselines.afn",
    "RFM": "recbole_genci.model.baselines.rfm",
    "MIRRN": "recbole_genci.model.baselines.mirrn",
    "SFG": "recbole_genci.model.baselines.sfg",
}

#: Other names: the model behind the name, and the defaults that the name changes.
#: RecBole's AutoInt already has AutoInt+'s feed-forward network.
ALIASES = {
    "AFN+": ("AFN", {"ensemble_dnn": True}),
    "AutoInt+": ("AutoInt", {}),
    "GE4Rec": ("SFG", {}),
}


def _recbole_context_models() -> list[str]:
    """Class names of RecBole's context-aware models."""
    names = []
    for module in pkgutil.iter_modules(context_aware.__path__):
        loaded = importlib.import_module(f"{context_aware.__name__}.{module.name}")
        names += [
            n
            for n, obj in vars(loaded).items()
            if isinstance(obj, type)
            and obj.__module__ == loaded.__name__
            and getattr(obj, "type", None) == ModelType.CONTEXT
        ]
    return names


def known_models() -> list[str]:
    """Every model name that ``--model`` takes."""
    return list(dict.fromkeys([*PLUGIN_MODELS, *ALIASES, *_recbole_context_models()]))


def resolve(name: str) -> tuple[str, dict]:
    """The model behind ``name``, and the defaults that an alias changes."""
    return ALIASES.get(name, (name, {}))


@dataclass(frozen=True)
class Entry:
    """A model that ``--model`` takes.

    Attributes:
        name: the model's name in tables, folders and logs.
        reference: finds the model again: its name, or ``module:Class`` for a person's own.
        model_class: the class, with the contract of ``recbole_genci.model.base``.
        base: the model whose properties are the defaults: the model itself, or the one that a
            person's own model inherits from.
        changed_defaults: the defaults that an alias changes.
        own_files: files in which a person's own model and its own base classes may have defaults,
            ``<Class>.yaml`` beside the module; later files win, and all of them are optional.
    """

    name: str
    reference: str
    model_class: type
    base: str
    changed_defaults: dict = field(default_factory=dict)
    own_files: tuple[Path, ...] = ()


def entry_of(model: str | type) -> Entry:
    """The model of a name, a reference (``module:Class``, ``file.py:Class``) or a class.

    Raises:
        ValueError: there is no such model (names the nearest), or it is not trained on labelled
            rows (SASRec, BPR, ...); for a reference also as ``load_object``.
    """
    if not isinstance(model, (str, type)):
        raise ValueError(
            f"model: {model!r} is neither the name of a model, nor module:Class, nor a class."
        )
    reference = reference_of(model)
    if not is_reference(reference):
        name, changed_defaults = resolve(reference)
        return Entry(reference, reference, _named(reference), name, changed_defaults)
    own_class = load_object(reference, "model")
    _check_kind(own_class, reference)
    name, contract = own_class.__name__, contract_of(own_class)
    if is_of_a_library(own_class) and name in known_models() and _named(name) is contract:
        return Entry(name, name, contract, name)
    of_recbole = Path(recbole.__file__).parent / f"properties/model/{name}.yaml"
    if name in known_models() or of_recbole.is_file():
        raise ValueError(
            f"model: '{reference}' has the name of a model of RecBole or of this plugin, and "
            f"tables could not tell the two apart. Rename the class, for example My{name}."
        )
    library = [each for each in own_class.__mro__ if is_of_a_library(each)]
    base = next((each.__name__ for each in library if each.__name__ in known_models()), name)
    files = tuple(
        file.with_name(f"{each.__name__}.yaml")
        for each in reversed(own_class.__mro__)
        if each not in library and (file := source_file(each))
    )
    return Entry(name, reference, contract, base, own_files=files)


def _check_kind(model: Any, reference: str) -> None:
    """Refuse an object that is not the class of a CTR model."""
    needed = (
        "A model of your own is a subclass of recbole_genci.model.base.ClickModel, of RecBole's "
        "ContextRecommender, or of DIN or DIEN: it trains on labelled rows, and its predict gives "
        "click probabilities."
    )
    if not isinstance(model, type):
        raise ValueError(f"model: '{reference}' is a {type(model).__name__}, not a class. {needed}")
    if not issubclass(model, ContextRecommender) and not is_recboles_history_model(model):
        library = [each for each in model.__mro__ if is_of_a_library(each)]
        kinds = [each.__name__ for each in library if issubclass(each, AbstractRecommender)]
        kind = f"RecBole's {kinds[0]}" if kinds else library[0].__name__
        raise ValueError(f"model: '{reference}' is a subclass of {kind}. {needed}")
    model_class: type[AbstractRecommender] = model
    if model_class.input_type != InputType.POINTWISE:
        raise ValueError(
            f"model: '{reference}' has input_type {model_class.input_type.name}, but rows come one "
            "by one, with labels. Leave input_type out."
        )


def get_model(name: str | type) -> type:
    """The class, with the contract, of a model; arguments and errors as for ``entry_of``."""
    return entry_of(name).model_class


def _own_spelling(name: str) -> str:
    """How a class of one's own would be written, if ``name`` names its file in another way."""
    if name.endswith(".py") and os.path.isfile(name):
        return f", here {name}:Class with the class's name"
    module, _, class_name = name.rpartition(".")
    if module:
        is_here = os.path.isfile(f"{module.replace('.', '/')}.py")
        return f", here {module}:{class_name}" if is_here else ""
    first_line = re.compile(rf"^class {re.escape(name)}\b".encode(), re.MULTILINE)
    for file in sorted(Path().glob("*.py")):
        if first_line.search(file.read_bytes()):
            return f", here {file.stem}:{name}"
    return ""


def _named(name: str) -> type:
    """The class called ``name``, or of which it is an alias: the plugin's first, then RecBole's."""
    name, _ = resolve(name)
    if name in PLUGIN_MODELS:
        return contract_of(getattr(importlib.import_module(PLUGIN_MODELS[name]), name))
    known = known_models()
    if name not in known:
        raise ValueError(
            f"model: '{name}' is not a model of this plugin or a CTR model of RecBole "
            f"(context-aware, DIN, DIEN).{nearest(name, known)} Known models: "
            f"{', '.join(sorted(known, key=str.lower))}. A model of your own is given as "
            f"module:Class or path/to/file.py:Class{_own_spelling(name)}."
            + (" Commas divide several models: LR,DeepFM." if " " in name else "")
        )
    return contract_of(
        getattr(importlib.import_module(f"{context_aware.__name__}.{name.lower()}"), name)
    )
