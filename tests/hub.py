"""A model hub on a port of this machine: as much of its protocol as an upload needs."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import yaml

TOKEN = "hf_atokenofnobody"
LARGE = (".gguf", ".safetensors")


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """`answers` replaces answers: {(method, path): (status, message)}. `stored` is called after each large file.

    It takes `room` large files and no more.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # large files by their SHA-256
    requests: list[tuple[str, str]] = field(default_factory=list)
    answers: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    stored: Callable[[], Any] = lambda: None
    room: int = 10
    lock: threading.Lock = field(default_factory=threading.Lock)

    def uploads(self) -> int:
        """How many large files were sent."""
        return sum(method == "PUT" for method, _ in self.requests)


@contextmanager
def running() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        of = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    of: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        try:
            body = self._body()
        except (ConnectionError, ValueError):  # who sent it was killed meanwhile: it is no request
            self.close_connection = True
            return
        self.of.requests.append((self.command, path))
        try:
            if replaced := self.of.answers.get((self.command, path)):
                raise _Refused(*replaced)
            if self.command != "PUT" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise _Refused(401, "Invalid credentials in Authorization header")
            status, answer = 200, self._handle(path, body)
        except _Refused as error:
            status, answer = error.status, {"error": str(error)}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length)
        if len(data) < length:
            raise ConnectionAbortedError
        return data

    def _handle(self, path: str, body: bytes) -> Any:
        if path == "/api/whoami-v2":
            return {"type": "user", "name": "me", "orgs": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            yaml.safe_load(json.loads(body)["content"].split("---")[1])
            return {"errors": [], "warnings": []}
        if self.command == "PUT":
            return self._store(path.rpartition("/")[2], body)
        if path.endswith(".git/info/lfs/objects/batch"):
            return {"transfer": "basic", "objects": [self._action(one) for one in json.loads(body)["objects"]]}
        parts = path.removeprefix("/api/models/").split("/")
        name = "/".join(parts[:2])
        repository = self.of.repositories.get(name)
        if repository is None:
            raise _Refused(404, "Repository not found")
        if parts[2:3] == ["preupload"]:
            files = [one["path"] for one in json.loads(body)["files"]]
            modes = {file: "lfs" if file.endswith(LARGE) else "regular" for file in files}
            return {
                "files": [{"path": file, "uploadMode": mode, "shouldIgnore": False} for file, mode in modes.items()]
            }
        if parts[2:3] == ["commit"]:
            return self._commit(name, repository, [json.loads(line) for line in body.splitlines()])
        siblings = [{"rfilename": file} for file in [".gitattributes", *repository.files]]
        return {"_id": "1", "id": name, "sha": "0" * 40, "private": repository.private, "siblings": siblings}

    def _create(self, wish: dict[str, Any]) -> Any:
        name = f"{wish['organization']}/{wish['name']}"
        if wish["organization"] != "me":
            raise _Refused(403, f"You don't have the rights to create a model under {wish['organization']}")
        if name in self.of.repositories:
            raise _Refused(409, "You already created this model repo")
        self.of.repositories[name] = Repository(wish.get("visibility") == "private")
        return {"url": f"{self.of.url}/{name}", "name": name}

    def _action(self, one: dict[str, Any]) -> dict[str, Any]:
        if one["oid"] in self.of.objects:
            return {"oid": one["oid"], "size": one["size"]}
        return {**one, "actions": {"upload": {"href": f"{self.of.url}/objects/{one['oid']}"}}}

    def _store(self, oid: str, body: bytes) -> Any:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Refused(400, "not what was announced")
        with self.of.lock:
            if len(self.of.objects) == self.of.room:
                raise _Refused(507, "full")
            self.of.objects[oid] = body
            self.of.stored()
        return {}

    def _commit(self, name: str, repository: Repository, lines: list[dict[str, Any]]) -> Any:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                repository.commits.append(value["summary"])
            elif line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            else:
                repository.files[value["path"]] = self.of.objects[value["oid"]]
        return {"commitUrl": f"{self.of.url}/{name}/commit/1", "commitOid": "1" * 40}
