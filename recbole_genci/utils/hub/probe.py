"""Whether the hub answers, within seconds. Its own client would try again for half a minute."""

from __future__ import annotations

import urllib.error
import urllib.request

_TIMEOUT = 5.0  # seconds


def probe(repository: str) -> int | str:
    """The hub's HTTP status for a repository of models, or the words why there is none.

    ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_TOKEN`` and a stored login count, as for the hub's
    client.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    url = f"{constants.ENDPOINT}/api/models/{repository}"
    request = urllib.request.Request(url, headers={"User-Agent": "recbole_genci"})
    if token := get_token():
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:  # URLError and timeouts are OSErrors
        return f"{constants.ENDPOINT} cannot be reached ({getattr(error, 'reason', error)})"
