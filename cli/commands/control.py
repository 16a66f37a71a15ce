"""`ftq cancel`, `pause`, `resume`, `retry`: what a person may change about a run. Each says what came of it."""

from __future__ import annotations

import time

import click

from cli.common import find_run, note, open_client, run_argument, say
from ftq.files.run_dir import STAGES


@click.command()
@run_argument
def cancel(run: str) -> None:
    """Stop a run for good.

    A running stage is gone within seconds, a queued one never starts. `ftq pause` frees the GPU for a while only.

    \b
    Example:
      ftq cancel handbook
    """
    client = open_client()
    before = find_run(client, run)
    after = client.cancel(before.id)
    if before.is_finished:
        said = "is already cancelled" if before.status == "cancelled" else f"has already {_ended(before.status)}"
        say(f"{after.name} {said}: nothing to cancel.")
        return
    if after.is_finished:
        say(f"{after.name} is cancelled: it never starts again by itself.")
    elif before.wanted == "cancel":
        say(f"{after.name} is already being cancelled.")
    else:
        say(f"{after.name} is being cancelled: its {_stage(after.current)} stage stops within 10 seconds.")
        from ftq.client.view import silence  # not for `ftq --help`: it imports the planning

        silent = silence(after, client.settings.lease_seconds, time.time())
        if silent is not None and silent > client.settings.lease_seconds:
            note(f"Note: its worker hasn't been heard of for {silent:.0f} s. The next worker that is up ends it.")
    note(f"What is done is kept: `ftq retry {after.name}` would go on from there.")


@click.command()
@run_argument
def pause(run: str) -> None:
    """Halt a run and keep its place.

    It saves a checkpoint and frees the GPU; `ftq resume` lets it go on.

    \b
    Example:
      ftq pause handbook
    """
    client = open_client()
    before = find_run(client, run)
    after = client.pause(before.id)
    if before.is_finished:
        say(f"{after.name} has already {_ended(before.status)}: nothing to pause.")
    elif before.wanted == "cancel":
        say(f"{after.name} is being cancelled: nothing to pause.")
    elif before.wanted == "pause":
        say(f"{after.name} is already paused." if after.status == "paused" else f"{after.name} is being paused.")
    elif after.status == "running":
        say(f"{after.name} is being paused: its {_stage(after.current)} stage saves what it has and stops.")
    else:
        say(f"{after.name} is paused.")
    if after.wanted == "pause":
        note(f"`ftq resume {after.name}` lets it go on, on any worker.")


@click.command()
@run_argument
def resume(run: str) -> None:
    """Let a paused run go on from its checkpoint.

    \b
    Example:
      ftq resume handbook
    """
    client = open_client()
    before = find_run(client, run)
    after, notes = client.resume(before.id)
    if before.wanted != "pause" or before.is_finished:
        state = "is being cancelled" if before.state == "stopping" else _state(before.status)
        say(f"{after.name} isn't paused: it {state}.")
        return
    say(f"{after.name} goes on with {_stage(after.current)}.")
    for text in notes:
        note(f"Note: {text}")


@click.command()
@run_argument
@click.option("--from", "from_stage", type=click.Choice(STAGES), help="Do this stage and all after it anew.")
def retry(run: str, from_stage: str | None) -> None:
    """Take a failed or cancelled run up again.

    It goes on from the stage that isn't done; what is done is kept.

    \b
    Examples:
      ftq retry handbook
      ftq retry handbook --from export
    """
    client = open_client()
    after, notes = client.retry(find_run(client, run).id, from_stage)
    done = [stage.name for stage in after.stages if stage.status == "succeeded"]
    kept = f" ({', '.join(done)}: kept)" if done else ""
    say(f"{after.name} goes on with {_stage(after.current)}{kept}.")
    for text in notes:
        note(f"Note: {text}")
    note(f"`ftq status {after.name} --watch` follows it.")


def _stage(stage: object) -> str:
    return str(getattr(stage, "name", ""))


def _ended(status: str) -> str:
    return "been cancelled" if status == "cancelled" else status


def _state(status: str) -> str:
    return f"has {_ended(status)}" if status in ("succeeded", "failed", "cancelled") else f"is {status}"
