"""A layer of our own in the place of the one that a RecBole model has made."""

from __future__ import annotations

from typing import Self

from torch import nn


class Mended(nn.Module):
    """Base of subclasses that change what a layer of RecBole or torch computes with, not what it
    holds.
    """

    @classmethod
    def from_layer(cls, layer: nn.Module) -> Self:
        """A layer of this class with the parameters, buffers, settings and hooks of ``layer``.

        They are the same objects, so that the weights stay as they were drawn, and no further
        random number is: the constructor does not run.

        Raises:
            TypeError: this class is no subclass of the class of ``layer``.
        """
        if not issubclass(cls, type(layer)):
            raise TypeError(f"{cls.__name__} cannot take the place of a {type(layer).__name__}.")
        mended = cls.__new__(cls)
        mended.__setstate__(layer.__getstate__())
        return mended
