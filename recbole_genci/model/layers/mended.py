"""A layer that a RecBole model has made, turned into our subclass of it."""

from __future__ import annotations

from torch import nn


class Mended:
    """Base of subclasses that change what a layer of RecBole or torch computes with, not what it
    holds.
    """

    @classmethod
    def mend(cls, layer: nn.Module) -> None:
        """Turn ``layer`` into this class, with its weights as they were drawn."""
        layer.__class__ = cls
