"""`ftq rm`, `gc`, `keep`: room on the disk. Nothing is deleted before it was shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.common import complete_run, confirm, note, open_client, plural, run_argument, say, size

if TYPE_CHECKING:
    from ftq.client import Client
    from ftq.records import Run

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
    found = list({run.id: run for run in map(client.find, runs)}.values())
    if running := [run.name for run in found if run.status == "running"]:
        raise Refused(f"still running: {', '.join(running)}. Nothing was deleted.", f"`ftq cancel {running[0]}` first.")
    _delete(client, [(run, client.size(run)) for run in found], yes)


@click.command()
@click.option("--last", type=click.IntRange(0), default=10, show_default=True, help="How many finished runs stay.")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@yes_option
def gc(last: int, dry_run: bool, yes: bool) -> None:
    """Delete old runs.

    The finished ones, but for the last N and those marked by `ftq keep`. Shows first how much room that frees.

    \b
    Example:
      ftq gc --last 5
    """
    client = open_client()
    old = client.removable(last)
    if not old:
        note(f"Nothing to delete: no finished run besides the last {last} and the kept ones.")
        return
    _delete(client, old, yes, dry_run)


@click.command()
@run_argument
@click.option("--undo", is_flag=True, help="Let gc delete it again.")
def keep(run: str, undo: bool) -> None:
    """Mark a run so that `ftq gc` spares it.

    \b
    Example:
      ftq keep handbook
    """
    kept = open_client().keep(run, not undo)
    say(f"{kept.name} may be deleted by gc again." if undo else f"{kept.name} is kept: gc spares it.")


def _delete(client: Client, runs: list[tuple[Run, int]], yes: bool, dry_run: bool = False) -> None:
    from cli.show import print_sizes

    print_sizes(runs)
    frees, total = client.freed([run for run, _ in runs]), sum(number for _, number in runs)
    shared = f" ({size(total - frees)} of it are shared with other runs and stay)" if total - frees else ""
    note(f"{plural(len(runs), 'run')}: deleting frees {size(frees)}{shared}.")
    if dry_run:
        return
    confirm("Delete?", yes)
    for run, _ in runs:
        client.remove(run)
    note(f"Deleted {plural(len(runs), 'run')}.")
