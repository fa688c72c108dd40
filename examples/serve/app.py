"""Serve a finished run by HTTP: scores of items, or of rows, and recommendations, as JSON.

    pip install fastapi uvicorn
    python examples/serve/app.py --run=saved/GenCI-ml-100k-<time> [--port=8000]

One thread asks the model, so that requests never share its state; `--waiting` of them may stand in
line, and the next is told to come back (503). For more throughput start more processes behind a
proxy, which also adds what this example leaves out: TLS and who may ask.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pandas as pd
import torch
import uvicorn
from bodies import (
    MOST_BYTES,
    MOST_PAIRS,
    Asked,
    Recommendations,
    RecommendRequest,
    Refusal,
    RowScores,
    RowsRequest,
    ScoreRequest,
    Scores,
)
from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from recbole_genci import Ranker

MOST_THREADS, MOST_WAITING = max(64, os.cpu_count() or 1), 10_000
MOST_BODIES, MOST_CONNECTIONS = 100, 900  # on their way; open, within 1,024 open files
GRACE = 25  # seconds for the answers after SIGTERM; bodies must have come earlier


class Worker(logging.Handler):
    """A thread that asks the ranker for one request at a time, and hears its warnings."""

    def __init__(self, threads: int, waiting: int) -> None:
        super().__init__(logging.WARNING)
        self._places = threading.BoundedSemaphore(waiting + 1)
        # torch counts threads for each thread that calls it.
        self._pool = ThreadPoolExecutor(1, "ranker", torch.set_num_threads, (threads,))
        self._heard: list[str] = []
        logging.getLogger("recbole_genci").addHandler(self)

    def end(self) -> None:
        """Leave what has not begun; uvicorn has waited for it."""
        logging.getLogger("recbole_genci").removeHandler(self)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append(record.getMessage())

    async def answer(self, ask: Callable[..., Any], **words: Any) -> tuple[Any, list[str]]:
        """What `ask` returns, and the warnings beside it."""
        if not self._places.acquire(blocking=False):
            raise too_many("Too many requests are waiting")
        future = self._pool.submit(self._ask, ask, words)
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def _ask(self, ask: Callable[..., Any], words: dict[str, Any]) -> tuple[Any, list[str]]:
        self._heard = []
        try:
            return ask(**words), self._heard
        except ValueError as error:  # the ranker's own sentences
            raise HTTPException(422, str(error)) from error


class BodyLimit:
    """Refuses a body that is too large, whatever its header says, that does not come in time, or
    that is one of too many on their way.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app, self._seconds, self._on_their_way = app, seconds, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, is_whole, is_counted = 0, scope["type"] != "http", False
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._seconds

        def count(is_more: bool) -> None:
            nonlocal is_counted
            self._on_their_way += is_more - is_counted
            is_counted = is_more

        async def limited() -> Message:
            nonlocal size, is_whole
            if is_whole:  # what comes now is that the client has left
                return await receive()
            if not is_counted and self._on_their_way >= MOST_BODIES:
                raise too_many("Too many clients are sending")
            count(True)
            try:
                message = await asyncio.wait_for(receive(), deadline - clock())
            except TimeoutError as error:
                words = f"The body did not come within {self._seconds:g} seconds; send it at once."
                raise HTTPException(408, words, {"Connection": "close"}) from error
            size += len(message.get("body", b""))
            if size > MOST_BYTES:
                words = f"The body has more than {MOST_BYTES:,} bytes; ask for less at a time."
                raise HTTPException(413, words)
            is_whole = not message.get("more_body", False)
            count(not is_whole)
            return message

        try:
            await self._app(scope, limited, send)
        finally:
            count(False)


class HeaderLimit(AutoHTTPProtocol):
    """A connection that ends if the headers of a request do not come in time; uvicorn waits."""

    def __init__(self, *, header_seconds: float, **words: Any) -> None:
        super().__init__(**words)
        self._seconds, self._clock = header_seconds, None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._set_clock(True)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_upgraded = self.transport.get_protocol() is not self
        self._set_clock(not is_upgraded and (self.cycle is None or self.cycle.response_complete))

    def connection_lost(self, error: Exception | None) -> None:
        self._set_clock(False)
        super().connection_lost(error)

    def _set_clock(self, is_waiting: bool) -> None:
        """Run the clock while headers are on their way; further bytes do not set it back."""
        if is_waiting and self._clock is None:
            self._clock = self.loop.call_later(self._seconds, self._end)
        elif not is_waiting and self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _end(self) -> None:
        words = f"The headers did not come within {self._seconds:g} seconds; send them at once."
        body = json.dumps({"error": words})
        head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        if not self.transport.is_closing():
            answer = f"HTTP/1.1 408 Request Timeout\r\n{head}Connection: close\r\n\r\n{body}"
            self.transport.write(answer.encode())
            self.transport.close()


def too_many(what: str) -> HTTPException:
    return HTTPException(503, f"{what}; ask again in a second.", {"Retry-After": "1"})


