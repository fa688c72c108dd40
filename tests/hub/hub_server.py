"""A server on the loopback in the place of the Hugging Face hub, as far as its client asks it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_ada"
LARGE = (".safetensors", ".npy")  # files that the client uploads one by one, before the commit


@dataclass
class Repository:
    """Commits, newest last, each with all its files by name."""

    private: bool = True
    gated: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def commit(self, files: dict[str, bytes]) -> str:
        number = f"{len(self.commits)}{sorted(files.items())}"
        self.commits.append((hashlib.sha1(number.encode()).hexdigest(), files))
        return self.commits[-1][0]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((each for each in self.commits if each[0] == revision), None)

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][1]


class Refused(Exception):
    """An answer with a status, and the hub's own code for it."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.headers = status, {}
        if code:
            self.headers["X-Error-Code"] = code
        if message:
            self.headers["X-Error-Message"] = message


class Hub:
    """The server. ``asked`` lists the requests; ``broken`` maps a part of one to a status."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.broken: dict[str, int] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet, for which no acknowledgement is awaited

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = unquote(urlsplit(self.path).path)
                hub.asked.append(f"{self.command} {path}")
                is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                try:
                    for part, status in hub.broken.items():
                        if part in hub.asked[-1]:
                            raise Refused(status, message="out of order")
                    headers, content = hub.answer(self.command, path, body, is_known)
                    status = 200
                except Refused as refused:
                    status, headers, content = refused.status, refused.headers, b"{}"
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = answer

            def log_message(self, *words) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # ------------------------------------------------------------ what it answers

    def answer(self, verb: str, path: str, body: bytes, is_known: bool) -> tuple[dict, bytes]:
        if verb == "GET" and path == "/api/whoami-v2":
            if not is_known:
                raise Refused(401, message="Invalid credentials in Authorization header")
            return self._json({"type": "user", "name": "ada", "orgs": []})
        if verb == "POST" and path == "/api/validate-yaml":
            return self._json({"warnings": [], "errors": []})
        if verb == "POST" and path == "/api/repos/create":
            return self._create(json.loads(body), is_known)
        if verb == "PUT" and path.startswith("/large/"):
            digest = path.removeprefix("/large/")
            assert hashlib.sha256(body).hexdigest() == digest
            self.large[digest] = body
            return {}, b""
        if found := re.fullmatch(r"/([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", path):
            self._of(found[1], is_known)
            objects = [
                each | {"actions": {"upload": {"href": f"{self.url}/large/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            return self._json({"objects": objects, "transfer": "basic"})
        if found := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path):
            return self._file(self._of(found[1], is_known), found[2], found[3], is_known)
        if found := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/(\w+)/([^/]+))?", path):
            repository = self._of(found[1], is_known)
            if found[2] == "preupload":
                return self._json({"files": [self._mode(e) for e in json.loads(body)["files"]]})
            if found[2] == "commit":
                return self._commit(found[1], repository, body)
            return self._info(found[1], repository, found[3] or "main")
        raise Refused(404)

    def _json(self, value: object) -> tuple[dict, bytes]:
        return {"Content-Type": "application/json"}, json.dumps(value).encode()

    def _of(self, name: str, is_known: bool) -> Repository:
        repository = self.repositories.get(name)
        if repository is None or (repository.private and not is_known):
            raise Refused(404 if is_known else 401, "RepoNotFound")
        return repository

    def _create(self, request: dict, is_known: bool) -> tuple[dict, bytes]:
        name = f"{request['organization']}/{request['name']}"
        if not is_known or request["organization"] != "ada":
            raise Refused(403, message="You don't have the rights to create a model there")
        if name in self.repositories:
            raise Refused(409)
        private = request.get("visibility", "") == "private" or bool(request.get("private"))
        self.repositories[name] = Repository(private)
        self.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        return self._json({"url": f"{self.url}/{name}"})

    @staticmethod
    def _mode(file: dict) -> dict:
        mode = "lfs" if file["path"].endswith(LARGE) else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def _commit(self, name: str, repository: Repository, body: bytes) -> tuple[dict, bytes]:
        files = dict(repository.files)
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                head = repository.commits[-1][0]
                if value.get("parentCommit", head) != head:
                    raise Refused(412, message="The branch has moved on")
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            else:
                assert line["key"] == "deletedFile"
                if files.pop(value["path"], None) is None:
                    raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
        commit = repository.commit(files)
        return self._json({"commitUrl": f"{self.url}/{name}/commit/{commit}", "commitOid": commit})

    def _info(self, name: str, repository: Repository, revision: str) -> tuple[dict, bytes]:
        commit, files = self._at(repository, revision)
        return self._json(
            {
                "id": name,
                "modelId": name,
                "sha": commit,
                "private": repository.private,
                "gated": "manual" if repository.gated else False,
                "siblings": [{"rfilename": each} for each in sorted(files)],
                "tags": [],
                "downloads": 0,
            }
        )

    @staticmethod
    def _at(repository: Repository, revision: str) -> tuple[str, dict[str, bytes]]:
        found = repository.at(revision)
        if found is None:
            raise Refused(404, "RevisionNotFound")
        return found

    def _file(
        self, repository: Repository, revision: str, name: str, is_known: bool
    ) -> tuple[dict, bytes]:
        if repository.gated:
            raise Refused(403 if is_known else 401, "GatedRepo")
        commit, files = self._at(repository, revision)
        if name not in files:
            refused = Refused(404, "EntryNotFound")
            refused.headers["X-Repo-Commit"] = commit
            raise refused
        content = files[name]
        kind = hashlib.sha256 if name.endswith(LARGE) else hashlib.sha1
        return {"X-Repo-Commit": commit, "ETag": f'"{kind(content).hexdigest()}"'}, content


@contextlib.contextmanager
def hub_on_the_loopback(tmp_path, monkeypatch):
    """A hub on the loopback, where this process is logged in as ada, with an empty cache."""
    server = Hub()
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(f"{constants}.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(f"{constants}.HF_HUB_DISABLE_XET", True)  # files over plain HTTP
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    try:
        yield server
    finally:
        server.close()
