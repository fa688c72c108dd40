"""What names a folder on the hub: ``hf:user/name[@revision][/subfolder]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PREFIX = "hf:"
_PART = r"[0-9A-Za-z_](?:[0-9A-Za-z_.-]*[0-9A-Za-z_])?"
_FORM = re.compile(rf"hf:({_PART}/{_PART})(?:@([^/@\s]+))?(?:/([^@\s]+?))?/?")
#: What the hub allows in no name of a repository.
_REFUSED = re.compile(r"--|\.\.|\.git$")


@dataclass(frozen=True)
class HubName:
    """A folder of a repository.

    Attributes:
        repository: ``user/name``.
        revision: a branch, a tag or a commit; None is the main branch.
        subfolder: below the repository, with ``/``; empty for the repository itself.
    """

    repository: str
    revision: str | None = None
    subfolder: str = ""

    @classmethod
    def read(cls, text: str, key: str = "") -> HubName:
        """The name that ``text`` spells.

        Args:
            text: begins with ``hf:``.
            key: the option that it was given for, for the error.

        Raises:
            ValueError: it is not of the form.
        """
        found = _FORM.fullmatch(text)
        subfolder = (found[3] or "") if found else ""
        parts = subfolder.split("/") if subfolder else []
        if not found or _REFUSED.search(found[1]) or any(part in ("", ".", "..") for part in parts):
            raise ValueError(
                f"{key}{': ' if key else ''}'{text}' is no name on the Hugging Face hub. Write "
                "hf:user/name, hf:user/name@revision or hf:user/name@revision/subfolder; a "
                "revision is a branch, a tag or a commit, without a slash."
            )
        return cls(found[1], found[2], subfolder)

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{PREFIX}{self.repository}{revision}" + (
            f"/{self.subfolder}" if self.subfolder else ""
        )


def is_hub_name(folder: str | Path) -> bool:
    """Whether a folder that somebody gave is a name on the hub."""
    return str(folder).startswith(PREFIX)
