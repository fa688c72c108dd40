"""Servers on the loopback in the place of the real hosts, and small editions of MovieLens."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

from recbole_genci.data.download import dataset, http, sources

#: Seconds of silence that the tests wait for.
SILENCE = 0.4


def body(content, headers=None, status=200, announced=None):
    """An answer with ``content``; ``announced`` is its Content-Length, False for no such header."""

    def answer(handler, stop):
        handler.send_response(status)
        for key, value in (headers or {}).items():
            handler.send_header(key, value)
        if announced is not False:
            handler.send_header(
                "Content-Length", str(len(content) if announced is None else announced)
            )
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = True

    return answer


def refusal(status):
    return body(b"<html>no</html>", {"Content-Type": "text/html"}, status)


def captive_portal():
    return body(
        b"<!DOCTYPE html><html>Please log in</html>", {"Content-Type": "text/html; charset=utf-8"}
    )


def cut(content):
    """Half of what was announced."""
    return body(content[: len(content) // 2], announced=len(content))


def hung_up(handler, stop):
    """Closes the connection without a word."""
    handler.close_connection = True


def silent(handler, stop):
    """Accepts and never answers."""
    stop.wait(30)


def silent_after(content):
    """Goes silent in the middle."""

    def answer(handler, stop):
        body(content[: len(content) // 2], announced=len(content))(handler, stop)
        handler.wfile.flush()
        stop.wait(30)

    return answer


def endless(handler, stop):
    """Bytes for as long as somebody reads them."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        handler.wfile.write(b"PK\x03\x04")
        for _ in range(10_000):
            handler.wfile.write(b"0" * 65536)
    handler.close_connection = True


class Host:
    """A server whose answers to every address are one function, which a test may replace."""

    def __init__(self):
        self.answer, self.asked, self._stop = refusal(404), [], threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                host.asked.append(self.path)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    host.answer(self, host._stop)

            do_HEAD = do_GET  # with a body, which a client does not read

            def log_message(self, *words):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()


class Hosts:
    """Three hosts, and the list that names them."""

    def __init__(self, file):
        self.grouplens, self.mirror, self.store = self.all = [Host() for _ in range(3)]
        self._file = file
        self.table = {
            "hosts": {
                "grouplens": {
                    "name": "GroupLens",
                    "form": "raw",
                    "url": f"{self.grouplens.url}/movielens/{{archive}}",
                },
                "mirror": {
                    "name": "the mirror",
                    "form": "raw",
                    "url": f"{self.mirror.url}/resolve/main/{{archive}}",
                },
                "store": {"name": "RecBole's store", "form": "atomic"},
            },
            "datasets": {},
        }
        self.urls = {"anime": f"{self.store.url}/Anime/anime.zip"}

    def offer(self, name, content, folder, **facts):
        """Put a dataset into the list, pinned to ``content``; ``facts`` replace what is pinned."""
        pinned = {"bytes": len(content), "hashes": {"sha256": hashlib.sha256(content).hexdigest()}}
        self.table["datasets"][name] = (
            {"archive": f"{name}.zip", "folder": folder, "hosts": ["grouplens", "mirror", "store"]}
            | pinned
            | facts
        )
        self.urls[name] = f"{self.store.url}/ProcessedDatasets/{name}.zip"
        self._file.write_text(yaml.safe_dump(self.table), encoding="utf-8")


@contextlib.contextmanager
def three_hosts(tmp_path, monkeypatch):
    """``Hosts`` in the place of the real ones, with little patience."""
    file = tmp_path / "downloads.yaml"
    hosts = Hosts(file)
    file.write_text(yaml.safe_dump(hosts.table), encoding="utf-8")
    monkeypatch.setattr(sources, "downloads_file", lambda: file)
    monkeypatch.setattr(sources, "recbole_urls", lambda: hosts.urls)
    monkeypatch.setattr(dataset, "PAUSE", 0.0)
    monkeypatch.setattr(http, "CONNECT_TIMEOUT", SILENCE)
    monkeypatch.setattr(http, "READ_TIMEOUT", SILENCE)
    for key in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(key, raising=False)
    try:
        yield hosts
    finally:
        for host in hosts.all:
            host.close()


def zip_of(files):
    """A zip with these ``{name: content}``."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return stream.getvalue()


def _rows(half_stars):
    """(user, movie, rating, time): 12 users, 20 movies, ratings on both sides of 3 and 3 itself."""
    stars = (1, 2.5, 3, 3.5, 5) if half_stars else (1, 2, 3, 4, 5)
    for user in range(1, 13):
        for turn in range(15):
            movie = 1 + (user * 3 + turn) % 20
            yield (
                user,
                movie,
                stars[(user + turn * 2) % 5],
                1_000_000_000 + user * 10_000 + turn * 60,
            )


def edition(name):
    """A small MovieLens of this name, as ``(folder in the zip, {member: content})``."""
    genres = ("Action", "Comedy|Drama", "Drama", "Horror|Thriller")
    titles = [f"Story {m} of {genres[m % 4][:5]}, The ({1990 + m % 7})" for m in range(21)]
    if name == "ml-100k":
        flags = ["0|1|" + "0|" * 16 + "0", "0|0|0|0|0|1|0|0|1|" + "0|" * 9 + "0"]
        return "ml-100k", {
            "ml-100k/u.data": "".join(f"{u}\t{m}\t{r}\t{t}\n" for u, m, r, t in _rows(False)),
            "ml-100k/u.item": "".join(
                f"{m}|{titles[m]}|01-Jan-1995||http://x|{flags[m % 2]}\n" for m in range(1, 21)
            ),
            "ml-100k/u.user": "".join(f"{u}|{20 + u}|M|writer|55105\n" for u in range(1, 13)),
        }
    movies = "".join(f"{m}::{titles[m]}::{genres[m % 4]}\n" for m in range(1, 21))
    if name == "ml-1m":
        return "ml-1m", {
            "ml-1m/ratings.dat": "".join(f"{u}::{m}::{r}::{t}\n" for u, m, r, t in _rows(False)),
            "ml-1m/movies.dat": movies,
            "ml-1m/users.dat": "".join(
                f"{u}::F::{18 + u % 3}::{u % 4}::55105\n" for u in range(1, 13)
            ),
            "ml-1m/README": "not wanted",
        }
    if name == "ml-10m":
        return "ml-10M100K", {
            "ml-10M100K/ratings.dat": "".join(
                f"{u}::{m}::{r:g}::{t}\n" for u, m, r, t in _rows(True)
            ),
            "ml-10M100K/movies.dat": movies,
            "ml-10M100K/tags.dat": "1::1::a tag::1\n",
        }
    return name, {
        f"{name}/ratings.csv": "userId,movieId,rating,timestamp\r\n"
        + "".join(f"{u},{m},{float(r)},{t}\r\n" for u, m, r, t in _rows(True)),
        f"{name}/movies.csv": "movieId,title,genres\r\n"
        + "".join(f'{m},"{titles[m]}",{genres[m % 4]}\r\n' for m in range(1, 21)),
        f"{name}/tags.csv": "userId,movieId,tag,timestamp\r\n",
    }


def edition_zip(name):
    """``edition`` as (folder, zip)."""
    folder, files = edition(name)
    return folder, zip_of(files)


#: Words that train LR on a small edition in seconds.
WORDS = [
    "--model=LR",
    "--epochs=1",
    "--train_batch_size=64",
    "--latency_repeats=1",
    "--gpu_id=",
    "--stopping_step=1",
]
