"""Which GPUs a process sees.

CUDA reads CUDA_VISIBLE_DEVICES only once, when it first looks for a GPU. RecBole sets the variable
for every Config (configurator.py:484), to GPU 0 by default, and looks for the GPU at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

VARIABLE = "CUDA_VISIBLE_DEVICES"
_at_start = os.environ.get(VARIABLE)  # set by the user or a scheduler
_shown: str | None = None  # the GPUs that the first Config of this process set


def choose(config: Mapping, by_hand: Mapping) -> str:
    """Return the GPUs of a Config in the form of CUDA_VISIBLE_DEVICES; an empty string is the CPU.

    Args:
        config: all keys. Their ``gpu_id`` may come from the file of a run on another machine, so
            the GPUs that this process already uses, or was started with, come first.
            ``use_gpu: False`` or an empty ``gpu_id`` means the CPU.
        by_hand: keys of the command line or of a dict; their ``gpu_id`` comes before everything.

    Raises:
        ValueError: ``by_hand`` names another GPU than this process already uses.
    """
    requested = _joined(config["gpu_id"])
    if not config["use_gpu"] or not requested:
        return ""
    if "gpu_id" not in by_hand:
        return _settled(requested)
    if _shown not in (None, requested) and torch.cuda.is_available():
        raise ValueError(
            f"gpu_id: {by_hand['gpu_id']!r} was asked for, but this process began with GPU "
            f"{_shown!r}, and CUDA lets a process choose once. Start another process for it."
        )
    return requested


def show(gpus: str) -> None:
    """Set CUDA_VISIBLE_DEVICES. A Config on the CPU leaves the GPUs visible for a later Config."""
    global _shown
    os.environ[VARIABLE] = gpus or _settled("0")  # 0 is RecBole's default
    if _shown is None:
        _shown = os.environ[VARIABLE]


def check_there(config: Mapping, by_hand: Mapping) -> None:
    """Refuse a GPU that a person named, by hand, but that is not there.

    The file of a saved run names a GPU too; such a run still loads on a machine without one.
    """
    if _joined(by_hand.get("gpu_id")) and config["use_gpu"] and config["device"].type == "cpu":
        raise ValueError(
            f"gpu_id: {by_hand['gpu_id']!r} was asked for, but torch {torch.__version__} finds no "
            "such GPU here. Give another number, or --use_gpu=False to train on the CPU."
        )


def _settled(otherwise: str) -> str:
    """The GPUs that this process already uses, or was started with, or else ``otherwise``."""
    return next(gpus for gpus in (_shown, _at_start, otherwise) if gpus is not None)


def _joined(gpu_id) -> str:
    """Write ``gpu_id`` as ``0,1``. RecBole writes a list as ``[0, 1]`` (configurator.py:482), which
    names no GPU.
    """
    if gpu_id is None:
        return ""
    return ",".join(map(str, gpu_id)) if isinstance(gpu_id, (list, tuple)) else str(gpu_id)
