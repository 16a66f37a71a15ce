"""Whether a worker is up that takes a run's stages; if none is, what is missing and how to start it."""

from __future__ import annotations

from collections.abc import Sequence

from ftq.store.records import MAX_GPUS, Run, Worker, gpu_queue, queue_of

START = "Start it with `ftq up` (everything on this machine) or `ftq worker`."


def missing_for(runs: tuple[Run, ...], live: set[str]) -> str:
    """Why the first of these runs that waits in vain does so, and what to do; empty if all are served.

    `live` are the queues that workers serve now. A run that is still recorded as running waits too where all are gone.
    """
    for run in runs:
        if run.status == "running":
            if not live:
                return f"No worker is up, so {run.name} stands still until one is. {START}"
            continue
        needed = {queue_of(stage.name, run.spec) for stage in run.remaining}
        if run.wanted == "run" and not run.is_finished and (missing := needed - live):
            why, start = explain(run.name, missing, live)
            return f"{why}. The run is recorded and starts as soon as one is there. {start}"
    return ""


def too_old(runs: tuple[Run, ...], workers: Sequence[Worker]) -> str:
    """Which worker doesn't know a stage that a run waits for, and what to do; empty if none is so old.

    It drops the stage's messages. They are sent again, until another worker takes one.
    """
    for run in runs:
        if run.wanted != "run" or run.is_finished:
            continue
        for stage in run.remaining:
            queue = queue_of(stage.name, run.spec)
            old = [one.name for one in workers if one.is_live and queue in one.queues and stage.name in one.lacks]
            if old:
                which = f"{', '.join(old)} {'is' if len(old) == 1 else 'are'} of an earlier version of ftq"
                return (
                    f"{which}, without the stage {stage.name}: {run.name} waits there until another worker takes it. "
                    f"Restart {'it' if len(old) == 1 else 'them'} with this version."
                )
    return ""


def explain(name: str, missing: set[str], live: set[str]) -> tuple[str, str]:
    """(what is missing for the run of that name, how to start it)."""
    wide = next((count for count in range(2, MAX_GPUS + 1) if gpu_queue(count) in missing), 0)
    if wide and live:
        most = next((count for count in range(MAX_GPUS, 1, -1) if gpu_queue(count) in live), 1)
        example = ",".join(map(str, range(wide)))
        return (
            f"{name} needs a worker with {wide} GPUs, and no worker here has more than {most}",
            f"`ftq worker --gpus {example}` starts one.",
        )
    if not live:
        return "No worker is up", START
    queues = sorted(missing)
    return f"No worker serves the queue {' or '.join(queues)}", f"`ftq worker --queues {','.join(queues)}` starts one."
