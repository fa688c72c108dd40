"""Which models there are: ours first, then RecBole's, with an error that names the nearest when there is none."""

from __future__ import annotations

import difflib
import importlib
import pkgutil

import recbole.model.context_aware_recommender as context_aware
from recbole.utils import ModelType

from recbole_genci import compat

#: Plugin models by name: the module that holds the class of that name.
#: Six are thin subclasses of RecBole's (DIN to xDeepFM), each for the reason its docstring gives.
PLUGIN_MODELS = {
    "GenCI": "recbole_genci.model.genci",
    "DIN": "recbole_genci.model.din",
    "DIEN": "recbole_genci.model.dien",
    "FwFM": "recbole_genci.model.fwfm",
    "AutoInt": "recbole_genci.model.autoint",
    "DCNV2": "recbole_genci.model.dcnv2",
    "xDeepFM": "recbole_genci.model.xdeepfm",
    "AFN": "recbole_genci.model.afn",
    "RFM": "recbole_genci.model.rfm",
    "MIRRN": "recbole_genci.model.mirrn",
    "SFG": "recbole_genci.model.sfg",
}

#: Other names of a model: the model, and the defaults that the name changes.
#: RecBole's AutoInt has AutoInt+'s feed-forward network.
ALIASES = {"AFN+": ("AFN", {"ensemble_dnn": True}), "AutoInt+": ("AutoInt", {}), "GE4Rec": ("SFG", {})}


def nearest(name: str, known) -> str:
    """`` Did you mean 'x'?`` for the closest of ``known``, or an empty string."""
    known = {str(k).lower(): str(k) for k in known}
    match = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.6)
    return f" Did you mean '{known[match[0]]}'?" if match else ""


def _recbole_context_models() -> list[str]:
    """Class names of RecBole's context-aware models, found without importing each module's dependencies twice."""
    names = []
    for module in pkgutil.iter_modules(context_aware.__path__):
        loaded = importlib.import_module(f"{context_aware.__name__}.{module.name}")
        names += [n for n, obj in vars(loaded).items() if isinstance(obj, type) and obj.__module__ == loaded.__name__
                  and getattr(obj, "type", None) == ModelType.CONTEXT]  # fmt: skip
    return names


def known_models() -> list[str]:
    """Every model name that ``--model`` takes."""
    return list(dict.fromkeys([*PLUGIN_MODELS, *ALIASES, *_recbole_context_models()]))


def resolve(name: str) -> tuple[str, dict]:
    """The model that ``name`` stands for, and the defaults that the name changes: itself and none, unless an alias."""
    return ALIASES.get(name, (name, {}))


def revision(model_class) -> int:
    """Which form of a model a class computes: 1, unless the class says that it once computed something else."""
    return getattr(model_class, "revision", 1)


def get_model(name: str):
    """Return the model class called ``name``, or that an alias stands for: the plugin's first, then RecBole's.

    Raises:
        ValueError: no such model, or one that is not trained on labelled rows (SASRec, BPR, ...).
    """
    name, _ = resolve(name)
    if name in PLUGIN_MODELS:
        with compat.anomaly_detection_as_it_was(), compat.without_syntax_warnings():
            return getattr(importlib.import_module(PLUGIN_MODELS[name]), name)
    known = known_models()
    if name not in known:
        raise ValueError(
            f"model: '{name}' is not a model of this plugin or a CTR model of RecBole (context-aware, DIN, DIEN)."
            f"{nearest(name, known)} Known models: {', '.join(sorted(known, key=str.lower))}."
        )
    return getattr(importlib.import_module(f"{context_aware.__name__}.{name.lower()}"), name)
