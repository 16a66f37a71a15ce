"""A gateway to test with: in this process over ASGI, or a real server with uvicorn on a free port of loopback."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import openai
import uvicorn
from starlette.applications import Starlette

from ftq.programs import ServeOptions
from ftq.settings import Settings
from ftq.store.gateway.keys import Limits
from gateway import program
from gateway.app import make_app
from tests.tools import PATIENCE

Model = TypeVar("Model", bound=openai.BaseModel)
OURS = {"user_provided_suffix"}  # OpenAI's answers have it, its clients' types don't
CHATS = [[("user", f"What is {n}?"), ("assistant", f"It is {n}.")] for n in range(12)]
ROWS = b"".join(
    json.dumps({"messages": [{"role": role, "content": text} for role, text in chat]}).encode() + b"\n"
    for chat in CHATS
)


def settings_of(home: Path) -> Settings:
    return Settings.from_env({"FTQ_HOME": str(home)})


def make_gateway(home: Path, **options: object) -> tuple[Starlette, str]:
    """(the application, the secret of an admin's key)."""
    app = make_app(settings_of(home), ServeOptions(**options))  # type: ignore[arg-type]
    return app, app.state.gateway.client.store.keys.create("test", Limits(), admin=True).secret


@contextmanager
def serving(app: Starlette, port: int = 0) -> Iterator[str]:
    """The base URL of the application on a real socket. A port that is to be used again is better a free one's number.

    Of those that the system chooses, anybody's next connection may get it.
    """
    with closing(program._listen("127.0.0.1", port)) as listener:
        config = program.config_of(app)
        config.timeout_graceful_shutdown = 1
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                thread.join(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


def answers(url: str, process: subprocess.Popen[Any]) -> bool:
    """Whether the gateway that this process is to become answers already."""
    assert process.poll() is None
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def key_of(app: Starlette, name: str, limits: Limits | None = None) -> str:
    """The secret of a new key that is no admin's."""
    return str(app.state.gateway.client.store.keys.create(name, limits or Limits()).secret)


def strictly(answer: Model) -> Model:
    """The official client's answer, once its own model has found nothing missing, nothing of another type, no more."""
    values = answer.model_dump(mode="json", exclude_unset=True)
    assert not set(answer.model_extra or ()) - OURS, answer.model_extra
    return type(answer).model_validate_json(json.dumps(values), strict=True)


def multipart(*parts: tuple[str, str | None, bytes], boundary: bytes = b"ftq") -> bytes:
    """A body of (name, filename or None, bytes) in this order; a name is written as it is."""
    body = b""
    for name, filename, data in parts:
        named = f'; filename="{filename}"' if filename is not None else ""
        head = f'--{boundary.decode()}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n'
        body += head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n"
    return body + b"--" + boundary + b"--\r\n"


FORM = {"content-type": "multipart/form-data; boundary=ftq"}
