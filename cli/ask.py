"""`ftq infer`: questions to a run's exported model, through the queue."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from cli.common import json_option, note, open_client, print_json, printable, run_argument

if TYPE_CHECKING:
    from ftq.client import Client


def _number(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """FloatRange takes nan, which is on no side of a limit."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is not a number")
    return value


@click.command()
@run_argument
@click.argument("prompt", required=False)
@click.option("--max-tokens", type=click.IntRange(1), help="Most tokens of the answer.  [default: the run's]")
@click.option("--temperature", type=click.FloatRange(0, 2), callback=_number, help="0 is greedy.  [default: the run's]")
@json_option
def infer(run: str, prompt: str | None, as_json: bool, **options: Any) -> None:
    """Ask the model of a finished run.

    PROMPT comes from the command line or from standard input; on a terminal, without either, one
    question after the other (Ctrl-D ends).

    \b
    Examples:
      ftq infer handbook "Who approves a holiday?"
      ftq infer handbook < question.txt
    """
    client = open_client()
    found = client.find(run)
    given = {key: value for key, value in options.items() if value is not None}
    if prompt is None and sys.stdin and sys.stdin.isatty():  # it is None where it was closed
        _converse(client, found.id, given, as_json)
        return
    _answer(client, found.id, _text(prompt), given, as_json)


def _text(prompt: str | None) -> str:
    """The question from the command line, else from standard input."""
    try:
        text = (prompt if prompt is not None else sys.stdin.read() if sys.stdin else "").strip()
        text.encode()
    except UnicodeError:
        raise click.UsageError("the prompt isn't UTF-8 text") from None
    if not text:
        raise click.UsageError('the prompt is empty: ftq infer RUN "A question?"')
    return text


def _answer(client: Client, run_id: str, prompt: str, options: dict[str, Any], as_json: bool) -> None:
    with _spinner():
        answer = client.ask(run_id, prompt, **options)
    if as_json:
        print_json(answer)
    else:
        click.echo(printable(answer["answer"]) if sys.stdout.isatty() else answer["answer"])


def _converse(client: Client, run_id: str, options: dict[str, Any], as_json: bool) -> None:
    """One question a line. What fails for one may work for the next, so an error doesn't end it."""
    from ftq.errors import FtqError

    for prompt in _lines():
        try:
            _answer(client, run_id, prompt, options, as_json)
        except FtqError as error:
            note(f"Error: {error.message}\n{error.hint}".rstrip())


def _lines() -> Iterator[str]:
    """What is typed after `> `, with history and editing; until Ctrl-D or Ctrl-C."""
    import readline  # noqa: F401  gives input() its history

    while True:
        try:
            if sys.stdout.isatty():
                line = input("> ")
            else:  # input() would write its prompt among the answers
                click.echo("> ", nl=False, err=True)
                line = sys.stdin.readline() or _end()
        except (EOFError, KeyboardInterrupt):
            click.echo(err=True)
            return
        if line.strip():
            yield line.strip()


def _end() -> str:
    raise EOFError


def _spinner() -> AbstractContextManager[Any]:
    if not sys.stderr.isatty():
        return nullcontext()
    from cli.show import console

    return console(stderr=True).status("waiting for the answer")
