"""Errors of the hub's client in one sentence each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from recbole_genci.utils.hub.name import HubName

_LOG_IN = "`hf auth login`, or the environment variable HF_TOKEN"


class HubError(OSError):
    """The hub does not give, or does not take, what was asked for."""


@contextlib.contextmanager
def explained(where: str, name: HubName, unreachable: str | None = None) -> Iterator[None]:
    """Turn errors of the hub's client inside the block into a ``HubError``.

    Args:
        where: what the person gave, for the error.
        name: what it means.
        unreachable: why the hub was not asked; only its cache then.
    """
    import requests
    from huggingface_hub import errors

    # The client has changed its HTTP library twice; its module of errors imports the base class of
    # the one that it has. Version 0 had requests.
    network = (errors.HTTPError, requests.RequestException, ConnectionError, TimeoutError)
    try:
        yield
    except HubError:
        raise
    except (*network, errors.EntryNotFoundError, errors.LocalTokenNotFoundError) as error:
        raise HubError(f"{where}: {_reason(error, name, unreachable)}") from error
    except RuntimeError as error:  # of threads of the client, and of its library for large files
        cause = error.__cause__
        if isinstance(cause, network):
            reason = _reason(cause, name, unreachable)
        else:
            words = " ".join(str(cause or error).split()).rstrip(".")
            reason = f"a transfer failed ({words}). Give the same command again."
        raise HubError(f"{where}: {reason}") from error


def _reason(error: BaseException, name: HubName, unreachable: str | None) -> str:
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"you are not logged in to {hub}. Log in by {_LOG_IN}, with a token that may write."
    if isinstance(error, errors.LocalEntryNotFoundError):
        first = _first(error)
        if not unreachable and _status(first) is not None:
            return _refused(first, hub)
        return (
            f"{unreachable or _out_of_reach(first)}, and the cache {constants.HF_HUB_CACHE} does "
            "not hold all of its files. Pull it once while the hub can be reached."
        )
    if isinstance(error, errors.GatedRepoError):
        return (
            f"access to it must be asked for, at {hub}/{name.repository}. Then log in with that "
            f"account: {_LOG_IN}."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{hub} has no repository {name.repository}, or a private one that you may not read. "
            f"Look after the name, or log in: {_LOG_IN}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no branch, tag or commit '{name.revision or 'main'}'."
    if isinstance(error, errors.EntryNotFoundError):
        return "a file is missing there. Push the folder again."
    if _status(error) is not None:
        return _refused(error, hub)
    return f"{unreachable or _out_of_reach(_first(error))}. Give the same command again."


def _refused(error: BaseException, hub: str) -> str:
    status = _status(error)
    said = " ".join(str(getattr(error, "server_message", None) or "").split()).rstrip(".")
    said = f" ({said})" if said else ""
    if status == 401:
        return f"{hub} does not know your token{said}. Log in again: {_LOG_IN}."
    if status == 403:
        return (
            f"your account or token may not do that{said}. Use one that may ({_LOG_IN}), or name "
            "another repository."
        )
    if status in (409, 412):
        return f"somebody else changed the repository meanwhile{said}. Give the same command again."
    return f"{hub} answers with HTTP {status}{said}. Give the same command again later."


def _first(error: BaseException) -> BaseException:
    """The first error of a chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error is about, if any."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _out_of_reach(error: BaseException) -> str:
    from huggingface_hub import constants

    words = " ".join(str(error).split()) or type(error).__name__
    return f"{constants.ENDPOINT} cannot be reached ({words})"
