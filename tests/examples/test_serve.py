"""The HTTP example answers as the ranker does, whoever else asks and whatever is sent."""

import asyncio
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from conftest import SMALL_GENCI, TINY, tiny_rows, write_dataset, write_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_genci import Ranker
from recbole_genci.quick_start import run

for library in ("fastapi", "uvicorn"):
    pytest.importorskip(library, reason="the HTTP example needs pip install fastapi uvicorn")

ROOT = Path(__file__).parents[2]
APP = ROOT / "examples/serve/app.py"
WAITING = 8


class Server:
    """The example in a process of its own, at a free port."""

    def __init__(self, folder, *words):
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, str(APP), f"--run={folder}", "--port=0", *words],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
                self.address = found[1]
                break
        else:
            raise AssertionError("".join(self.log))
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def post(self, route, body):
        return requests.post(f"{self.address}/{route}", json=body, timeout=60)

    def end(self, by=signal.SIGTERM):
        self.process.send_signal(by)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("http")
    keys = write_dataset(target / "data", tiny_rows())
    keys |= {"checkpoint_dir": str(target / "saved"), "results_dir": str(target / "results")}
    keys["eval_batch_size"] = 8192
    (result,) = run("GenCI", "tiny", config_dict=keys | SMALL_GENCI)
    return result.folder


@pytest.fixture(scope="module")
def ranker(folder):
    return Ranker(folder)


@pytest.fixture(scope="module")
def server(folder):
    server = Server(folder, f"--waiting={WAITING}")
    yield server
    assert server.end() == 0
    assert "Traceback" not in "".join(server.log)


def test_health_says_what_is_served(server, ranker, folder):
    found = requests.get(f"{server.address}/health", timeout=60).json()
    assert found == {
        "status": "ok",
        "run": folder.name,
        "model": "GenCI",
        "dataset": "tiny",
        "weights_sha256": ranker.run.metrics["weights_sha256"],
        "users": len(ranker.users),
        "items": len(ranker.items),
        "user_features": ["age"],
        "has_texts": True,
        "unknown_users": "need an entry in histories or user_features",
        "takes_candidates": True,
    }


def test_a_run_without_users_and_items_scores_rows_alone(tmp_path, monkeypatch):
    from fastapi import HTTPException

    rows = [[number % 2, f"c{number % 5}"] for number in range(60)]
    write_rows(tmp_path, "shop", ["label:float", "color:token"], rows)
    keys = {"load_col": {"inter": "*"}, "USER_ID_FIELD": None, "ITEM_ID_FIELD": None}
    keys |= {"data_path": str(tmp_path), "gpu_id": "", "epochs": 1, "metrics": TINY["metrics"]}
    ranker = Ranker(run("LR", "shop", config_dict=keys)[0].folder)
    monkeypatch.syspath_prepend(str(APP.parent))
    app = runpy.run_path(str(APP))["create_app"](ranker)
    routes = {route.path: route for route in app.routes}
    facts = asyncio.run(routes["/health"].endpoint())
    assert (facts["users"], facts["items"], facts["user_features"]) == (0, 0, [])

    def answer(path, **body):
        asked = routes[path].body_field.field_info.annotation(**body)
        return asyncio.run(routes[path].endpoint(asked))

    scores = answer("/score_rows", rows=[{"color": "c1"}, {"color": None}]).scores
    table = pd.DataFrame({"color": ["c1", None]})
    np.testing.assert_allclose(scores, ranker.score_rows(table), rtol=1e-6)
    with pytest.raises(HTTPException, match="neither users nor items; /score_rows") as refused:
        answer("/recommend", users=["u1"])
    assert refused.value.status_code == 422


