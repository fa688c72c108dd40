"""Load a model's weights from the file that its run has saved."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from recbole_genci.utils.digests import check_file


def load_weights(model: nn.Module, file: Path, sha256: str | None = None) -> None:
    """Give ``model`` the weights that a run saved in ``file``.

    Args:
        model: the model.
        file: the file.
        sha256: the digest of the file that the run wrote, if it is known.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, or belongs to another model, dataset or embedding size.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: the run has saved no weights there.")
    if sha256 is not None:
        check_file(file, sha256, "Take it from a copy, or train the run anew.")
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
