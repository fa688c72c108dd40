"""Whether the code that a run's folder names may be imported.

The folder may come from a stranger, so code that reads it first calls ``permitted_model``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recbole_genci.utils.layout import CONFIG_FILE
from recbole_genci.utils.own_code.references import (
    is_known,
    is_reference,
    name_of,
    reference_of,
)


def own_references(saved: Mapping) -> dict[str, str]:
    """References in a run's saved configuration, each with the key that holds it."""
    metrics = saved.get("metrics")
    by_key = {
        "model": [saved.get("model")],
        "metrics": metrics if isinstance(metrics, (list, tuple)) else [metrics],
        "valid_metric": [saved.get("valid_metric")],
    }
    return {
        reference: key
        for key, values in by_key.items()
        for reference in values
        if is_reference(reference)
    }


def permitted_model(
    saved: Mapping,
    folder: Path,
    model: str | type | None = None,
    trust_code: bool = False,
    way: str = "load",
) -> str:
    """The reference or name of a run's model, if the code that its folder names may be imported.

    Args:
        saved: the content of the folder's ``config.yaml``. It may come from a stranger, so nothing
            in it is imported here.
        folder: the run's folder.
        model: the class or its reference, if a person has given it.
        trust_code: whether all code that the folder names may be imported.
        way: how the folder is read, ``load`` or an option of the command line, for the error.

    Raises:
        ValueError: the folder names code that this process has not yet imported and that nobody
            has allowed, or its model is not ``model``.
    """
    if not isinstance(saved["model"], str):
        raise ValueError(f"{folder / CONFIG_FILE} is damaged: its model is {saved['model']!r}.")
    if not isinstance(trust_code, bool):
        raise ValueError(f"trust_code: {trust_code!r} is neither True nor False.")
    chosen = saved["model"] if model is None else reference_of(model)
    if name_of(chosen) != name_of(saved["model"]):
        raise ValueError(
            f"model: the run in {folder} is one of {name_of(saved['model'])}, not of "
            f"{name_of(chosen)}."
        )
    if trust_code:
        return chosen
    for reference, key in own_references(saved).items():
        if (key == "model" and model is not None) or is_known(reference):
            continue
        if way == "load":
            ways = (
                ["give load or Ranker the class by model=... (a command: --model=<module:Class>)"]
                if key == "model"
                else []
            )
            ways.append("allow the import by trust_code=True (a command: --trust_code=True)")
        else:
            ways = [f"name it, {way}=<folder> --model=<module:Class>"] if key == "model" else []
            ways.append(f"allow the import by {way}=<folder> --trust_code=True")
        raise ValueError(
            f"{key}: {folder} names code of its own, '{reference}', and importing it would run "
            f"that code. If you know the code, {', or '.join(ways)}."
        )
    return chosen
