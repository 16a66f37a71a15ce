"""`--watch` and `--wait`: a live view on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cli.common import note
from cli.screens import terminal, words
from cli.screens.run import print_run, run_view
from cli.screens.runs import runs_table
from ftq.client import view
from ftq.client.follow import patiently
from ftq.errors import NotFound, printable
from ftq.store.records import Run

if TYPE_CHECKING:
    from ftq.client.remote.protocol import AnyClient

SECONDS = 1.0


def watch_run(client: AnyClient, run_id: str, stderr: bool = False, told: str = "") -> Run:
    """Show the run until it is finished. `told` is what was said already of missing workers."""
    out = terminal.console(stderr)
    home, lease = client.settings.home, client.settings.lease_seconds
    if not terminal.can_redraw(out):
        run = _print_changes(client, run_id, out, told)
    else:
        symbols = terminal.has_symbols(out)
        with Live(console=out, auto_refresh=False, transient=True) as live:
            for run in client.follow(run_id, SECONDS):
                now = time.time()
                notes = patiently(partial(warnings, client, run, now), lease)
                seen = run_view(run, home, now, notes, whole=False, symbols=symbols)
                live.update(seen, refresh=True)
    url = client.urls(run)[run.id]
    print_run(run, client.home_of(run), stderr=stderr, url=url, elsewhere=client.elsewhere(run) or client.lost(run))
    return run


def watch_list(client: AnyClient, limit: int | None) -> None:
    """Show the list of runs until Ctrl-C."""
    out = terminal.console()
    if not terminal.can_redraw(out):
        _print_all_changes(client, limit, out)
    with Live(console=out, auto_refresh=False) as live:
        while True:
            seen = patiently(lambda: _list(client, limit, out), client.settings.lease_seconds)
            live.update(seen, refresh=True)
            time.sleep(SECONDS)


def latest(client: AnyClient, limit: int | None) -> tuple[list[Run], int]:
    """(the newest runs, and the older ones that a worker has at this moment; how many more there are)"""
    runs = client.all(limit)
    if limit is None or len(runs) < limit or (more := client.count() - len(runs)) <= 0:
        return runs, 0
    at_work = {part.run_id for member in client.fleet.all() for part in member.work if part.run_id}  # "": another's
    older = list[Run]()
    for run_id in at_work - {run.id for run in runs}:
        with suppress(NotFound):  # deleted meanwhile
            older.append(client.find(run_id))
    return runs + sorted(older, key=lambda run: run.created_at, reverse=True), more - len(older)


def warnings(client: AnyClient, run: Run, now: float) -> list[str]:
    """What a person should know while waiting: no worker, no free one, no sign of life, a wait after losses."""
    notes = [silent(run, client.settings.lease_seconds, now), waits(run, now), client.missing_worker(run)]
    return [text for text in notes if text] or ([text] if (text := turn(client, run)) else [])


def turn(client: AnyClient, run: Run) -> str:
    """Whose work the run waits for, if it waits for that."""
    return view.turn(run, client.fleet.all()) if run.status == "queued" else ""


def _waits_for(client: AnyClient, run: Run) -> str:
    return client.missing_worker(run) or turn(client, run)


def list_warnings(client: AnyClient, runs: list[Run], now: float) -> list[str]:
    """The same for many runs: each that gives no sign of life, and the oldest that no worker takes."""
    silences = [(run.name, silent(run, client.settings.lease_seconds, now)) for run in runs]
    notes = [f"{name}: {text}" for name, text in silences if text]
    return notes + [text for text in [client.missing_worker(*reversed(runs))] if text]


def silent(run: Run, lease: float, now: float) -> str:
    """That nobody has heard of the stage at work for half a lease, and what follows; empty if somebody has."""
    seconds, stage = view.silence(run, lease, now), run.current
    if seconds is None or stage is None or seconds <= lease / 2:
        return ""
    if stage.lease_until and now < stage.lease_until:
        until = words.clock(stage.lease_until)
        return (
            f"no sign of life from {stage.worker} for {words.duration(seconds)}: "
            f"if it has ended, its lease is waited for, until {until}"
        )
    if seconds <= lease:
        return ""
    return (
        f"no sign of life for {words.duration(seconds)}, longer than a lease ({lease:.0f} s): a live worker takes it up"
    )


def waits(run: Run, now: float) -> str:
    """Why and how long a run waits that was lost several times; empty if it doesn't wait."""
    head = run.current
    if run.status != "queued" or head is None or head.losses < 2 or (head.queued_at or 0.0) <= now:
        return ""
    return (
        f"{head.name} was lost {head.losses} times in a row, `ftq events {run.name}` says how: it is tried again in "
        f"{words.duration((head.queued_at or 0.0) - now)}, `ftq retry {run.name}` does it now"
    )


def _list(client: AnyClient, limit: int | None, out: Console) -> RenderableType:
    (runs, more), now = latest(client, limit), time.time()
    if not runs:
        return Text("No runs yet: `ftq submit` makes one.", "dim")
    parts: list[RenderableType] = [runs_table(runs, now, terminal.has_symbols(out))]
    if more:
        parts.append(Text(f"{more:,} more: --all", "dim"))
    parts += [Text(printable(f"! {text}"), "yellow") for text in list_warnings(client, runs, now)]
    return Group(*parts)


def _print_changes(client: AnyClient, run_id: str, out: Console, told: str) -> Run:
    seen = dict[str, str]()
    for run in client.follow(run_id, SECONDS):
        _print_if_changed(run, seen, out)
        waits_for = patiently(partial(_waits_for, client, run), client.settings.lease_seconds)
        if waits_for and waits_for != told:
            note(f"Note: {waits_for}")
        told = waits_for
    return run


def _print_all_changes(client: AnyClient, limit: int | None, out: Console) -> NoReturn:
    seen: dict[str, str] = {}
    told = False
    while True:
        runs, more = patiently(lambda: latest(client, limit), client.settings.lease_seconds)
        if more and not told:
            note(f"{more:,} more: --all")
        told = told or more > 0
        for run in reversed(runs):
            _print_if_changed(run, seen, out)
        time.sleep(SECONDS)


def _print_if_changed(run: Run, seen: dict[str, str], out: Console) -> None:
    """Print a line when the status, the stage or the next five percent have changed."""
    stage, progress = run.current, view.progress(run) or {}
    percent = int(progress.get("percent") or 0) if stage and run.status == "running" else 0
    change = f"{run.status} {stage and (stage.name, stage.status, stage.attempt)} {percent // 5}"
    if seen.get(run.id) == change:
        return
    seen[run.id] = change
    parts = [words.clock(time.time()), run.name, run.status]
    if stage and run.status != "cancelled":
        parts.append(stage.name)
    if percent:
        parts += [f"{percent} %", words.numbers(progress), words.time_left(progress)]
    out.print(printable("  ".join(part for part in parts if part)))
