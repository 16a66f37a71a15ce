"""`ftq eval`, `ftq compare` and `ftq report`: parse -> one call of ftq -> print."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click

from cli.common import Place, complete_run, find_run, json_option, note, open_client, print_json, run_argument, say
from ftq.errors import Refused, Unavailable

SHOWN = 10  # answers side by side, unless all are asked for


@click.command("eval")
@run_argument
@click.option("--questions", metavar="FILE", type=Place(), help="JSON of your own questions.")
@click.option("--against", metavar="RUN2", shell_complete=complete_run, help="Ask another run the same questions too.")
@json_option
def evaluate(run: str, questions: Path | None, against: str | None, as_json: bool) -> None:
    """Ask a finished run questions and score its answers.

    The run's base model and each of the run's GGUF files answer, through a worker as with `ftq infer`. Without
    --questions the questions are those of the run's own evaluation. docs/evaluation.md says what the columns mean,
    and has the form of FILE.

    \b
    Examples:
      ftq eval handbook --questions questions.json
      ftq eval handbook-2 --against handbook-1
      ftq eval handbook --json > eval.json
    """
    client = open_client()
    mine, other = find_run(client, run), None if against is None else find_run(client, against).id
    with _progress() as progress:
        evaluation = client.evaluate(mine.id, questions, other, progress)
    if as_json:
        print_json(evaluation.to_json())
        return
    from rich.console import Group

    from cli.evaluation.table import evaluation_view
    from cli.screens import terminal

    out = terminal.console()
    terminal.put(out, Group(*evaluation_view(evaluation, mine.name)))


@click.command()
@click.argument("a", metavar="RUN", shell_complete=complete_run)
@click.argument("b", metavar="RUN2", shell_complete=complete_run)
@click.option("--all", "everything", is_flag=True, help=f"All answers, not only {SHOWN}.")
@json_option
def compare(a: str, b: str, everything: bool, as_json: bool) -> None:
    """Show two runs side by side.

    The options that differ, the scores on the questions that both were asked, and their answers next to each
    other: those of which one is right and the other isn't come first.

    \b
    Examples:
      ftq compare handbook-1 handbook-2
      ftq compare handbook-1 handbook-2 --all
      ftq compare handbook-1 handbook-2 --json
    """
    client = open_client()
    comparison = client.compare(*(find_run(client, wanted).id for wanted in (a, b)))
    if as_json:
        print_json(comparison.to_json())
        return
    from cli.evaluation.comparison import comparison_view
    from cli.screens import terminal

    out = terminal.console()
    most = len(comparison.pairs) if everything else SHOWN
    terminal.put(out, comparison_view(comparison, most, terminal.has_symbols(out)))


@click.command()
@run_argument
@click.option(
    "--to", "path", metavar="FILE", type=Place(), help="Where the page goes.  [default: into the run's folder]"
)
@click.option("--open", "opened", is_flag=True, help="Show it in the browser.")
def report(run: str, path: Path | None, opened: bool) -> None:
    """Write a page on a run, and print where it is.

    One file with what went in, the curves of the training, the evaluation, answers of base and tuned model side by
    side, options, times and what to type to use the model. It needs nothing beside it. Of a run that isn't finished
    it has what there is.

    \b
    Examples:
      ftq report handbook --open
      ftq report handbook --to handbook.html
    """
    client = open_client()
    found = find_run(client, run)
    from ftq.settings import as_the_user

    if path and path.is_dir():
        raise Refused(f"{path} is a folder", f"Name the file: --to {path / f'{found.name}.html'}")
    try:
        with as_the_user() if path else nullcontext():
            written = client.report(found, path).absolute()
    except OSError as error:
        where = path or client.settings.home / found.id
        hint = f"`ftq report {found.name} --to FILE` puts it into a folder that is there, and yours."
        raise Unavailable(f"{where}: can't be written ({error.strerror})", hint) from None
    say(str(written), whole=True)
    if opened and not webbrowser.open(written.as_uri()):
        note("No browser was found here. Open the file in one.")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Who answers and how far that is, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda subject, done, of: None
        return
    from cli.screens.terminal import console

    with console(stderr=True).status("asking") as status:
        yield lambda subject, done, of: status.update(f"{subject}: {done} of {of} answers")
