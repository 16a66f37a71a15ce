"""Does a plan change what is learned? The same training in several ways, and its validation loss each time.

    python -m benchmarks.train_loss BASE_DIR [--json FILE]      BASE_DIR as benchmarks/peers/make_base.py makes it

Same rows, options, seed and number of examples; another is only how a step is computed: examples end to end or padded,
one micro-batch or four, a base in 16 or in 4 bit, kept activations or checkpointing, compiled or not. What "the same"
can mean, two other seeds show: the command ends with exit code 1 if a way is further from the first one than any two
seeds are from each other. All run at once: the base is small.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.train_gpu import lines_of, prepared, slug
from ftq.files.run_dir import RunDir, read_jsonl

EXAMPLES = 32
ONCE = {"batch_size": EXAMPLES, "gradient_accumulation_steps": 1}
FIRST = "16 bit, end to end"
WAYS: dict[str, dict[str, Any]] = {
    FIRST: {**ONCE},
    "another seed": {**ONCE, "seed": 1},
    "a third seed": {**ONCE, "seed": 2},
    "four micro-batches": {"batch_size": EXAMPLES // 4, "gradient_accumulation_steps": 4},
    "4 bit, end to end": {**ONCE, "load_in_4bit": "true"},
    "checkpointing": {**ONCE, "gradient_checkpointing": "true"},
    "16 bit, padded": {**ONCE, "packing": "false"},
    "plain TRL and PEFT": {**ONCE, "engine": "trl"},
}


def start(base: Path, work: Path, name: str, steps: int) -> tuple[RunDir, subprocess.Popen[str]]:
    """One training by the stage itself."""
    train, valid = (lines_of(base / "rows" / f"{part}.jsonl") for part in ("train", "valid"))
    run = prepared(work / slug(name), base, train, valid)
    usual = {"load_in_4bit": "false", "gradient_checkpointing": "false", "max_steps": steps, "eval_steps": steps // 2}
    command = [sys.executable, "-m", "worker.stages.train", str(run.path)]
    command += [text for key, value in {**usual, **WAYS[name]}.items() for text in ("--set", f"{key}={value}")]
    log = run.log("train")
    log.parent.mkdir()
    with log.open("w") as output:
        return run, subprocess.Popen(command, stdout=output, stderr=output, text=True, stdin=subprocess.DEVNULL)


def result(name: str, run: RunDir, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Its validation losses, at the middle and at the end."""
    if process.wait():
        said = run.log("train").read_text(encoding="utf-8").strip().splitlines() or ["no output"]
        return {"way": name, "error": said[-1][:300]}
    looks = [line for line in read_jsonl(run.metrics) if "valid_loss" in line]
    return {"way": name, "losses": {line["step"]: round(line["valid_loss"], 4) for line in looks}}


def table(found: list[dict[str, Any]]) -> tuple[str, bool]:
    """(A row for each way, whether all that differ in no seed agree within what seeds differ by)."""
    last = {row["way"]: list(row["losses"].values())[-1] for row in found if row.get("losses")}
    first = last.get(FIRST)
    seeds = [loss for way, loss in last.items() if way == FIRST or "seed" in WAYS[way]]
    noise = max(seeds) - min(seeds) if len(seeds) > 1 else 0.0
    lines, agree = ["| way | validation loss | less the first |", "|---|---|---|"], first is not None
    for row in found:
        loss = last.get(row["way"])
        if loss is None or first is None:
            lines.append(f"| {row['way']} | {row.get('error', 'none')} | |")
            agree = False
            continue
        lines.append(f"| {row['way']} | {loss:.4f} | {loss - first:+.4f} |")
        agree = agree and ("seed" in WAYS[row["way"]] or abs(loss - first) <= noise)
    return "\n".join([*lines, "", f"Seeds differ by {noise:.4f}."]), agree


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.train_loss", description=__doc__)
    arguments.add_argument("base", type=Path)
    arguments.add_argument("--steps", type=int, default=120)
    arguments.add_argument("--only", nargs="+", choices=WAYS, metavar="WAY")
    arguments.add_argument("--json", type=Path, help="where the results go")
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))  # and with it all that it started
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="ftq-loss-") as work:
        started = {name: start(given.base.resolve(), Path(work), name, given.steps) for name in given.only or WAYS}
        try:
            for name, (run, process) in started.items():
                found.append(result(name, run, process))
                print(json.dumps(found[-1]), flush=True)
                if given.json:
                    given.json.write_text(json.dumps(found, indent=1) + "\n")
        finally:
            for _, process in started.values():
                process.kill()
    text, agree = table(found)
    print(text)
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
