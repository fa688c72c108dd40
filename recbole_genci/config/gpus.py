"""Which GPUs a process sees.

CUDA reads CUDA_VISIBLE_DEVICES only once, when it first looks for a GPU. RecBole sets the variable
for every Config (configurator.py:484), to GPU 0 by default, and looks for the GPU at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

VARIABLE = "CUDA_VISIBLE_DEVICES"


@dataclass
class VisibleGPUs:
    """Values of CUDA_VISIBLE_DEVICES in one process.

    Attributes:
        at_start: the user's or a scheduler's.
        shown: what the first Config of the process has shown to CUDA.
    """

    at_start: str | None
    shown: str | None = None


_process = VisibleGPUs(os.environ.get(VARIABLE))


def choose(config: Mapping[str, Any], by_hand: Mapping[str, Any]) -> str:
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
    if _process.shown not in (None, requested) and torch.cuda.is_available():
        raise ValueError(
            f"gpu_id: {by_hand['gpu_id']!r} was asked for, but this process began with GPU "
            f"{_process.shown!r}, and CUDA lets a process choose once. Start another process for "
            "it."
        )
    return requested


def show(gpus: str) -> None:
    """Set CUDA_VISIBLE_DEVICES. A Config on the CPU leaves the GPUs visible for a later Config."""
    os.environ[VARIABLE] = gpus or _settled("0")  # 0 is RecBole's default
    if _process.shown is None:
        _process.shown = os.environ[VARIABLE]


def check_there(config: Mapping[str, Any], by_hand: Mapping[str, Any]) -> None:
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
    return next(gpus for gpus in (_process.shown, _process.at_start, otherwise) if gpus is not None)


def _joined(gpu_id: Any) -> str:
    """Write ``gpu_id`` as ``0,1``. RecBole writes a list as ``[0, 1]`` (configurator.py:482), which
    names no GPU.
    """
    if gpu_id is None:
        return ""
    return ",".join(map(str, gpu_id)) if isinstance(gpu_id, (list, tuple)) else str(gpu_id)
