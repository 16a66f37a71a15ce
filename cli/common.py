"""What the commands share: the client, RUN and its completion, and where output goes.

Standard output holds the answer and nothing else; notes, progress and hints go to standard error.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar
from unicodedata import east_asian_width

import click
from click.shell_completion import CompletionItem

from ftq.errors import NotFound, printable
from ftq.start import INTERRUPTED

if TYPE_CHECKING:
    from ftq.client.client import Client
    from ftq.client.remote.protocol import AnyClient
    from ftq.store.records import Run

Command = TypeVar("Command", bound=Callable[..., Any])


class Place(click.Path):
    """A file or a folder that the user names. An empty name, as of an unset variable, would be the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        if not str(value).strip():
            self.fail("the name is empty", parameter, context)
        return super().convert(value, parameter, context)


class Whole(click.IntRange):
    """A whole number, called that in the help and in what is said of another value."""

    name = "whole number"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "N"


class Decimal(click.FloatRange):
    name = "number"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "X"


def open_client() -> AnyClient:
    """A client over the database, or through FTQ_SERVER."""
    import ftq.client
    from ftq.settings import Settings

    client = ftq.client.open(Settings.from_env(), lambda text: note(f"Note: {text}"))
    click.get_current_context().call_on_close(client.close)
    return client


def open_database(instead: str) -> Client:
    """A client over the database for what can't go through a server; `instead` says what can be done there."""
    from ftq.client.client import Client
    from ftq.settings import Settings

    refuse_server(instead)
    client = Client(Settings.from_env())
    click.get_current_context().call_on_close(client.close)
    return client


def refuse_server(instead: str) -> None:
    """Bad usage where FTQ_SERVER is set: the command works on this machine alone."""
    from ftq.errors import Refused

    if url := os.environ.get("FTQ_SERVER", "").strip():
        command = click.get_current_context().command_path
        raise Refused(
            f"`{command}` works on this machine's own runs, and FTQ_SERVER names a server: {printable(url)}",
            f"{instead} To mean this machine: env -u FTQ_SERVER {command} ...",
        )


def find_run(client: AnyClient, wanted: str) -> Run:
    """The run that the user names; a note says which one it is where the name could mean a version too."""
    try:
        run = client.find(wanted)
    except NotFound:
        check_database(client)
        raise
    if other := client.models.other_latest(wanted, run):
        note(f"Note: {other}")
    return run


def check_database(client: AnyClient) -> None:
    """UserError where runs are missing because the workers of FTQ_BROKER_URL use another database."""
    from ftq.client.client import Client

    if isinstance(client, Client) and not client.settings.embedded:
        client.check_database()


def complete_run(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names, ids and versions of the latest runs; nothing where they can't be read: an error would spoil the line."""
    try:
        import ftq.client
        from ftq.settings import Settings

        client = ftq.client.open(Settings.from_env())
        runs = client.all(200) if client.has_database() else []
    except Exception:
        return []
    names = [(run.name, run) for run in runs] + [(run.id, run) for run in runs if incomplete]
    names += [(run.version_name, run) for run in runs if run.version_name and ":" in incomplete]
    return [
        CompletionItem(printable(word), help=printable(f"{run.model}, {run.status}"))
        for word, run in names
        if word.startswith(incomplete)
    ]


def complete_model(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from ftq.spec.models import ALIASES

    models = [model for alias, model in ALIASES.items() if alias.startswith(incomplete.lower())]
    return [CompletionItem(model.alias, help=model.hub_id) for model in models]


def run_argument(command: Command) -> Command:
    return click.argument("run", metavar="RUN", shell_complete=complete_run)(command)


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")(command)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def say(text: str, whole: bool = False) -> None:
    """Print a line of the answer. A `whole` one is to be copied: a path, a command."""
    (click.echo if whole else tell)(printable(text))


def note(text: str) -> None:
    """Print a line for people to standard error."""
    tell(printable(text), err=True)


def tell(text: str, file: IO[Any] | None = None, *, err: bool = False, color: bool | None = None) -> None:
    """Print text that may have colours; a terminal gets it in lines that end between words."""
    stream = file or (sys.stderr if err else sys.stdout)
    if stream.isatty():
        columns = os.environ.get("COLUMNS", "")
        text = wrap(
            text, (int(columns) if columns.isdecimal() else os.get_terminal_size(stream.fileno()).columns) or 80
        )
    click.echo(text, stream, color=color)


def wrap(text: str, columns: int) -> str:
    """The text in lines of at most so many columns, each indented as the line that it goes on from.

    A command in backquotes is one word, so that it can be copied. A word that is longer than the columns stays whole.
    """
    lines = list[str]()
    for line in text.split("\n"):
        plain, row = click.unstyle(line), ""
        indent = plain[: len(plain) - len(plain.lstrip())]
        for blanks, word in re.findall(r"(\s*)((?:`[^`]*`|\S)+)", line):
            if row.strip() and _cells(row + blanks + word) > columns:
                lines.append(row)
                row = indent + word
            else:
                row += blanks + word
        lines.append(row)
    return "\n".join(lines)


def _cells(text: str) -> int:
    """How many columns of a terminal it takes."""
    return sum(1 + (east_asian_width(letter) in "WF") for letter in click.unstyle(text).expandtabs())


def on_terminal() -> bool:
    """Whether there is somebody to ask."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr.isatty())


def confirm(question: str, yes: bool) -> None:
    """Go on only with a yes: `--yes`, or one typed on a terminal."""
    if yes:
        return
    if not on_terminal():
        raise click.UsageError("there is no terminal to ask on: give --yes to delete without a question")
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:  # Ctrl-C, or Ctrl-D
        raise KeyboardInterrupt from None
    if not agreed:
        raise click.Abort


@contextmanager
def ctrl_c(text: str, exit_code: int = INTERRUPTED) -> Iterator[None]:
    """Let Ctrl-C end the watching, not the run."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(err=True)
        if text:
            note(text)
        click.get_current_context().exit(exit_code)
