"""What the commands about a finished run share: their words, and the ranker that they name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recbole_genci.utils.imports import uncollected
from recbole_genci.utils.value_checks import nearest

if TYPE_CHECKING:
    from recbole_genci.serving.ranker import Ranker

#: Options of every such command, beside those that it needs.
RUN_OPTIONS = ("items", "unseen", "model", "trust_code")


def options_of(
    argv: Sequence[str],
    usage: str,
    needed: Mapping[str, str],
    others: Collection[str],
    paths: Collection[str],
) -> dict[str, Any] | None:
    """The options of a command; None if it asked for help, which is then printed.

    Args:
        argv: its words.
        usage: its help.
        needed: the options that must be given, each with an example.
        others: those that may be given.
        paths: which of all are paths, and stay as they are written.

    Raises:
        ValueError: an option that there is not, or a missing one.
    """
    with uncollected(own_process=True):
        from recbole_genci.config import parse_argv
        from recbole_genci.config.command_line import HELP, key_value_words, missing_word

    words = key_value_words(argv)
    wants_help = set(HELP) & set(words)
    words = [word for word in words if word not in HELP]
    texts = dict(word[2:].split("=", 1) for word in words)
    values = parse_argv(words) | {key: texts[key] for key in paths if key in texts}
    options = (*needed, *others)
    if unknown := [key for key in values if key not in options]:
        raise ValueError(
            f"command line: --{unknown[0]} is no option of this command."
            f"{nearest(unknown[0], options)} --help lists them."
        )
    if wants_help:
        print(usage, end="")
        return None
    for key, example in needed.items():
        if not values.get(key):
            raise missing_word(key, example, values)
    return values


def ranker_of(values: Mapping[str, Any]) -> Ranker:
    """The ranker of the run that the options name, with further items if they name some."""
    from recbole_genci.serving.ranker import UNSEEN_USERS, Ranker

    ranker = Ranker(
        values["run"],
        values.get("model"),
        values.get("trust_code", False),
        values.get("unseen", UNSEEN_USERS),
    )
    return ranker.with_items(values["items"]) if "items" in values else ranker
