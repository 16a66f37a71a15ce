"""`ftq rm`, `gc`, `keep`: room on the disk. Nothing is deleted before it was shown."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import click

from cli.common import (
    Whole,
    complete_run,
    confirm,
    find_run,
    note,
    open_client,
    refuse_server,
    run_argument,
    say,
    tell,
)
from ftq.errors import printable
from ftq.words import plural, size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ftq.client.remote.protocol import AnyClient
    from ftq.store.records import Run

yes_option = click.option("--yes", "-y", is_flag=True, help="Don't ask.")


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=complete_run)
@yes_option
def rm(runs: tuple[str, ...], yes: bool) -> None:
    """Delete runs and their files.

    Shows first how much room that frees. A running one is never deleted.

    \b
    Example:
      ftq rm handbook-1 handbook-2
    """
    from ftq.errors import Refused

    client = open_client()
    doomed = list({run.id: run for run in (find_run(client, wanted) for wanted in runs)}.values())
    if running := [run for run in doomed if run.status == "running"]:
        to_cancel = next((run.name for run in running if run.state != "stopping"), "")
        hint = f"`ftq cancel {to_cancel}` first." if to_cancel else "Give the command again in some seconds: it stops."
        raise Refused(f"still running: {', '.join(run.name for run in running)}. Nothing was deleted.", hint)
    for run in doomed:
        client.room.check(run)
    _delete(client, [(run, client.room.size(run)) for run in doomed], [], yes)


@click.command()
@click.option(
    "--last",
    type=Whole(0),
    default=10,
    show_default=True,
    help="How many that succeeded stay; of failed and cancelled ones too.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@click.option("--orphans", is_flag=True, help="Also runs in the bucket of which nothing says whose they are.")
@yes_option
def gc(last: int, dry_run: bool, orphans: bool, yes: bool) -> None:
    """Delete old runs.

    The finished ones, but for the last N that succeeded, the last N that failed or were cancelled, those marked by
    `ftq keep`, and the `latest` of each name; what a stopped deletion, submit, upload or stage has left; what nothing
    needs in this machine's cache; runs in the bucket that the database doesn't know; and questions older than a day.
    Shows first how much room that frees.

    \b
    Example:
      ftq gc --last 5
    """
    if orphans:
        refuse_server("`ftq gc --orphans` goes where the database is.")
    client = open_client()
    old, leftovers, questions = client.room.removable(last), client.room.leftovers(True), client.room.old_questions()
    for text in client.room.spared(last):
        note(f"Spared: {text}.")
    if not orphans:
        leftovers = _without_orphans(client, leftovers)
    if not old and not leftovers and not questions:
        note(f"Nothing to delete: no finished run besides the last {last} and the kept ones.")
        return
    _delete(client, old, leftovers, yes, questions, dry_run=dry_run, old=True)


def _without_orphans(client: AnyClient, leftovers: list[tuple[Path, int]]) -> list[tuple[Path, int]]:
    """Those that are this database's; a note names the others."""
    from ftq.client.removal import is_orphan

    others = [(path.stem.removeprefix("."), number) for path, number in leftovers if is_orphan(path)]
    if others:
        listed = ", ".join(f"{name} ({size(number)})" for name, number in others)
        what = plural(len(others), "run")
        note(f"{client.place} has {what} that the database doesn't know, and nothing says whose: {listed}.")
        note("If no other database uses this bucket, `ftq gc --orphans` deletes them too.")
    return [one for one in leftovers if not is_orphan(one[0])]


@click.command()
@run_argument
@click.option("--undo", is_flag=True, help="Let gc delete it again.")
def keep(run: str, undo: bool) -> None:
    """Mark a run so that `ftq gc` spares it.

    \b
    Example:
      ftq keep handbook
    """
    client = open_client()
    kept = client.keep(find_run(client, run).id, not undo)
    say(f"{kept.name} may be deleted by gc again." if undo else f"{kept.name} is kept: gc spares it.")


def _delete(
    client: AnyClient,
    runs: list[tuple[Run, int]],
    leftovers: list[tuple[Path, int]],
    yes: bool,
    questions: int = 0,
    *,
    dry_run: bool = False,
    old: bool = False,
) -> None:
    """Show, ask, delete. What can't be deleted doesn't hold up the rest."""
    _show(client, runs, leftovers, questions)
    if dry_run:
        return
    confirm("Delete?", yes)
    from ftq.errors import FtqError, NotFound, Refused

    done, problems = [0, 0, 0], list[FtqError]()
    jobs: list[tuple[int, int, Callable[[], None]]] = [
        (1, 1, partial(client.room.clear, path)) for path, _ in leftovers
    ]
    jobs += [(0, 1, partial(client.room.remove, run, old)) for run, _ in runs]
    jobs += [(2, questions, client.room.forget_questions)] if questions else []
    for kind, number, delete in jobs:
        try:
            with contextlib.suppress(NotFound):  # another client has deleted it
                delete()
            done[kind] += number
        except FtqError as error:
            if old and isinstance(error, Refused):
                note(f"Spared: {error.message}.")
            else:
                problems.append(error)
    note(f"Deleted {_count(*done)}.")
    if problems:
        hints = dict.fromkeys(problem.hint for problem in problems)
        raise FtqError("\n".join(dict.fromkeys(problem.message for problem in problems)), "\n".join(hints))


def _show(client: AnyClient, runs: list[tuple[Run, int]], leftovers: list[tuple[Path, int]], questions: int) -> None:
    from cli.screens.runs import print_sizes
    from ftq.client.removal import placed, shared, why

    if runs:
        print_sizes(runs)
    home = client.home_of()
    for path, number in leftovers:
        _, name = placed(path, {"home": home, "elsewhere": path.parent})
        tell(f"{printable(name)}  {why(path, home)}  {size(number)}")
    deleted = [run for run, _ in runs]
    frees = client.room.freed(deleted) + sum(number for _, number in leftovers)
    stays = shared(client.room.staying(deleted))
    note(f"{_count(len(runs), len(leftovers), questions)}: deleting frees {size(frees)}.{stays}")


def _count(runs: int, leftovers: int, questions: int) -> str:
    others = [plural(number, what) for number, what in [(leftovers, "leftover"), (questions, "question")] if number]
    return " and ".join([", ".join([plural(runs, "run"), *others[:-1]]), *others[-1:]])
