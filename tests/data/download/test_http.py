"""One address to one file: every way in which a server can fail to give it."""

import hashlib
import ssl

import pytest
import requests
from hosts import (
    SILENCE,
    body,
    captive_portal,
    cut,
    endless,
    hung_up,
    refusal,
    silent,
    silent_after,
    three_hosts,
)

from recbole_genci.data.download.http import Expected, SourceError, fetch, readable

CONTENT = b"PK\x03\x04" + bytes(range(256)) * 800
SHA256 = hashlib.sha256(CONTENT).hexdigest()
EXPECTED = Expected(10**6, len(CONTENT), {"sha256": SHA256})


@pytest.fixture
def host(tmp_path, monkeypatch):
    with three_hosts(tmp_path, monkeypatch) as hosts:
        yield hosts.grouplens


def fetched(host, tmp_path, expected=EXPECTED):
    return fetch(f"{host.url}/a.zip", tmp_path / "a.zip", expected)


def test_the_right_file_is_written_and_described(host, tmp_path):
    host.answer = body(CONTENT)
    assert fetched(host, tmp_path) == {
        "url": f"{host.url}/a.zip",
        "bytes": len(CONTENT),
        "sha256": SHA256,
    }
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_no_content_length_is_no_hindrance(host, tmp_path):
    host.answer = body(CONTENT, announced=False)
    assert fetched(host, tmp_path)["bytes"] == len(CONTENT)
    assert fetched(host, tmp_path, Expected(10**6))["sha256"] == SHA256


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (refusal(403), "403 Forbidden"),
        (refusal(404), "404 Not Found"),
        (body(b"", {"Location": "http://[::1"}, 302), "no request could be made"),
        (refusal(503), "503 Service Unavailable"),
        (
            captive_portal(),
            r"a web page instead of a zip file \(does this network ask for a login\?\)",
        ),
        (body(b"  <html>unlabelled</html>", announced=False), "a web page instead of a zip file"),
        (body(b"garbage" * 30, announced=False), "no zip file"),
        (body(b"", announced=False), "an empty answer"),
        (cut(CONTENT), "the connection broke off after .* kB"),
        (
            body(CONTENT[:-5], announced=False),
            "204799 bytes instead of the 204804 that the file has",
        ),
        (body(CONTENT[:-5]), "204799 bytes instead of the 204804 that the file has"),
        (body(CONTENT + b"more"), "more than the 204.8 kB that the file has at most"),
        (endless, "more than the 204.8 kB that the file has at most"),
        (
            body(CONTENT[:-1] + b"x"),
            f"another file than the published one .SHA256 [0-9a-f]{{64}}, not {SHA256}",
        ),
        (hung_up, "the connection broke off before an answer"),
        (silent, f"silence for {SILENCE:g} s$"),
        (silent_after(CONTENT), f"silence for {SILENCE:g} s after .* kB"),
    ],
)
def test_anything_else_is_one_reason(host, tmp_path, answer, message):
    host.answer = answer
    with pytest.raises(SourceError, match=message):
        fetched(host, tmp_path)


def test_every_given_hash_must_agree(host, tmp_path):
    host.answer = body(CONTENT)
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    fetched(host, tmp_path, Expected(10**6, None, {"sha256": SHA256, "md5": md5}))
    with pytest.raises(SourceError, match=f"MD5 {md5}, not 00"):
        fetched(host, tmp_path, Expected(10**6, None, {"sha256": SHA256, "md5": "00"}))


def test_a_file_of_unknown_size_has_a_limit(host, tmp_path):
    for answer in (body(CONTENT), body(CONTENT, announced=False), endless):
        host.answer = answer
        with pytest.raises(SourceError, match="more than the 1.0 kB that the file has at most"):
            fetched(host, tmp_path, Expected(1000))


def test_nobody_there_and_no_name(host, tmp_path):
    host.close()
    with pytest.raises(SourceError, match="connection refused"):
        fetched(host, tmp_path)
    with pytest.raises(SourceError, match="its name cannot be resolved"):
        fetch("http://nowhere.invalid/a.zip", tmp_path / "a.zip", EXPECTED)


def test_a_certificate_that_ran_out_is_named(monkeypatch, tmp_path):
    def expired(*args, **kwargs):
        error = ssl.SSLCertVerificationError(
            1, "certificate verify failed: certificate has expired (_ssl.c:1000)"
        )
        raise requests.exceptions.SSLError(error)

    monkeypatch.setattr(requests.Session, "get", expired)
    with pytest.raises(SourceError, match="its certificate is not valid .certificate has expired"):
        fetch("https://127.0.0.1/a.zip", tmp_path / "a.zip", EXPECTED)


def test_the_proxy_of_the_environment_is_used(host, tmp_path, monkeypatch):
    host.answer = body(CONTENT)
    monkeypatch.setenv("http_proxy", host.url)
    fetch("http://files.example/a.zip", tmp_path / "a.zip", EXPECTED)
    assert host.asked == ["http://files.example/a.zip"]


def test_sizes_are_readable():
    assert [readable(n) for n in (12, 5_917_549, 261_978_986, 5 * 10**9)] == [
        "12 bytes",
        "5.9 MB",
        "262.0 MB",
        "5.0 GB",
    ]
