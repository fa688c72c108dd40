"""The nearest of some names, for messages about a name that nobody knows."""

from __future__ import annotations

import difflib


def nearest(name: str, known) -> str:
    """`` Did you mean 'x'?`` for the closest of ``known``, or an empty string."""
    known = {str(k).lower(): str(k) for k in known}
    match = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.6)
    return f" Did you mean '{known[match[0]]}'?" if match else ""