def create_app(
    ranker: Ranker, threads: int = 1, waiting: int = 32, body_seconds: float = 10
) -> FastAPI:
    """The application that answers for a ranker."""
    refusals = {code: {"model": Refusal} for code in (408, 413, 422, 503)}
    worker, run, whole = Worker(threads, waiting), ranker.run, ranker.run.parts[0]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        worker.end()

    app = FastAPI(title="recbole_genci", responses=refusals, lifespan=lifespan)
    app.add_middleware(BodyLimit, seconds=body_seconds)
    user_columns = whole.user_feat.interaction if whole.user_feat is not None else ()
    has_users = whole.uid_field is not None  # else it has no items either, and scores rows only
    users, items = (len(ranker.users), len(ranker.items)) if has_users else (0, 0)
    facts = {
        "status": "ok",
        "run": run.folder.name,
        "model": run.config["model"],
        "dataset": run.config["dataset"],
        "weights_sha256": run.metrics.get("weights_sha256"),
        "users": users,
        "items": items,
        "user_features": [name for name in user_columns if name != whole.uid_field],
        "has_texts": bool(ranker.texts),
        "unknown_users": "need an entry in histories or user_features",
        "takes_candidates": bool(run.model.generates_items),
    }

    def check_users() -> None:
        if not has_users:
            words = "The run's rows have neither users nor items; /score_rows scores rows."
            raise HTTPException(422, words)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return facts

    @app.post("/score")
    async def score(asked: ScoreRequest) -> Scores:
        check_users()
        check_pairs(asked, len(asked.items), "items")
        scores, said = await worker.answer(ranker.score, **asked.model_dump())
        return Scores(scores=scores.tolist(), warnings=said)

    @app.post("/score_rows")
    async def score_rows(asked: RowsRequest) -> RowScores:
        def ask(rows: list[dict], **words: Any) -> Any:
            # pandas would make floats of whole numbers beside a missing one.
            return ranker.score_rows(pd.DataFrame(rows, dtype=object), **words)

        scores, said = await worker.answer(ask, **asked.model_dump())
        return RowScores(scores=scores.tolist(), warnings=said)

    @app.post("/recommend")
    async def recommend(asked: RecommendRequest) -> Recommendations:
        check_users()
        check_pairs(asked, asked.candidates or items, "candidates")
        table, said = await worker.answer(ranker.recommend, **asked.model_dump())
        return Recommendations(recommendations=table.to_dict("records"), warnings=said)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Any, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = cut(".".join(str(part) for part in first["loc"][1:])) or "the body"
        if first["type"] == "json_invalid":
            words = f"The body is no JSON: {first['ctx']['error']} at character {where}."
        else:
            found = "" if first["type"] == "missing" else f"; found {first['input']!r:.100}"
            said = first["msg"].removeprefix("Value error, ")
            words = f"{where}: {said}{found}. /docs shows what is asked for."
        return JSONResponse({"error": words}, 422)

    @app.exception_handler(AnyHTTPException)
    async def refused(request: Any, error: AnyHTTPException) -> JSONResponse:
        words = {
            400: "The body is no JSON, is nested too deep or has a number of too many digits.",
            404: f"There is no {cut(request.url.path)}; /docs lists what there is.",
            405: f"{request.url.path} takes no {cut(request.method)}; /docs says what it takes.",
        }.get(error.status_code, error.detail)
        return JSONResponse({"error": words}, error.status_code, error.headers)

    return app


def cut(text: str) -> str:
    """What a client has sent, short enough to be sent back."""
    return text if len(text) <= 200 else f"{text[:200]}..."


def check_pairs(asked: Asked, width: int, key: str) -> None:
    if len(asked.users) > 1 and len(asked.users) * width > MOST_PAIRS:
        raise HTTPException(
            422,
            f"users: {len(asked.users)} with {width:,} items each are more than {MOST_PAIRS:,} "
            f"pairs; ask for fewer users or {key} at a time.",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="folder of a run, or hf:user/name")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine alone")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--waiting", type=int, default=32, help="requests in line at most")
    parser.add_argument("--body-seconds", type=int, default=10, help="for headers, and for a body")
    words = parser.parse_args()
    for name, least, most in (
        ("port", 0, 2**16 - 1),
        ("threads", 1, MOST_THREADS),
        ("waiting", 0, MOST_WAITING),
        ("body_seconds", 1, GRACE - 5),
    ):
        if not least <= (number := getattr(words, name)) <= most:
            option = name.replace("_", "-")
            parser.exit(2, f"--{option}: {number} is not within {least} and {most}.\n")
    for each in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again when it has ended
        signal.signal(each, lambda *_: sys.exit(0))
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(words.threads)
    try:
        listener = listen(words.host, words.port)
        ranker = Ranker(words.run)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")
    config = uvicorn.Config(
        create_app(ranker, words.threads, words.waiting, words.body_seconds),
        http=partial(HeaderLimit, header_seconds=words.body_seconds),
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
    )
    host = f"[{words.host}]" if ":" in words.host else words.host
    logging.info("running on http://%s:%d", host, listener.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, taken before the run is loaded; raises ValueError if there is none."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address, family=family, backlog=2048)
    except (OSError, UnicodeError) as error:  # Unicode: a name that no host can have
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ValueError(
            f"--host, --port: {cut(host)}:{port} cannot be listened on ({why}). Name another."
        ) from error
    # Connections take it over. asyncio sets it only where the socket's proto says TCP, and without
    # it the body of an answer waits 40 ms for the client to acknowledge its headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


if __name__ == "__main__":
    main()
