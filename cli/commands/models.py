"""`ftq models`, `promote`, `pull`, `push`: base models, and the numbered models that finished runs are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.common import (
    Place,
    ctrl_c,
    find_run,
    json_option,
    note,
    open_client,
    open_database,
    print_json,
    run_argument,
    say,
)
from ftq.words import size

if TYPE_CHECKING:
    from ftq.client.remote.protocol import AnyClient
    from ftq.delivery.parts import Model

kind_option = click.option(
    "--as", "kind", default="gguf", metavar="KIND", show_default=True, help="gguf, gguf:TYPE, adapter or merged."
)


@click.command()
@click.option("--tuned", is_flag=True, help="The models that your finished runs are, by name and number.")
@json_option
def models(tuned: bool, as_json: bool) -> None:
    """List the base models, or what was made of them.

    A hub id or a local checkpoint directory works as well. The last numbers are the least GPU memory in GiB that
    trains a row of 2048 tokens: in 4 bit, in 16 bit, and in 16 bit without gradient checkpointing (the fastest).

    \b
    Examples:
      ftq models
      ftq models --tuned
    """
    if tuned:
        _tuned(as_json)
        return
    from dataclasses import asdict

    from ftq.plan.memory import least
    from ftq.spec.models import MODELS, PACKAGED

    if as_json:
        rows = [(model, {"parameters_b": model.parameters_b, "download_gb": model.download_gb}) for model in MODELS]
        print_json([{**asdict(model), **more, "least_memory": least(model.shape)} for model, more in rows])
        return
    from cli.screens.tables import print_models

    print_models(MODELS)
    note(f"{PACKAGED} comes with ftq's worker. The others come from the Hugging Face hub, when a run first needs them.")


def _tuned(as_json: bool) -> None:
    client = open_client()
    versions = client.models.versions() if client.has_database() else []
    if as_json:
        from ftq.client.view import version_as_dict

        print_json([version_as_dict(version) for version in versions])
        return
    there = [version for version in versions if not version.gone]
    if not there:
        note(f"No run has succeeded yet in {client.place}: `ftq status` lists the runs.")
        return
    from cli.screens.tables import print_versions

    print_versions(there)


@click.command()
@run_argument
def promote(run: str) -> None:
    """Make a version the one that NAME:latest stands for.

    Without it that is the newest one. A run may also decide by itself: --set promote=better or never.

    \b
    Example:
      ftq promote handbook:2
    """
    client = open_client()
    run_id = find_run(client, run).id
    promoted, before = client.models.promote(run_id)
    latest = f"{promoted.family}:latest is {promoted.version_name}"
    was = f" (it was {before})" if before else ""
    say(f"{latest} already." if before == promoted.version_name else f"{latest} now{was}.")


@click.command()
@run_argument
@kind_option
@click.option("--to", "folder", metavar="DIR", type=Place(), help="[default: ./NAME-vN]")
@json_option
def pull(run: str, kind: str, folder: Path | None, as_json: bool) -> None:
    """Copy a finished model into a folder, ready to use.

    A GGUF file comes with its Modelfile and model card; an adapter and a merged model with all their files. Every
    file is checked, SHA256SUMS lists them, and what to type to use them is printed. A copy that was stopped goes on
    when the command is given again.

    \b
    Examples:
      ftq pull handbook:latest
      ftq pull handbook:2 --as gguf:q8_0 --to /srv/models/handbook
      ftq pull handbook:2 --as adapter
    """
    client = open_client()
    model = _model(client, run, kind)
    with ctrl_c("The same command goes on where it was stopped."), _bar(model.size) as moved:
        pulled = client.models.pull(model, folder, moved)
    if as_json:
        files = [{"name": name, "bytes": number, "sha256": sha256} for name, number, sha256 in pulled.files]
        print_json(
            {
                "model": model.name,
                "kind": model.kind,
                "folder": str(pulled.folder.absolute()),
                "files": files,
                "commands": list(pulled.commands),
            }
        )
        return
    note(f"{model.name} as {model.kind}, {size(model.size)}, is in {pulled.folder}. To use it:")
    for command in pulled.commands:
        say(command, whole=True)


@click.command()
@run_argument
@click.option("--to", "repository", metavar="USER/NAME", required=True, help="The repository on the hub.")
@kind_option
@click.option("--private", is_flag=True, help="Make the repository private.")
@click.option("--update", is_flag=True, help="Add a commit to a repository that has files already.")
@json_option
def push(run: str, repository: str, kind: str, private: bool, update: bool, as_json: bool) -> None:
    """Upload a finished model to the Hugging Face hub.

    The files go there with a model card, as one commit. The token is that of HF_TOKEN, or of the file that `hf auth
    login` writes or HF_TOKEN_PATH names. HF_ENDPOINT names another hub. After an interruption the same command goes on.

    \b
    Examples:
      ftq push handbook:latest --to me/handbook --private
      ftq push handbook:3 --to me/handbook --update
    """
    client = open_database("Pull it first and upload that, or give the command on the server's machine.")
    model = _model(client, run, kind)
    with ctrl_c("The same command goes on, and sends no file twice."):
        pushed = client.models.push(
            model, repository, private=private, update=update, progress=sys.stderr.isatty() and not as_json
        )
    if as_json:
        print_json({"model": model.name, "kind": model.kind, "url": pushed.url, "commit": pushed.commit})
        return
    note(f"{model.name} as {model.kind}, {size(model.size)}, is on the hub:")
    say(pushed.url, whole=True)


def _model(client: AnyClient, wanted: str, kind: str) -> Model:
    run = find_run(client, wanted)  # before `client.models`, which makes a database where there is none
    return client.models.model(run.id, kind)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar, where somebody sees it."""
    if not sys.stderr.isatty():
        yield lambda number: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from cli.screens.terminal import console

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda number: progress.advance(task, number)
