"""`python -m gateway.program`: the server that `ftq serve` becomes."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from dataclasses import replace
from typing import Any

import uvicorn
from starlette.applications import Starlette

from ftq.errors import FtqError, UserError
from ftq.programs import ServeOptions, end
from ftq.settings import Settings, protect_files
from ftq.store.gateway.keys import Keys
from gateway import models
from gateway.app import make_app
from gateway.connection import Connection
from gateway.shared import Gateway

ANYWHERE = "0.0.0.0"  # noqa: S104 - only compared with


def main() -> None:
    """Serve until SIGTERM or Ctrl-C. Running requests are finished first."""
    try:
        protect_files()
        options = _with_environment(ServeOptions.from_arguments(sys.argv[1:]))
        app = make_app(Settings.from_env(), options)
        gateway: Gateway = app.state.gateway
        listener = _listen(options.host, options.port)
        _tell(_url(options.host, listener.getsockname()[1]), gateway.client.store.keys)
    except FtqError as error:
        end(error)
    server = _Server(config_of(app))
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if not server.started:
        sys.exit(3)


def config_of(app: Starlette) -> uvicorn.Config:
    """How the server treats connections."""
    return uvicorn.Config(
        app,
        loop="asyncio",  # the one that is tested and measured, whether or not uvloop is installed
        http=Connection,
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=10,
        server_header=False,
    )


def _with_environment(options: ServeOptions) -> ServeOptions:
    """FTQ_RESULT_FILES=base64 stands for `--result-files base64`, for those who start the server in other ways."""
    wanted = os.environ.get("FTQ_RESULT_FILES") or "plain"
    if wanted not in ("plain", "base64"):
        raise UserError(f"FTQ_RESULT_FILES={wanted}: neither plain nor base64")
    models.check_aliases()  # what is wrong there is said now, not with the first request
    return replace(options, base64_results=options.base64_results or wanted == "base64")


class _Server(uvicorn.Server):
    def handle_exit(self, *signal: Any) -> None:
        """Tell the pages that are being looked at: uvicorn would wait for their streams."""
        self.config.app.state.gateway.stopping = True  # type: ignore[union-attr]
        super().handle_exit(*signal)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that the server accepts on. UserError if it can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a body waits 40 ms behind its headers
        return listener
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
        raise UserError(f"nobody can listen on {host}, port {port}: {why}", "--host and --port name another.") from None


def _url(host: str, port: int) -> str:
    """How a client on this machine reaches it."""
    host = {ANYWHERE: "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def _tell(url: str, keys: Keys) -> None:
    """Say where it serves; where there is no key yet, make an admin's and tell its secret, this once."""
    said = [f"Serving {url}  (Ctrl-C stops it)", f"The page, for people: {url.removesuffix('v1')}"]
    if new := keys.first():
        said.append(f"The first key, an admin's, is called {new.key.name}. Its secret is shown this once:")
        said.append(f"  export OPENAI_BASE_URL={url} OPENAI_API_KEY={new.secret}")
    print("\n".join(said), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