def asked(number):
    """A request, its route, and the ranker's arguments."""
    rng = np.random.default_rng(number)
    users = [f"u{user}" for user in rng.choice(12, 2, replace=False)] + ["new"]
    histories = {"new": [f"i{item}" for item in rng.integers(0, 20, 3)]}
    if number % 2:
        histories[users[0]] = ["i2", "i7"]
    words = {"users": users, "histories": histories, "append": bool(number % 2)}
    words["user_features"] = {"new": {"age": [21, "24", None][number % 3]}}
    if number % 3 == 0:
        return "score", words | {"items": [f"i{item}" for item in rng.integers(0, 20, 5)]}
    if number % 3 == 1:
        return "recommend", words | {"k": 3, "candidates": [None, 6][number % 2]}
    rows = [
        {"user_id": user, "item_id": f"i{item}", "timestamp": 1_700_000_000 + int(later)}
        for user, item, later in zip(users, rng.integers(0, 20, 3), rng.integers(0, 40, 3))
    ]
    return "score_rows", {"rows": rows, "user_features": words["user_features"]}


def expected(ranker, route, words):
    if route == "score_rows":
        rows = pd.DataFrame(words["rows"])
        return ranker.score_rows(rows, user_features=words["user_features"]).tolist()
    answer = getattr(ranker, route)(**words)
    return answer.tolist() if route == "score" else answer.to_dict("records")


def test_many_clients_at_once_get_the_answers_of_the_ranker(server, ranker):
    cases = [asked(number) for number in range(36)]
    with ThreadPoolExecutor(WAITING) as clients:
        answers = list(clients.map(lambda case: server.post(*case), cases))
    for (route, words), answer in zip(cases, answers):
        assert answer.status_code == 200, answer.text
        found = answer.json()
        body = found["recommendations" if route == "recommend" else "scores"]
        assert body == expected(ranker, route, words)
        unknown = [w for w in found["warnings"] if "users that the run does not know" in w]
        assert len(unknown) == (route == "score_rows")  # the warnings of this request alone


def test_unknown_values_are_counted_for_the_client_that_sent_them(server):
    words = {"users": ["new"], "items": ["i1"], "user_features": {"new": {"age": "99"}}}
    found = server.post("score", words).json()
    assert found["warnings"] == [
        "1 value of 'age' is unknown to this run, the first is '99'. It counts as missing."
    ]
    assert server.post("score", {"users": ["u1"], "items": ["i1"]}).json()["warnings"] == []


GOOD = {"users": ["u1"], "items": ["i1"]}


