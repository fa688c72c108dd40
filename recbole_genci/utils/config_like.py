"""What code below the configuration's room knows of a Config."""

from __future__ import annotations

from typing import Any, Protocol


class ConfigLike(Protocol):
    """Values by their keys: a ``Config``, or a dict."""

    def __getitem__(self, key: str, /) -> Any: ...

    def __setitem__(self, key: str, value: Any, /) -> None: ...

    def __contains__(self, key: object, /) -> bool: ...


class Overridden:
    """A Config with some keys replaced, without touching the original."""

    def __init__(self, config: ConfigLike, **overrides: object) -> None:
        self._config, self._overrides = config, overrides

    def __getitem__(self, key: str, /) -> Any:
        return self._overrides[key] if key in self._overrides else self._config[key]

    def __setitem__(self, key: str, value: Any, /) -> None:
        self._overrides[key] = value

    def __contains__(self, key: object, /) -> bool:
        return key in self._overrides or key in self._config
