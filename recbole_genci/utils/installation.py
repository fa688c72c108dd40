"""RecBole itself, which pip cannot install with its requirements after Python 3.11."""

from __future__ import annotations

import sys
from pathlib import Path

WITHOUT_RECBOLE = (
    "RecBole is not installed; run `pip install --no-deps recbole==1.2.1` (without what it "
    "requires: of its ray<=2.6.3 there is "
    "no wheel after Python 3.11)."
)


def require_recbole() -> None:
    """Say how to install RecBole where it is missing.

    Raises:
        ImportError: it is missing, and this package is imported by another program.
        SystemExit: it is missing, and this is a command of this package: one sentence on stderr,
            exit status 2.
    """
    try:
        import recbole  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "recbole":
            raise
        if _is_own_command():
            print(f"recbole_genci: {WITHOUT_RECBOLE}", file=sys.stderr)
            sys.exit(2)
        raise ImportError(WITHOUT_RECBOLE, name="recbole") from None


def _is_own_command() -> bool:
    # Every command imports the package before its own first line runs, so only Python's words tell
    # which one it is.
    if sys.argv[0] == "-m":  # what stands there while `python -m` looks for its module
        return any(
            word.removeprefix("-m").partition(".")[0] == "recbole_genci" for word in sys.orig_argv
        )
    return Path(sys.argv[0]).stem in ("run_recbole_genci", "run_hyper")
