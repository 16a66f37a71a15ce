"""`ftq status`, `logs`, `events`, `options`: everything that only looks."""

from __future__ import annotations

import codecs
import io
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from cli.common import (
    Whole,
    check_database,
    complete_run,
    ctrl_c,
    find_run,
    json_option,
    note,
    open_client,
    print_json,
    run_argument,
    tell,
)
from ftq.errors import Unavailable, in_line, printable
from ftq.files.log_head import OneAttempt
from ftq.files.run_dir import STAGES

if TYPE_CHECKING:
    from ftq.client.remote.protocol import AnyClient
    from ftq.store.records import Event, Run

SHOWN = 20
ASK = "ask"  # what the questions of `ftq infer` are logged as
KIND_COLOURS = {
    "failed": "red",
    "lost": "red",
    "lease_lost": "red",
    "retried": "yellow",
    "warning": "yellow",
    "stalled": "yellow",
    "succeeded": "green",
    "cache_hit": "green",
    "cancelled": "yellow",
    "paused": "magenta",
}


@click.command()
@click.argument("run", metavar="[RUN]", required=False, shell_complete=complete_run)
@click.option("--watch", "-w", is_flag=True, help="Keep it on the screen, refreshed each second.")
@click.option("--all", "everything", is_flag=True, help=f"All runs, not only the latest {SHOWN} and those at work.")
@json_option
def status(run: str | None, watch: bool, everything: bool, as_json: bool) -> None:
    """List the runs, or show one.

    One: its stages, progress, artifacts, what was asked, and why it failed. ATTEMPT is how often a stage was begun:
    a pause, a loss and a retry each make it one more, and `ftq events RUN` says why. With --watch on one run, the
    exit code is the run's result.

    \b
    Examples:
      ftq status
      ftq status handbook --watch
      ftq status handbook --json
    """
    if watch and as_json:
        raise click.UsageError(f"--watch and --json don't go together: `ftq events {run or 'RUN'} -f --json` streams")
    client = open_client()
    limit = None if everything else SHOWN
    if run is None and watch:
        from cli.screens.watch import watch_list

        with ctrl_c("", exit_code=0):
            watch_list(client, limit)
    elif run is None:
        _list(client, limit, as_json)
    elif watch:
        _watch(client, find_run(client, run))
    else:
        _show(client, find_run(client, run), as_json)


def _list(client: AnyClient, limit: int | None, as_json: bool) -> None:
    if as_json:
        from ftq.client.view import as_dict

        runs = client.all()
        home, urls = client.home_of(*runs), client.urls(*runs)
        print_json([as_dict(run, home, url=urls[run.id]) for run in runs])
        return
    from cli.screens.watch import latest, list_warnings

    runs, more = latest(client, limit)
    if not runs:
        check_database(client)
        other = "" if client.has_database() else " Those of another folder: FTQ_HOME=FOLDER."
        note(f"No runs yet in {client.place}: `ftq submit --model smollm2-135m` makes one.{other}")
        return
    from cli.screens.runs import print_runs

    print_runs(runs)
    if more:
        note(f"{more:,} more: --all")
    for text in list_warnings(client, runs, time.time()):
        note(f"Note: {text}")


def _show(client: AnyClient, run: Run, as_json: bool) -> None:
    if as_json:
        from ftq.client.view import as_dict

        print_json(as_dict(run, client.home_of(run), url=client.urls(run)[run.id]))
        return
    from cli.screens.run import print_run
    from cli.screens.watch import warnings

    url = client.urls(run)[run.id]
    notes = warnings(client, run, time.time())
    print_run(run, client.home_of(run), notes, url=url, elsewhere=client.elsewhere(run) or client.lost(run))


def _watch(client: AnyClient, run: Run) -> None:
    from cli.screens.watch import watch_run

    with ctrl_c(f"The run goes on. `ftq status {run.name} --watch` follows it again."):
        finished = watch_run(client, run.id)
    click.get_current_context().exit(0 if finished.status == "succeeded" else 1)


