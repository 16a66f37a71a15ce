"""`ftq infer`: questions to a run's exported model, through the queue."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import IO, TYPE_CHECKING, Any

import click

from cli.common import Decimal, Whole, find_run, json_option, note, open_client, print_json, run_argument
from ftq.errors import printable
from ftq.words import plural

if TYPE_CHECKING:
    from ftq.client.remote.protocol import AnyClient


def _number(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse nan, which FloatRange lets through."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is not a number")
    return value


@click.command()
@run_argument
@click.argument("prompt", required=False)
@click.option("--quant", metavar="TYPE", help="Which of the run's GGUF files answers.  [default: its first]")
@click.option("--base", is_flag=True, help="Ask the untuned base model instead, to compare.")
@click.option("--max-tokens", type=Whole(1), help="Most tokens of the answer.  [default: the run's]")
@click.option("--temperature", type=Decimal(0, 2), callback=_number, help="0 is greedy.  [default: the run's]")
@click.option("--seed", type=Whole(0, 2**32 - 1), help="The same seed gives the same answer.")
@click.option("--file", type=click.File("rb"), help="One prompt a line; `-` is standard input.")
@json_option
def infer(run: str, prompt: str | None, file: IO[bytes] | None, as_json: bool, **options: Any) -> None:
    """Ask the model of a finished run.

    PROMPT comes from the command line or from standard input; on a terminal, without either, one
    question after the other (Ctrl-D ends). The answer is shown while it is written. With --file the answers
    come in the order of the prompts; with --json too, each is a line of JSON. In JSON `stopped` is false for an
    answer that --max-tokens has cut.

    \b
    Examples:
      ftq infer handbook "Who approves a holiday?"
      ftq infer handbook --base "Who approves a holiday?"
      ftq infer handbook < question.txt
      ftq infer handbook --file questions.txt --json > answers.jsonl
    """
    if file and prompt is not None:
        raise click.UsageError("a PROMPT and --file can't go together: leave one out")
    prompts = _prompts(file) if file else []
    client = open_client()
    run_id = find_run(client, run).id
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    if file:
        _answer_all(client, run_id, prompts, given, as_json)
    elif prompt is None and sys.stdin and sys.stdin.isatty():  # None if it was closed
        _converse(client, run_id, given, as_json)
    else:
        _answer(client, run_id, _text(prompt, run), given, as_json)


def _text(prompt: str | None, run: str) -> str:
    """The question from the command line, else from standard input."""
    try:
        text = (prompt if prompt is not None else sys.stdin.read() if sys.stdin else "").strip()
        text.encode()
    except UnicodeError:
        raise click.UsageError("the prompt isn't UTF-8 text") from None
    if not text:
        raise click.UsageError(f'the prompt is empty: ftq infer {run} "A question?"')
    return text


def _prompts(file: IO[bytes]) -> list[str]:
    """A prompt for each line that isn't empty."""
    data = file.read()
    try:
        prompts = [line.strip() for line in data.decode("utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise click.UsageError(f"{file.name}:{line} isn't UTF-8 text") from None
    if not prompts:
        raise click.UsageError(f"{file.name} holds no prompt: write one a line")
    return prompts


def _answer(client: AnyClient, run_id: str, prompt: str, options: dict[str, Any], as_json: bool) -> None:
    from ftq.client.asking import drain

    with closing(client.stream(run_id, prompt, **options)) as pieces:
        if as_json:
            with _spinner():
                answer = drain(pieces)
            print_json(answer)
            _say_cut([answer])
            return
        with _spinner():
            first = next(pieces, "")
        try:
            _write(first)
            answer = drain(pieces, _write)
        finally:  # an error in the middle begins a new line
            click.echo()
        _say_cut([answer])


def _answer_all(client: AnyClient, run_id: str, prompts: list[str], options: dict[str, Any], as_json: bool) -> None:
    """Print all answers, also after one that failed. Exit code 1 if one failed."""
    failed, answers = False, list[dict[str, Any]]()
    for prompt, answer in zip(prompts, client.ask_many(run_id, prompts, **options), strict=True):
        error = answer.get("error")
        failed = failed or bool(error)
        answers.append(answer)
        if as_json:
            click.echo(json.dumps(answer))
            continue
        note(f"> {prompt}")
        if error:
            note(f"Error: {error['message']}\n{error['hint']}".rstrip())
        else:
            _write(f"{answer['answer']}\n")
    _say_cut(answers)
    click.get_current_context().exit(int(failed))


def _say_cut(answers: list[dict[str, Any]]) -> None:
    """Say which answers the model didn't end itself; in JSON their `stopped` is false."""
    cut = [answer for answer in answers if not answer.get("stopped", True)]
    if not cut:
        return
    tokens = max(answer["tokens"] for answer in cut)
    which = "The answer was" if len(answers) == 1 else f"{len(cut)} of {len(answers)} answers were"
    note(f"Note: {which} cut after {plural(tokens, 'token')}: a larger --max-tokens lets the model finish.")


def _write(text: str) -> None:
    click.echo(printable(text) if sys.stdout.isatty() else text, nl=False)


def _converse(client: AnyClient, run_id: str, options: dict[str, Any], as_json: bool) -> None:
    """One question a line. What fails for one may work for the next, so an error doesn't end it."""
    from ftq.errors import FtqError

    for prompt in _lines():
        try:
            _answer(client, run_id, prompt, options, as_json)
        except FtqError as error:
            note(f"Error: {error.text}")


def _lines() -> Iterator[str]:
    """What is typed after `> `, with history and editing; until Ctrl-D. Ctrl-C ends the command."""
    import readline  # noqa: F401  gives input() its history

    while True:
        try:
            if sys.stdout.isatty():
                line = input("> ")
            else:  # input() would write its prompt among the answers
                click.echo("> ", nl=False, err=True)
                line = sys.stdin.readline() or _end()
        except EOFError:
            click.echo(err=True)
            return
        if line.strip():
            yield line.strip()


def _end() -> str:
    raise EOFError


def _spinner() -> AbstractContextManager[Any]:
    if not sys.stderr.isatty():
        return nullcontext()
    from cli.screens.terminal import console

    return console(stderr=True).status("waiting for the answer")
