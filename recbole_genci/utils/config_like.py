"""What code below the configuration's room knows of a Config."""

from __future__ import annotations

from typing import Any, Protocol


class ConfigLike(Protocol):
    """Values by their keys: a ``Config``, or a dict."""

    def __getitem__(self, key: str, /) -> Any: ...

    def __setitem__(self, key: str, value: Any, /) -> None: ...

    def __contains__(self, key: object, /) -> bool: ...