@pytest.mark.parametrize(
    "route, change, words",
    [
        ("score", {"users": ["zz"]}, "user_id: 1 of 1 are unknown to this run, the first is 'zz'"),
        ("score", {"items": ["i99"]}, "item_id: 1 of 1 are unknown"),
        ("score", {"users": []}, "users: List should have at least 1 item.*found [].*/docs"),
        ("score", {"users": "u1"}, "users: Input should be a valid list; found 'u1'"),
        ("score", {"users": [1]}, "users.0: Input should be a valid string; found 1"),
        ("score", {"users": ["u1"] * 101}, "users: List should have at most 100 items"),
        ("score", {"items": ["i1"] * 10_001}, "items: List should have at most 10000 items"),
        (
            "score",
            {"users": ["u1"] * 11, "items": ["i1"] * 10_000},
            "users: 11 with 10,000 items each are more than 100,000 pairs; ask for fewer",
        ),
        ("score", {"histories": {"u1": ["i1"] * 1_001}}, "histories.u1: List should have at most"),
        ("score", {"histories": {"u2": ["i1"]}}, "histories: 'u2' is not one of the users asked"),
        ("score", {"histories": {"u1": ["i99"]}}, "item_id: 1 of 1 are unknown"),
        ("score", {"append": "yes"}, "append: Input should be a valid boolean; found 'yes'"),
        ("score", {"user_features": {"u1": {"ages": 3}}}, "'ages' is no feature of this run's"),
        ("score", {"user_features": {"u1": {"age": True}}}, "u1.age: A feature is a text, a num"),
        ("score", {"user_features": {"u1": {"age": {}}}}, "u1.age: A feature is a text, a number"),
        ("score", {"user_features": {"u1": {"age": 2.5}}}, "age: 2.5 is no name"),
        ("score", {"context": {"device": "tv"}}, "context: 'device' is no feature of this run's"),
        ("score", {"run": "saved/other"}, "run: Extra inputs are not permitted"),
        ("recommend", {"items": None}, "items: Extra inputs are not permitted"),
        ("recommend", {"k": 0}, "k: Input should be greater than or equal to 1; found 0"),
        ("recommend", {"k": 1_001}, "k: Input should be less than or equal to 1000"),
        ("recommend", {"k": 5, "candidates": 2}, "candidates: 2 is not a whole number of at least"),
        ("score_rows", {"rows": [{"user_id": "u1"}]}, "rows: there is no column 'item_id'"),
        (
            "score_rows",
            {"rows": [{}]},
            "rows: there is no column 'user_id', which the run's rows have; there are none.",
        ),
        (
            "score_rows",
            {"rows": [{"user_id": "u1", "item_id": "i1", "price": 1e300}]},
            "0.price: A feature is a text, a number up to 1e30, null or a list of them; found 1e+3",
        ),
        ("score_rows", {"rows": []}, "rows: List should have at least 1 item"),
        ("score_rows", {}, "rows: Field required. /docs"),
        (
            "score_rows",
            {"rows": [{f"c{row}_{n}": 1 for n in range(9)} for row in range(5_000)]},
            "rows: Rows should have at most 200 columns, not 45,000",
        ),
        (
            "score_rows",
            {"rows": [{"user_id": "u1", "item_id": "i1", "item_id_list": 5}]},
            "rows: 'item_id_list' is 5, which is neither a list nor a text",
        ),
        ("score_rows", {"rows": [{"user_id": 2.5, "item_id": "i1"}]}, "user_id: 2.5 is no name"),
        (
            "score_rows",  # a float beside it must not cost the name its last digit
            {"rows": [{"user_id": "u1", "item_id": n} for n in (9007199254740993, 2.0)]},
            "item_id: 2 of 2 are unknown to this run, the first is '9007199254740993'",
        ),
        (
            "score_rows",
            {"rows": [{"user_id": 1e30, "item_id": "i1"}]},
            "user_id: 1e+30 is no name: floating-point numbers from 9007199254740992 on lose",
        ),
    ],
)
def test_a_wrong_request_is_one_sentence(server, route, change, words):
    good = {"score": GOOD, "recommend": {"users": ["u1"]}, "score_rows": {}}[route]
    answer = server.post(route, good | change)
    assert answer.status_code == 422 and list(answer.json()) == ["error"]
    pieces = re.escape(words).replace(r"\.\*", ".*")
    assert re.search(pieces, answer.json()["error"]), answer.text


@pytest.mark.parametrize(
    "body, status, words",
    [
        (b'{"users": ["u1"', 422, "The body is no JSON: Expecting ',' delimiter at character"),
        (b"", 422, "the body: Field required"),
        (b"[" * 500_000, 400, "The body is no JSON, is nested too deep"),
        (b"[" + b"9" * 5_000 + b"]", 400, "a number of too many digits"),
        (b"\xff{}", 400, "The body is no JSON"),
        (b'"' + b"a" * 2**20 + b'"', 413, "The body has more than 1,048,576 bytes"),
    ],
)
def test_a_body_that_is_no_request(server, body, status, words):
    for data in (
        body,
        filter(None, [body[:7], body[7:]]),
    ):  # with its length in the header, and without
        answer = requests.post(
            f"{server.address}/score",
            data=data,
            headers={"content-type": "application/json"},
            timeout=60,
        )
        assert (answer.status_code, list(answer.json())) == (status, ["error"])
        assert words in answer.json()["error"]
    assert server.post("score", GOOD).status_code == 200


@pytest.mark.parametrize(
    "route, change",
    [
        ("score_rows", {"rows": [{"user_id": "u1", "item_id": "a" * 9_999}]}),
        ("score_rows", {"rows": [{"user_id": "u1", "item_id": ["a" * 9_999]}]}),
        ("score_rows", {"rows": [{"user_id": "u1", "a" * 9_999: 1}]}),
        ("score", GOOD | {"a" * 9_999: 1}),
        ("score", GOOD | {"user_features": {"u1": {"age": "a" * 9_999}}}),
    ],
)
def test_what_was_sent_comes_back_in_short(server, route, change):
    assert len(server.post(route, change).text) < 600


