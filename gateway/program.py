"""`python -m gateway.program`: the server that `ftq serve` becomes."""

from __future__ import annotations

import sys

import uvicorn

from ftq.errors import FtqError
from ftq.programs import ServeOptions, end
from ftq.settings import Settings, protect_files
from gateway.app import make_app


def main() -> None:
    """Serve until SIGTERM or Ctrl-C. Running requests are finished first."""
    try:
        protect_files()
        options = ServeOptions.from_arguments(sys.argv[1:])
        app = make_app(Settings.from_env(), options)
    except FtqError as error:
        end(error)
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        log_level="warning",
        timeout_graceful_shutdown=10,
        server_header=False,
        date_header=True,
    )


if __name__ == "__main__":
    main()
