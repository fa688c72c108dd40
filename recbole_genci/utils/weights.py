"""Load a model's weights from the file that its run has saved."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn


def load_weights(model: nn.Module, file: Path) -> None:
    """Give ``model`` the weights that a run saved in ``file``.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, or belongs to another model, dataset or embedding size.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: the run has saved no weights there.")
    try:
        weights = load_file(file)
    except SafetensorError as error:
        raise ValueError(
            f"{file} is damaged ({error}). Copy it again or repeat the run."
        ) from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:  # torch lists every name and shape, one a line
        first = " ".join(str(error).split(":", 1)[-1].split("\n\t")[:2]).strip()
        raise ValueError(
            f"{file} holds the weights of another model, or config.yaml beside it was edited: "
            f"{first} Take both from a copy, or train the run anew."
        ) from error
