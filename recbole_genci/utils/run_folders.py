"""Sentences about a path that is not the file or folder that was asked for."""

from __future__ import annotations

from pathlib import Path

from recbole_genci.utils.layout import CONFIG_FILE, LOG_FILE

_DEPTH = 3  # results/compare-shop holds runs/<hash>/<run>


def what_it_is(path: str | Path) -> str:
    """What a path is instead of the file or folder that was asked for, to end a sentence."""
    if Path(path).is_dir():
        return "is a folder, not a file"
    return "is a file, not a folder" if Path(path).exists() else "does not exist"


def no_folder_of(what: str, folder: Path, file: str) -> str:
    """Say that a path is not the folder of a run or a search, and why.

    Args:
        what: what its folder was asked for.
        folder: the path.
        file: name of a file that such a folder has.
    """
    reason = f"has no {file}"
    if not folder.is_dir():
        reason = what_it_is(folder)
        if (folder.parent / file).is_file() and folder.exists():
            reason += f" (its folder is {folder.parent})"
    found = newest_below(what, folder, file)
    if not folder.exists():  # a placeholder copied as it is, or a slip in the time
        place = "here" if folder.parent == Path() else f"in {folder.parent}"
        found = _newest(what, folder.parent, file, depth=1, where=place)
    return f"{folder} is not the folder of a {what}: it {reason}.{found}"


def newest_below(what: str, folder: Path, file: str) -> str:
    """A sentence that names the newest such folder below another; empty if none is there.

    Arguments are those of ``no_folder_of``.
    """
    return _newest(what, folder, file, depth=_DEPTH, where="below it")


def _newest(what: str, folder: Path, file: str, depth: int, where: str) -> str:
    """The sentence of ``newest_below``, of folders at most ``depth`` levels below ``folder``."""
    for level in range(1, depth + 1):
        found = [
            each
            for each in folder.glob("/".join([*["*"] * level, file]))
            # A search and other programs have a config.yaml too.
            if file != CONFIG_FILE or (each.parent / LOG_FILE).is_file()
        ]
        if found:
            newest = max(found, key=lambda each: (each.stat().st_mtime, each)).parent
            return f" The newest {what} {where} is {newest}."
    return ""