@pytest.mark.parametrize("value", ["1e25", "-1e30", "1" + "0" * 25, r'"\ud800"', "1e-320", "[[]]"])
@pytest.mark.parametrize("column", ["user_id", "item_id", "timestamp", "item_id_list", "age"])
def test_values_that_libraries_choke_on(server, column, value):
    row = f'{{"user_id": "u1", "item_id": "i1", "timestamp": 5, "{column}": {value}}}'
    bodies = {
        "score_rows": f'{{"rows": [{row}, {row}]}}',
        "score": f'{{"users": ["u1"], "items": ["i1"], "histories": {{"u1": {value}}}, '
        f'"user_features": {{"u1": {{"{column}": {value}}}}}}}',
    }
    for route, body in bodies.items():
        answer = requests.post(
            f"{server.address}/{route}",
            data=body,
            headers={"content-type": "application/json"},
            timeout=60,
        )
        assert answer.status_code in (200, 400, 422), (body, answer.text)


def test_a_wrong_route_or_method(server):
    missing = requests.get(f"{server.address}/../config.yaml", timeout=60)
    assert missing.status_code == 404 and "/docs lists" in missing.json()["error"]
    long = requests.get(f"{server.address}/{'a' * 9_000}", timeout=60)
    assert long.status_code == 404 and len(long.text) < 300
    wrong = requests.get(f"{server.address}/score", timeout=60)
    assert wrong.status_code == 405 and "/score takes no GET" in wrong.json()["error"]


_NAMES = st.sampled_from(["u1", "i1", "age", "user_id", "item_id", "timestamp", "item_id_list", ""])
_FLOATS = st.floats(allow_subnormal=False)  # training may have turned them off
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _FLOATS | st.text(max_size=5) | _NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)
_KEYS = ("users", "items", "histories", "user_features", "context", "append", "k", "candidates")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["score", "recommend", "score_rows"]),
    st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=2),
    st.lists(st.dictionaries(_NAMES, _VALUES, max_size=4), max_size=2),
)
def test_no_body_is_a_fault_of_the_server(server, route, change, rows):
    if route == "score_rows":
        body = {"rows": [{"user_id": "u1", "item_id": "i1"} | row for row in rows]}
    else:
        body = {key: value for key, value in GOOD.items() if route == "score" or key == "users"}
        body |= change
    answer = requests.post(
        f"{server.address}/{route}",
        data=json.dumps(body),
        headers={"content-type": "application/json"},
        timeout=60,
    )
    assert answer.status_code in (200, 400, 422), (body, answer.text)


