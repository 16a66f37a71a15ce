"""The drill: small runs on real workers and a real broker, through a hundred random faults. `make drill`.

Two workers with a short lease, three runs in flight, and again and again something is killed, frozen, asked to stop,
taken away or sent twice: when work went on after the fault before, or with `--pace` whether it did or not. At the end
every run must have ended as its user wanted it, with each stage published once.
The faults and their order come from a seed that is printed; the moments they hit are as random as the machine.
docs/drill.md says what is counted, and has the table of one drill.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import drill_memory, network
from benchmarks.drill_apart import Apart
from benchmarks.drill_cuts import CUTS
from benchmarks.drill_faults import FAULTS
from benchmarks.drill_machine import Machine
from benchmarks.drill_runs import FINISH_SECONDS, SAVE_STEPS, Drill, Injected
from benchmarks.drill_verdict import judge, table

TINY = "tiny"
REAL_MINUTES, REAL_FINISH_SECONDS = 30, 1200.0  # of faults, and for what is unfinished then: no drill takes for ever


def inject(
    drill: Drill, faults: int, kinds: list[str], pause: float = 2.5, pace: float | None = None, most: float = math.inf
) -> None:
    """So many faults, or as many as `most` seconds are enough for: every kind about equally often, shuffled.

    Up to `pause` seconds after work went on comes the next one. With a `pace` they come by chance, that many seconds
    apart on average, and don't wait for anything.
    """
    rounds = -(-faults // len(kinds))
    cards = [kind for _ in range(rounds) for kind in drill.random.sample(kinds, len(kinds))]
    began = drill.next_fault = time.monotonic()
    for kind in cards[:faults]:
        drill.pause_for(drill.next_fault - time.monotonic() if pace else drill.random.uniform(0.1, pause))
        if time.monotonic() - began > most:
            say(f"the {most / 60:.0f} minutes are over: no more faults")
            break
        drill.next_fault = time.monotonic() + drill.random.expovariate(1 / pace) if pace else math.inf
        drill.machine.replace_the_dead()
        injected = Injected(kind, time.time())
        drill.injected.append(injected)
        FAULTS[kind](drill, injected)
        drill.machine.replace_the_dead()
        took = "" if injected.seconds is None else f", on after {injected.seconds:.1f} s"
        say(f"{len(drill.injected):4d} {kind}: {len(injected.runs)} affected{took}")


@contextlib.contextmanager
def make(home: Path, seed: int, model: str | None = None, apart: bool = False, spared: bool = False) -> Iterator[Drill]:
    """A drill with its machine up; everything it started is gone at the end. With a `model` the stages are real.

    `apart`: two machines that share nothing and a client on a third, with a bucket; one more worker is `spared`.
    """
    module, environment, journal = "worker.host.worker", dict[str, str](), None
    if model:
        options = _real_options(model, home.parent / "tiny")
    else:
        journal = home.parent / "journal.jsonl"
        module, environment = "tests.fake_worker", {"FTQ_JOURNAL": str(journal), "FTQ_STAGE_SECONDS": "0.3"}
        options = {"model": "smollm2-135m", "max_steps": 60, "save_steps": SAVE_STEPS}
    with contextlib.ExitStack() as stack:
        machine = (
            _apart(home.parent, stack, module, spared, environment) if apart else Machine(home, module, **environment)
        )
        stack.callback(machine.close)
        machine.start_broker()
        machine.start_workers()
        yield Drill(machine, seed, options, journal)


def _apart(folder: Path, stack: contextlib.ExitStack, module: str, spared: bool, environment: dict[str, str]) -> Apart:
    if why_not := network.why_not():
        sys.exit(f"--apart: {why_not}")
    from tests.cluster import cluster

    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)  # the database's user looks for its password there
    return Apart(stack.enter_context(cluster(folder)), module, spared, **environment)


def _real_options(model: str, folder: Path) -> dict[str, Any]:
    """Few short rows. A tiny model's steps take no time; another's checkpoints are the product's own, by the clock."""
    few = {"max_steps": 60, "batch_size": 1, "gradient_accumulation_steps": 1, "max_seq_length": 64, "r": 8,
           "quantizations": "f16", "max_tokens": 8}  # fmt: skip
    if model != TINY:
        return {**few, "model": model}
    from tests.tiny import make_tiny_model

    return {**few, "model": str(make_tiny_model(folder)), "save_steps": SAVE_STEPS}


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.drill", description=__doc__)
    arguments.add_argument("--seed", type=int, default=20261122)
    arguments.add_argument("--faults", type=int, default=100)
    arguments.add_argument("--pace", type=float, metavar="SECONDS",
                           help="mean time between faults, which then wait for no run to go on")  # fmt: skip
    arguments.add_argument("--minutes", type=float, metavar="MINUTES",
                           help=f"no more faults after that; {REAL_MINUTES} with --real")  # fmt: skip
    arguments.add_argument("--real", nargs="?", const="smollm2-135m", metavar="MODEL",
                           help=f"real stages on few short rows: smollm2-135m, or {TINY}: random weights")  # fmt: skip
    arguments.add_argument("--only", action="append", metavar="TEXT", help="only faults with this in their name")
    arguments.add_argument("--apart", action="store_true",
                           help="machines that share nothing but a bucket, a database, a broker (as root)")  # fmt: skip
    arguments.add_argument("--memory", type=Path, metavar="FILE",
                           help="with --apart: note the memory of a spared worker, and of `ftq serve`")  # fmt: skip
    arguments.add_argument("--keep", type=Path, help="a new folder for everything, left there for a look")
    given = arguments.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="ftq-drill-"))
    say(f"seed {given.seed}, {given.faults} faults, in {folder}")
    began = time.monotonic()
    minutes = given.minutes or (REAL_MINUTES if given.real else math.inf)
    with make(folder / "artifacts", given.seed, given.real, given.apart, bool(given.memory)) as drill:
        kinds = [kind for kind in FAULTS if not given.only or any(text in kind for text in given.only)]
        kinds = [kind for kind in kinds if given.apart or kind not in CUTS]
        if given.memory:
            drill_memory.watch(drill.machine, given.memory)
        inject(drill, given.faults, kinds, pace=given.pace, most=60 * minutes)
        drill.finish(REAL_FINISH_SECONDS if given.real else FINISH_SECONDS)
        verdict = judge(drill)
        print(table(drill, verdict))
        pace = f", a fault every {given.pace:g} s on average" if given.pace else ""
        print(f"\nSeed {given.seed}{pace}, {(time.monotonic() - began) / 60:.0f} minutes.")
        for _, _, why in verdict.twice:
            print(f"executed twice: {why}")
        for _, _, why in verdict.lost:
            print(f"lost: {why}")
        for note in drill.notes:
            print(f"note: {note}")
    if not given.keep:
        shutil.rmtree(folder)
    sys.exit(1 if verdict.twice or verdict.lost else 0)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
