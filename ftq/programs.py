"""Programs beside the client, `ftq up`, `ftq worker` and `ftq serve`.

Their options are declared once, for who starts them and who runs.

A program gets its options as one JSON object on its command line.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, NoReturn, Self

from ftq.errors import FtqError, UserError, exit_code, printable

WORKER_NEEDS = ("worker", "celery", "torch")


def lacking(*others: str) -> list[str]:
    """Of the modules that a worker needs, and of these others, those that aren't installed here."""
    return [name for name in (*WORKER_NEEDS, *others) if importlib.util.find_spec(name) is None]


@dataclass(frozen=True)
class Program:
    """A program of the worker or the gateway, which the client starts and never imports."""

    module: ClassVar[str]
    command: ClassVar[str]

    def argv(self, module: str = "") -> list[str]:
        """The command line that starts it. `module` stands in for the program's own."""
        return [sys.executable, "-m", "ftq.start", module or self.module, json.dumps(asdict(self))]

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> Self:
        """The options on a command line, without any all the defaults. UserError for anything but a JSON object."""
        try:
            return cls(**json.loads(arguments[0] if arguments else "{}"))
        except (ValueError, TypeError):
            raise UserError(
                f"{cls.module} takes its options as one JSON object", f"`{cls.command}` starts it; --help has them."
            ) from None


@dataclass(frozen=True)
class UpOptions(Program):
    """`port` is Flower's, on 127.0.0.1; `serve_port` is that of `ftq serve`, if `serve` wants it too."""

    module: ClassVar = "worker.host.up"
    command: ClassVar = "ftq up"
    port: int = 5555
    flower: bool = True
    gpus_per_worker: int = 1
    serve: bool = False
    serve_port: int = 8787
    log_to_stderr: bool = False


def end(error: FtqError) -> NoReturn:
    """End the program as the client ends a command that failed."""
    print(f"Error: {printable(error.text)}", file=sys.stderr)
    sys.exit(exit_code(error))


def flower_address(home: Path) -> Path:
    """The file in which `ftq up` says where its Flower is."""
    return home / "flower" / "address"


@dataclass(frozen=True)
class WorkerOptions(Program):
    """`queues`, `gpus` and `labels` are separated by commas; None leaves the choice to the worker."""

    module: ClassVar = "worker.host.worker"
    command: ClassVar = "ftq worker"
    queues: str = "cpu,gpu,ask"
    gpus: str | None = None
    name: str | None = None
    concurrency: int | None = None
    labels: str = ""


@dataclass(frozen=True)
class ServeOptions(Program):
    """`largest_upload` is in bytes; `base64_results` serves result files as OpenAI does, not plain.

    `documents` is the folder below which every key may name documents; empty: the current one, for admins' keys alone.
    """

    module: ClassVar = "gateway.program"
    command: ClassVar = "ftq serve"
    host: str = "127.0.0.1"
    port: int = 8787
    largest_upload: int = 8 * 10**9
    base64_results: bool = False
    documents: str = ""