def test_who_finds_the_line_full_is_told_to_come_back(server):
    body = {"users": [f"u{n}" for n in range(10)], "items": ["i1", "i2"] * 5_000}
    with ThreadPoolExecutor(3 * WAITING) as clients:
        answers = list(clients.map(lambda _: server.post("score", body), range(3 * WAITING)))
    good = [answer for answer in answers if answer.status_code == 200]
    full = [answer for answer in answers if answer.status_code == 503]
    assert good and full and len(good) + len(full) == len(answers)
    assert all(answer.json() == good[0].json() for answer in good)
    for answer in full:
        assert answer.headers["retry-after"] == "1"
        assert answer.json() == {"error": "Too many requests are waiting; ask again in a second."}
    assert server.post("score", GOOD).status_code == 200


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_answers(folder, by):
    server = Server(folder)
    body = {"users": [f"u{n}" for n in range(10)], "items": ["i1", "i2"] * 5_000}
    with ThreadPoolExecutor(3) as clients:
        answers = [clients.submit(server.post, "score", body) for _ in range(3)]
        threading.Event().wait(0.5)  # until the first is at work
        assert requests.get(f"{server.address}/health", timeout=60).ok
        assert not all(answer.done() for answer in answers)
        assert server.end(by) == 0
        assert [answer.result().status_code for answer in answers] == [200] * 3
    assert "Traceback" not in "".join(server.log)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(AssertionError) as error:
        Server(tmp_path)
    assert str(error.value) == f"{tmp_path} is not the folder of a run: it has no config.yaml.\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threads=0"], "--threads: 0 is not within 1 and "),
        (["--threads=1000000"], "--threads: 1000000 is not within 1 and "),
        (["--waiting=-1"], "--waiting: -1 is not within 0 and 10000.\n"),
        (["--port=65536"], "--port: 65536 is not within 0 and 65535.\n"),
        (["--body-seconds=60"], "--body-seconds: 60 is not within 1 and 20.\n"),
        (["--host=no.such.host.invalid"], "--host, --port: no.such.host.invalid:0 cannot be liste"),
        ([f"--host={'a' * 999}.b"], f"--host, --port: {'a' * 200}...:0 cannot be listened on"),
        (["--port=TAKEN"], "--host, --port: 127.0.0.1:TAKEN cannot be listened on (Address al"),
    ],
)
def test_a_wrong_option_is_one_sentence_before_the_run_is_loaded(
    words, message, capsys, monkeypatch, tmp_path
):
    monkeypatch.syspath_prepend(APP.parent)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ["--port=0", *(word.replace("TAKEN", port) for word in words)]
        monkeypatch.setattr("sys.argv", ["app.py", f"--run={tmp_path}", *words])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(APP), run_name="__main__")
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1, said
    assert said.startswith(message.replace("TAKEN", port)), said


def test_no_packet_of_an_answer_waits_for_another(monkeypatch):
    monkeypatch.syspath_prepend(str(APP.parent))
    with runpy.run_path(str(APP))["listen"]("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def unfinished(server):
    """A client that sends half of a body."""
    client = socket.create_connection(server.address[7:].split(":"), 30)
    head = "POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    client.sendall(f"{head}Content-Length: 1000000\r\n\r\n[[".encode())
    return client


def answer_of(client):
    """All that a server sends until it closes the connection."""
    with client, client.makefile("rb") as stream:
        return stream.read().decode()


def test_what_does_not_come_is_refused_and_the_connection_closed(folder):
    server = Server(folder, "--body-seconds=1")
    body = unfinished(server)
    silent, slow, second = (
        socket.create_connection(server.address[7:].split(":"), 30) for _ in range(3)
    )
    slow.sendall(b"GET /health HTTP/1.1\r\n")
    second.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    answered = b""
    while not answered.endswith(b"}"):
        answered += second.recv(4096)
    assert b"200 OK" in answered  # and the connection stays
    second.sendall(b"GET /health HT")
    threading.Event().wait(0.5)
    slow.sendall(b"Host: x\r\n")  # which gives no more time
    start = time.monotonic()
    for client in (silent, slow, second):
        refusal = answer_of(client)
        assert refusal.startswith("HTTP/1.1 408 ") and refusal.endswith(
            '{"error": "The headers did not come within 1 seconds; send them at once."}'
        )
    assert time.monotonic() - start < 1
    answer = answer_of(body)
    assert answer.startswith("HTTP/1.1 408 ") and answer.endswith(
        '{"error":"The body did not come within 1 seconds; send it at once."}'
    )
    assert server.post("score", GOOD).status_code == 200
    assert server.end() == 0
    assert "Traceback" not in "".join(server.log)


def test_clients_that_send_slowly_are_limited_and_delay_no_end(folder):
    server = Server(folder, "--body-seconds=5")
    clients = [unfinished(server) for _ in range(110)]
    assert requests.get(f"{server.address}/health", timeout=60).ok
    full = server.post("score", GOOD)
    assert full.status_code == 503 and full.headers["retry-after"] == "1"
    assert full.json() == {"error": "Too many clients are sending; ask again in a second."}
    assert server.end() == 0
    codes = Counter(answer_of(client).split()[1] for client in clients)
    assert codes == {"408": 100, "503": 10} and "Traceback" not in "".join(server.log)
