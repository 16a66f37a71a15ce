"""`ftq workers`, and its `drain`, `undrain` and `forget`: who is up, and does what."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from cli.common import json_option, note, open_client, print_json, say
from ftq.errors import printable
from ftq.store.records import served_by
from ftq.words import short

if TYPE_CHECKING:
    from ftq.client.workers import Member

COLOURS = {
    "up": "green",
    "waiting": "yellow",
    "draining": "yellow",
    "drained": "yellow",
    "stopping": "yellow",
    "refused": "red",
    "silent": "red",
}


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def workers(context: click.Context, as_json: bool) -> None:
    """List the workers: what they have, and what each does.

    One that died is listed for a day, with how long it has been silent; `ftq workers forget` ends that. NAME may be
    the beginning of a name.

    \b
    Examples:
      ftq workers
      ftq workers --json
      ftq workers drain gpu0
    """
    if context.invoked_subcommand:
        return
    client = open_client()
    members = client.fleet.all() if client.has_database() else []
    if as_json:
        from ftq.client.view import worker_as_dict

        print_json([worker_as_dict(member) for member in members])
        return
    if not members:
        from ftq.client.workers import start

        note(f"No worker is up. {start()}")
        return
    _print_table(members)
    for member in members:
        if member.state == "waiting":
            worker = member.worker
            note(f"{worker.name} waits for its bucket: {worker.waits}. On {worker.host}: {worker.facts['waits_fix']}")
        if member.state != "silent" and member.worker.refused:
            worker = member.worker
            note(f"{worker.name} is refused: {worker.refused}. On {worker.host}: {worker.facts['refused_fix']}")
    if silent := [member.worker.name for member in members if member.state == "silent"]:
        note(f"`ftq workers forget {silent[0]}` takes one off the list that is gone for good.")
    for told in dict.fromkeys(told for member in members if member.state != "silent" for told in member.worker.foreign):
        names = ", ".join(member.worker.name for member in members if told in member.worker.foreign)
        note(f"The broker of {names} {told}: that key is left out. `ftq doctor` says what to type.")


@workers.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def drain(names: tuple[str, ...]) -> None:
    """Let workers finish what they have and take nothing new.

    Their signs of life go on, and they still take back what other workers lost. `ftq workers undrain` ends it, and so
    does stopping the worker. Nothing is done if one of the names is wrong.

    \b
    Examples:
      ftq workers drain gpu0
      ftq workers drain gpu0 gpu1
    """
    client = open_client()
    members = client.fleet.drain(*names)
    for member in members:
        work = ", ".join(f"{part.run} ({part.stage})" for part in member.work)
        rest = f"and finishes {work}" if work else "and has nothing left to do"
        say(f"{member.worker.name} takes nothing new {rest}.")
    again = " ".join(member.worker.name for member in members)
    they, them = ("it is", "it") if len(members) == 1 else ("they are", "them")
    note(f"`ftq workers` shows when {they} done, `ftq workers undrain {again}` lets {them} work again.")
    served = {queue for member in members for queue in member.worker.served}
    live = served_by(member.worker for member in client.fleet.all() if member.worker.takes)
    if missing := sorted(served - live):
        note(f"Note: no other worker serves {', '.join(missing)}: what comes there waits.")


@workers.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def undrain(names: tuple[str, ...]) -> None:
    """Let drained workers take work again.

    \b
    Example:
      ftq workers undrain gpu0 gpu1
    """
    for member in open_client().fleet.undrain(*names):
        if member.state == "up":
            say(f"{member.worker.name} takes work again.")
        else:
            say(f"{member.worker.name} isn't drained any more, but it is {member.state}.")


@workers.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def forget(names: tuple[str, ...]) -> None:
    """Take workers that are gone for good off the list.

    Those that are silent: one that gives signs of life is refused. One that comes back is listed again.

    \b
    Example:
      ftq workers forget gpu0-97@grace
    """
    for member in open_client().fleet.forget(*names):
        say(f"{member.worker.name} is off the list.")


def _print_table(members: list[Member]) -> None:
    from rich.text import Text

    from cli.screens import terminal

    headings = ("NAME", "STATE", "QUEUES", "GPU", "VERSION", "DOES")
    folds = {"NAME": 16, "QUEUES": 12, "GPU": 12, "DOES": 16}
    table = terminal.Rows(headings, folds=folds, lost_first=("VERSION", "GPU", "QUEUES"))
    for member in members:
        worker = member.worker
        state = Text(_state(member), COLOURS[member.state])
        queues = ",".join(worker.queues) + "".join(f" +{label}" for label in worker.labels)
        version = str(worker.facts.get("version", ""))
        cells = [printable(text) for text in (queues, _card(member), version, _work(member))]
        table.add(Text(printable(worker.name), "bold"), state, *cells)
    terminal.put(terminal.console(), table)


def _state(member: Member) -> str:
    return f"silent for {short(member.silent)}" if member.state == "silent" else member.state


def _card(member: Member) -> str:
    """NVIDIA H100 80GB HBM3, 79 GiB; of a CPU the memory alone."""
    memory = member.worker.facts.get("memory")
    name = member.worker.gpu or ("CPU" if memory else "")
    return f"{name}, {memory / 2**30:.0f} GiB" if memory else name


def _work(member: Member) -> str:
    return ", ".join(f"{part.run} ({part.stage}, {short(time.time() - part.since)})" for part in member.work)
