"""A gateway to test with: in this process over ASGI, or a real server with uvicorn on a free port of loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from ftq.programs import ServeOptions
from ftq.settings import Settings
from ftq.store.gateway.keys import Limits
from gateway.app import make_app


def settings_of(home: Path) -> Settings:
    return Settings.from_env({"FTQ_HOME": str(home)})


def make_gateway(home: Path, **options: object) -> tuple[Starlette, str]:
    """(the application, the secret of an admin's key)."""
    app = make_app(settings_of(home), ServeOptions(**options))  # type: ignore[arg-type]
    return app, app.state.gateway.client.store.keys.create("test", Limits(), admin=True).secret


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """The base URL of the application on a real socket."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                thread.join(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
