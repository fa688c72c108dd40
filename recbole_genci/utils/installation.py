"""Check that RecBole is installed. From Python 3.12 on pip cannot install its requirements."""

from __future__ import annotations

import sys
from pathlib import Path

WITHOUT_RECBOLE = (
    "RecBole is not installed; run `pip install --no-deps recbole==1.2.1` (without its "
    "requirements: ray<=2.6.3 among them has no wheel after Python 3.11)."
)


def require_recbole() -> None:
    """Check that RecBole is installed, and say how to install it if not.

    Raises:
        ImportError: it is missing, and another program imports this package.
        SystemExit: it is missing, and this is a command of this package; one sentence on stderr,
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
    # A command imports this package before its own first line runs, so only the command line tells
    # which command it is.
    if sys.argv[0] == "-m":  # while `python -m` looks for its module
        return any(
            word.removeprefix("-m").partition(".")[0] == "recbole_genci" for word in sys.orig_argv
        )
    return Path(sys.argv[0]).stem in ("run_recbole_genci", "run_hyper")
