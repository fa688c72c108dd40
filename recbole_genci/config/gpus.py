"""Which GPUs a process sees.

CUDA reads CUDA_VISIBLE_DEVICES once, when it is first asked for a GPU; RecBole writes it for every
Config (configurator.py:484), with GPU 0 where nothing is said, and asks at once.
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
    """The GPUs that a Config computes on, as CUDA_VISIBLE_DEVICES has them; the empty string is the
    CPU.

    Args:
        config: all keys. Its ``gpu_id`` may come from a file, of another machine's run say: what
            this process has been shown, or was started with, comes first. ``use_gpu: False`` and an
            empty ``gpu_id`` are the CPU.
        by_hand: keys of the command line or of a dict, which beat all of these.

    Raises:
        ValueError: another GPU by hand than the one that this process has been shown.
    """
    asked = _joined(config["gpu_id"])
    if not config["use_gpu"] or not asked:
        return ""
    if "gpu_id" not in by_hand:
        return _settled(asked)
    if _process.shown not in (None, asked) and torch.cuda.is_available():
        raise ValueError(
            f"gpu_id: {by_hand['gpu_id']!r} was asked for, but this process began with GPU "
            f"{_process.shown!r}, and CUDA lets a process "
            "choose once. Start another process for it."
        )
    return asked


def show(gpus: str) -> None:
    """Set CUDA_VISIBLE_DEVICES. A Config on the CPU hides nothing, or a later one would find no
    GPU.
    """
    os.environ[VARIABLE] = gpus or _settled("0")  # 0 is RecBole's default
    if _process.shown is None:
        _process.shown = os.environ[VARIABLE]


def check_there(config: Mapping[str, Any], by_hand: Mapping[str, Any]) -> None:
    """Refuse a GPU that was asked for by hand and is not there.

    Who names one wants it; a saved run's file names one too, and loads where there is none.
    """
    if _joined(by_hand.get("gpu_id")) and config["use_gpu"] and config["device"].type == "cpu":
        raise ValueError(
            f"gpu_id: {by_hand['gpu_id']!r} was asked for, but torch {torch.__version__} finds no "
            "such GPU here. Give another "
            "number, or --use_gpu=False to train on the CPU."
        )


def _settled(otherwise: str) -> str:
    """What this process has been shown, or was started with, or else ``otherwise``."""
    return next(gpus for gpus in (_process.shown, _process.at_start, otherwise) if gpus is not None)


def _joined(gpu_id: Any) -> str:
    """``0,1`` for a list too, of which RecBole makes ``[0, 1]`` (configurator.py:482), which is no
    GPU.
    """
    return (
        ""
        if gpu_id is None
        else ",".join(map(str, gpu_id))
        if isinstance(gpu_id, (list, tuple))
        else str(gpu_id)
    )
