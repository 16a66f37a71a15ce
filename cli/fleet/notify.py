"""`ftq notify`: who is told what happens to runs, and a test of it."""

from __future__ import annotations

import os
import socket
import time

import click

from cli.common import note, say


@click.command()
@click.option("--test", is_flag=True, help="Send each address a test now. Exit code 1 if one isn't reached.")
def notify(test: bool) -> None:
    """Show who is told when runs finish, fail or stall.

    A drained worker that has nothing left is told too. FTQ_NOTIFY_URL names them, separated by spaces. The workers
    send, so it is to be set where they run; this command reads its own.

    \b
    Examples:
      ftq notify
      ftq notify --test
    """
    from ftq.notify.addresses import addresses
    from ftq.notify.send import Notice, problem, send
    from ftq.store.fleet.notices import sample_body

    known = addresses(os.environ)
    if not known:
        note("Nobody is told: FTQ_NOTIFY_URL is empty. docs/workers.md says what it takes.")
    failed = 0
    for number, address in enumerate(known):
        if test:
            body = sample_body(socket.gethostname(), time.time())
            error = send(address, Notice(f"evt_test_{time.time_ns()}_{number}", "test", body))
        else:
            error = problem(address)
        failed += bool(error)
        say(f"{address.shown}: {error or ('sent' if test else 'ok')}")
    if failed or (test and not known):
        click.get_current_context().exit(1)