@click.command()
@run_argument
@click.option("--stage", type=click.Choice((*STAGES, ASK)), help="Only this stage's log; ask: that of `ftq infer`.")
@click.option("--attempt", metavar="N", type=Whole(min=1), help="Only what this attempt has written.")
@click.option("--follow", "-f", is_flag=True, help="Go on until the run is finished.")
def logs(run: str, stage: str | None, attempt: int | None, follow: bool) -> None:
    """Print the logs of a run's stages.

    Each attempt begins with a line that has the time, the stage and the attempt's number. A pipe gets the bytes as
    they are; on a terminal control characters are shown as U+FFFD.

    \b
    Examples:
      ftq logs handbook -f
      ftq logs handbook --stage train --attempt 2
    """
    if attempt and stage == ASK:
        raise click.UsageError("--attempt belongs to a stage: questions have none")
    client = open_client()
    found = find_run(client, run)
    wanted = (stage,) if stage else STAGES
    out = sys.stdout.buffer if sys.stdout else io.BytesIO()  # None if it was closed
    if not _has_log(client, found, wanted, follow):
        _say_no_log(client, found, stage)
    last, shown = None, defaultdict[str, _Shown](_Shown) if sys.stdout and sys.stdout.isatty() else None
    parts = {name: OneAttempt(attempt) for name in wanted} if attempt else {}
    with ctrl_c(""):
        for name, piece in client.follow_logs(found.id, wanted, follow, _say_away):
            if attempt and not (piece := parts[name].take(piece)):
                continue
            if name != last and not stage:
                out.flush()
                note(f"==> {name} <==")
            last = name
            out.write(piece if shown is None else shown[name].take(piece))
            out.flush()
        met = sorted({number for part in parts.values() for number in part.met})
        if met and attempt not in met:
            note(f"No log of attempt {attempt}: there are those of {', '.join(map(str, met))}.")


class _Shown:
    """What a terminal gets of a log, piece by piece: a character may begin in one piece and end in the next."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def take(self, piece: bytes) -> bytes:
        text = printable(self._decoder.decode(piece), keep="\n\t\r")  # \r: a progress bar writes over itself
        return text.encode(sys.stdout.encoding or "utf-8", "replace")


def _has_log(client: AnyClient, run: Run, stages: Sequence[str], follow: bool) -> bool:
    """Whether there is something to print. Who follows is told by `_say_away` if that can't be known now."""
    try:
        return client.has_log(run.id, stages)
    except Unavailable:
        if not follow:
            raise
        return True


def _say_away(error: Unavailable) -> None:
    note(f"Note: {error.text}\nThe log goes on as soon as the bucket is back. Ctrl-C ends the waiting.")


def _say_no_log(client: AnyClient, run: Run, stage: str | None) -> None:
    if stage == ASK:
        note(f"No log of questions to {run.name}: `ftq infer {run.name}` asks one.")
        return
    what = f"the {stage} stage of {run.name}" if stage else run.name
    asked = [part for part in run.stages if stage in (None, part.name)]
    cached = [part.name for part in asked if part.cached]
    failed = next((part for part in asked if part.status == "failed"), None)
    happened = f"`ftq events {run.name}` tells what happened."
    if failed and failed.error:
        note(f"No log of {what}: {failed.name} failed before it wrote one: {failed.error.text}\n{happened}")
    elif elsewhere := client.elsewhere(run):
        note(f"No log of {what}: {elsewhere.text}")
    elif cached:
        note(f"No log of {what}: {', '.join(cached)} came from the cache, nothing ran.")
    elif run.is_finished and any(part.started_at for part in asked):
        note(f"No log of {what}: none was written, or it was deleted. {happened}")
    elif run.is_finished:
        note(f"No log of {what}: it never started (status: {run.status}).")
    else:
        waits = client.missing_worker(run) or "It begins when a worker starts the stage."
        note(f"No log of {what} yet (status: {run.status}). {waits}")


@click.command()
@run_argument
@click.option("--follow", "-f", is_flag=True, help="Go on until the run is finished.")
@json_option
def events(run: str, follow: bool, as_json: bool) -> None:
    """Print what happened to a run, and when.

    A line each: time, stage and attempt, kind, message. With --json, one JSON object a line.

    \b
    Example:
      ftq events handbook -f
    """
    client = open_client()
    found = find_run(client, run)
    with ctrl_c(""):
        for event in client.follow_events(found.id, follow):
            if as_json:
                click.echo(_event_json(event))
            else:
                tell(_event_line(event))


def _event_json(event: Event) -> str:
    import json

    from ftq.client.view import event_as_dict

    return json.dumps(event_as_dict(event))


def _event_line(event: Event) -> str:
    at = datetime.fromtimestamp(event.at).strftime("%Y-%m-%d %H:%M:%S")
    where = f"{event.stage}.{event.attempt}" if event.attempt else event.stage or ""
    kind = click.style(printable(f"{event.kind:<11}"), fg=KIND_COLOURS.get(event.kind))
    return f"{at}  {printable(where):<10}  {kind}  {printable(in_line(event.message))}"


@click.command()
@json_option
def options(as_json: bool) -> None:
    """List the options of a run with defaults and limits.

    Set one by --set or in --config of `ftq submit`.

    \b
    Example:
      ftq options | grep -i lora
    """
    from ftq.spec.options import options as all_options

    if as_json:
        print_json(all_options())
        return
    from cli.screens.tables import print_options

    print_options(all_options())
