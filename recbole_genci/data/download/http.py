"""Download one address into one file, with limits on size and silence, and check it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

import recbole_genci

#: Seconds to wait for a connection, and for the next byte.
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 30.0

_CHUNK = 1 << 16
_ZIP_START = b"PK"
_NO_NAME = ("failed to resolve", "name resolution", "name or service not known")
_WEB_PAGE = "a web page instead of a zip file (does this network ask for a login?)"


class SourceError(Exception):
    """A source did not give the right file; the message says what it gave instead."""


@dataclass(frozen=True)
class Expected:
    """What is known about a file before its download.

    Attributes:
        size: size in bytes; None if not known.
        max_bytes: the largest number of bytes that is read if ``size`` is not known.
        hashes: hexadecimal hashes by algorithm; all of them must match.
    """

    max_bytes: int
    size: int | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)


def readable(size: int) -> str:
    """A number of bytes as people write it: ``5.9 MB``."""
    scaled, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB"):
        if scaled < 1000:
            break
        scaled, unit = scaled / 1000, larger
    return f"{scaled:.0f} {unit}" if unit == "bytes" else f"{scaled:.1f} {unit}"


def fetch(url: str, file: Path, expected: Expected, shows_progress: bool = True) -> dict:
    """Stream the zip at ``url`` into ``file``, with the environment's proxies and certificates.

    Args:
        url: the address.
        file: the file to write; an existing file is replaced.
        expected: size and hashes.
        shows_progress: whether to show a bar if standard error is a terminal.

    Returns:
        dict: ``url``, ``bytes`` and ``sha256`` of the file, for a provenance.

    Raises:
        SourceError: the host does not answer, refuses or falls silent, or it sends too many or too
            few bytes, no zip, or another file.
        OSError: ``file`` cannot be written.
    """
    digests = {
        name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", *expected.hashes}
    }
    received = 0
    try:
        with requests.Session() as session, _ask(session, url) as response:
            _check_kind(response)
            announced = _announced(response)
            _check_size(announced, expected)
            with (
                file.open("wb") as output,
                _bar(file.name, announced or expected.size, shows_progress) as bar,
            ):
                for chunk in response.iter_content(_CHUNK):
                    if not received:
                        _check_start(chunk)
                    received += len(chunk)
                    _check_size(received, expected, is_whole=False)
                    for digest in digests.values():
                        digest.update(chunk)
                    output.write(chunk)
                    bar.update(len(chunk))
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise SourceError(_reason(error, received)) from error
    if announced is not None and received != announced:
        raise SourceError(
            f"the connection broke off after {readable(received)} of {readable(announced)}"
        )
    if not received:
        raise SourceError("an empty answer")
    _check_size(received, expected)
    for name, value in expected.hashes.items():
        actual = digests[name].hexdigest()
        if actual != value:
            raise SourceError(
                f"another file than the published one ({name.upper()} {actual}, not {value})"
            )
    return {"url": url, "bytes": received, "sha256": digests["sha256"].hexdigest()}


def _ask(session: requests.Session, url: str) -> requests.Response:
    # "identity": a file that is unpacked on the way has neither the announced size nor the
    # published hash.
    headers = {
        "User-Agent": f"recbole_genci/{recbole_genci.__version__}",
        "Accept-Encoding": "identity",
    }
    try:
        response = session.get(
            url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)
        )
    except requests.RequestException:
        raise
    except (ValueError, OSError) as error:  # a redirect to no address, a missing CA bundle
        raise SourceError(f"no request could be made ({error})") from error
    if response.status_code != requests.codes.ok:
        status = f"{response.status_code} {response.reason or ''}".strip()
        response.close()
        raise SourceError(status)
    return response


def _announced(response: requests.Response) -> int | None:
    """The size that the answer states; None if it states none, which happens behind proxies."""
    length = response.headers.get("Content-Length", "")
    return (
        int(length) if length.isdecimal() and "Content-Encoding" not in response.headers else None
    )


def _bar(name: str, total: int | None, shows_progress: bool) -> tqdm:
    # disable=None: no bar if stderr is a file or a pipe.
    return tqdm(
        total=total, desc=name, unit="B", unit_scale=True, disable=None if shows_progress else True
    )


def _check_kind(response: requests.Response) -> None:
    if "html" in response.headers.get("Content-Type", ""):
        raise SourceError(_WEB_PAGE)


def _check_start(chunk: bytes) -> None:
    if not chunk.startswith(_ZIP_START):
        raise SourceError(_WEB_PAGE if chunk.lstrip().startswith(b"<") else "no zip file")


def _check_size(size: int | None, expected: Expected, is_whole: bool = True) -> None:
    """Refuse a wrong size; ``is_whole`` tells that no more bytes follow."""
    if size is None:
        return
    limit = expected.max_bytes if expected.size is None else expected.size
    if size > limit:
        raise SourceError(f"more than the {readable(limit)} that the file has at most")
    if is_whole and expected.size is not None and size != expected.size:
        raise SourceError(f"{size} bytes instead of the {expected.size} that the file has")


def _reason(error: Exception, received: int) -> str:
    """The reason of an error in a few words, without the layers of the libraries."""
    if isinstance(error, requests.exceptions.SSLError):
        detail = str(error)
        for mark in ("certificate has expired", "self-signed certificate", "Hostname mismatch"):
            if mark in detail:
                return f"its certificate is not valid ({mark})"
        return "no secure connection (TLS)"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy of this machine's environment does not answer"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return f"no connection within {CONNECT_TIMEOUT:g} s"
    if isinstance(error, requests.exceptions.ReadTimeout) or "Read timed out" in str(error):
        return f"silence for {READ_TIMEOUT:g} s" + (
            f" after {readable(received)}" if received else ""
        )
    if received or isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"the connection broke off after {readable(received)}"
    if "aborted" in str(error).lower():
        return "the connection broke off before an answer"
    # Not "resolve" alone, which stands in the addresses of Hugging Face.
    if any(words in str(error).lower() for words in _NO_NAME):
        return "its name cannot be resolved (is there a network?)"
    if "refused" in str(error).lower():
        return "connection refused"
    return f"no connection ({type(error).__name__})"
