"""The drill: small runs on real workers and a real broker, through a hundred random faults. `make drill`.

Two workers with a short lease, three runs in flight, and every second or so something is killed, frozen, told to stop,
taken away or sent twice. At the end every run must have ended as its user wanted it, with each stage published once.
The faults and their order come from a seed that is printed; the moments they hit are as random as the machine.
docs/drill.md says what is counted, and has the table of one drill.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.drill_faults import FAULTS
from benchmarks.drill_machine import Machine
from benchmarks.drill_runs import SAVE_STEPS, Drill, Injected
from benchmarks.drill_verdict import judge, table


def inject(drill: Drill, faults: int, kinds: list[str], pause: float = 2.5) -> None:
    """So many faults, every kind about equally often, shuffled, up to `pause` seconds before each."""
    rounds = -(-faults // len(kinds))
    cards = [kind for _ in range(rounds) for kind in drill.random.sample(kinds, len(kinds))]
    for kind in cards[:faults]:
        drill.pause_for(drill.random.uniform(0.1, pause))
        drill.machine.replace_the_dead()
        injected = Injected(kind, time.time())
        drill.injected.append(injected)
        FAULTS[kind](drill, injected)
        drill.machine.replace_the_dead()
        took = "" if injected.seconds is None else f", on after {injected.seconds:.1f} s"
        say(f"{len(drill.injected):4d} {kind}: {len(injected.runs)} affected{took}")


@contextlib.contextmanager
def make(home: Path, seed: int, real: bool) -> Iterator[Drill]:
    """A drill with its machine up; everything it started is gone at the end."""
    if real:
        machine = Machine(home, "worker.run")
        options, journal = _real_options(home.parent / "tiny"), None
    else:
        journal = home.parent / "journal.jsonl"
        machine = Machine(home, "tests.fake_worker", FTQ_JOURNAL=str(journal), FTQ_STAGE_SECONDS="0.3")
        options = {"model": "smollm2-135m", "max_steps": 60, "save_steps": SAVE_STEPS}
    drill = Drill(machine, seed, options, journal)
    try:
        machine.start_broker()
        for _ in range(2):
            machine.start_worker()
        yield drill
    finally:
        machine.close()


def _real_options(model: Path) -> dict[str, Any]:
    from tests.tiny import make_tiny_model

    return {"model": str(make_tiny_model(model)), "max_steps": 60, "save_steps": SAVE_STEPS, "batch_size": 1,
            "gradient_accumulation_steps": 1, "max_seq_length": 64, "r": 8, "quantizations": "f16",
            "max_tokens": 8}  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.drill", description=__doc__)
    arguments.add_argument("--seed", type=int, default=20261122)
    arguments.add_argument("--faults", type=int, default=100)
    arguments.add_argument("--real", action="store_true", help="real stages on a tiny real model")
    arguments.add_argument("--only", action="append", metavar="TEXT", help="only faults with this in their name")
    arguments.add_argument("--keep", type=Path, help="a new folder for everything, left there for a look")
    given = arguments.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="ftq-drill-"))
    say(f"seed {given.seed}, {given.faults} faults, in {folder}")
    began = time.monotonic()
    with make(folder / "artifacts", given.seed, given.real) as drill:
        kinds = [kind for kind in FAULTS if not given.only or any(text in kind for text in given.only)]
        inject(drill, given.faults, kinds)
        drill.finish()
        verdict = judge(drill)
        print(table(drill, verdict))
        print(f"\nSeed {given.seed}, {(time.monotonic() - began) / 60:.0f} minutes.")
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
