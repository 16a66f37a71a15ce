"""`ftq keys create`, `list`, `revoke`: the keys of `ftq serve`."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import click

from cli.common import json_option, note, open_database, print_json, say
from ftq.errors import printable
from ftq.words import bytes_of, short, size

if TYPE_CHECKING:
    from ftq.store.gateway.keys import Key, Limits

NAMES = {"jobs": "jobs", "requests": "requests_per_minute", "bytes": "bytes"}  # as typed: as in Limits
THERE = "Give the command on the server's machine."
LOST_FIRST = ("MADE", "SECRET", "USED", "LIMITS")  # of the list's columns, where the terminal is narrow
EXAMPLE = "For example: --limit jobs=5,requests=60,bytes=10G"


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of `ftq serve`.

    \b
    Examples:
      ftq keys create ana
      ftq keys list
      ftq keys revoke ana
    """


@keys.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="Let it see and use what every key has made.")
@click.option(
    "--limit",
    metavar="NAME=N[,...]",
    help="jobs that aren't finished, requests a minute, bytes stored (10G).  [default: no limits]",
)
def create(name: str, admin: bool, limit: str | None) -> None:
    """Make a key and print its secret once.

    Only a hash of it is kept.

    \b
    Examples:
      ftq keys create ana
      ftq keys create nightly --limit jobs=5,requests=60,bytes=10G
    """
    limits = _limits(limit or "")
    new = open_database(THERE).store.keys.create(name, limits, admin)
    click.echo(new.secret)
    note(f"The key {new.key.name}{' is an admin' if admin else ''}: {_shown(limits)}. Its secret isn't shown again.")


@keys.command("list")
@json_option
def index(as_json: bool) -> None:
    """List the keys, the revoked ones too.

    \b
    Example:
      ftq keys list
    """
    client = open_database(THERE)
    keys = client.store.keys.all() if client.has_database() else []
    if as_json:
        from dataclasses import asdict

        print_json([asdict(key) for key in keys])
        return
    if not keys:
        note("There is no key yet: `ftq keys create NAME` makes one.")
        return
    _print_table(keys)


@keys.command()
@click.argument("name")
def revoke(name: str) -> None:
    """End a key.

    A server that runs refuses it within two seconds. What the key has made stays; an admin's key sees it.

    \b
    Example:
      ftq keys revoke ana
    """
    client = open_database(THERE)
    if client.has_database():
        client.store.keys.revoke(name)
        say(f"The key {name} is revoked.")
        return
    from ftq.errors import NotFound

    raise NotFound(f"no key {name}", "`ftq keys list` shows them.")


def _limits(text: str) -> Limits:
    """`jobs=5,requests=60,bytes=10G`. Bad usage names the word that is wrong."""
    from ftq.store.gateway.keys import Limits

    values: dict[str, int] = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        name, _, number = word.partition("=")
        if name not in NAMES:
            raise click.BadParameter(f"{word!r}: known are {', '.join(NAMES)}. {EXAMPLE}", param_hint="--limit")
        value = bytes_of(number) if name == "bytes" or re.fullmatch("[0-9]{1,9}", number) else None
        if value is None:
            raise click.BadParameter(f"{word!r}: not a number from 1 on. {EXAMPLE}", param_hint="--limit")
        if NAMES[name] in values:
            raise click.BadParameter(f"{name} is given twice", param_hint="--limit")
        values[NAMES[name]] = value
    return Limits(**values)


def _shown(limits: Limits) -> str:
    """5 jobs, 60 requests a minute, 10.0 GB; or no limits."""
    parts: list[Any] = [
        limits.jobs and f"{limits.jobs:,} unfinished {'job' if limits.jobs == 1 else 'jobs'}",
        limits.requests_per_minute and f"{limits.requests_per_minute:,} requests a minute",
        limits.bytes and size(limits.bytes),
    ]
    return ", ".join(filter(None, parts)) or "no limits"


def _print_table(keys: list[Key]) -> None:
    """The columns for which there is room. A name is never cut."""
    from rich.text import Text

    from cli.screens import terminal

    def ago(at: float | None) -> str:
        return f"{short(time.time() - at)} ago" if at else "never"

    table = terminal.Rows(("NAME", "SECRET", "LIMITS", "MADE", "USED", ""), lost_first=LOST_FIRST)
    for key in keys:
        state = Text("revoked", "red") if key.revoked_at else Text("admin" if key.admin else "", "green")
        cells = (printable(key.hint), _shown(key.limits), ago(key.created_at), ago(key.used_at))
        table.add(Text(printable(key.name), "bold"), *cells, state)
    terminal.put(terminal.console(), table)
