"""Does a plan change what is learned? The same training in several ways, and its validation loss each time.

    python -m benchmarks.train_loss BASE_DIR [--json FILE]      BASE_DIR as benchmarks/peers/make_base.py makes it

Same rows, options, seed and number of examples; another is only how a step is computed: examples end to end or padded,
one micro-batch or four, a base in 16 bit, FP8 or 4 bit, kept activations or checkpointing, compiled or not. Each loss
is told as the training saw it, and with the adapter on the base model in 32 bit: that is what an export merges. What
"the same" can mean, two other seeds show: the command ends with exit code 1 if a way is further from 16 bit with its
seed than any two seeds are from each other. All run at once: the base is small.
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
from ftq.examples.report import DatasetReport
from ftq.files.run_dir import RunDir, read_jsonl
from worker.stages.model import rows
from worker.stages.model.tokens import IGNORED

EXAMPLES = 32
ONCE = {"batch_size": EXAMPLES, "gradient_accumulation_steps": 1}
FIRST = "16 bit, end to end"
SEEDS = (FIRST, "another seed", "a third seed")
WAYS: dict[str, dict[str, Any]] = {
    FIRST: {**ONCE},
    "another seed": {**ONCE, "seed": 1},
    "a third seed": {**ONCE, "seed": 2},
    "four micro-batches": {"batch_size": EXAMPLES // 4, "gradient_accumulation_steps": 4},
    "FP8": {**ONCE, "load_in_fp8": "true"},
    "FP8, another seed": {**ONCE, "load_in_fp8": "true", "seed": 1},
    "FP8, a third seed": {**ONCE, "load_in_fp8": "true", "seed": 2},
    "4 bit, end to end": {**ONCE, "load_in_4bit": "true"},
    "4 bit, another seed": {**ONCE, "load_in_4bit": "true", "seed": 1},
    "4 bit, a third seed": {**ONCE, "load_in_4bit": "true", "seed": 2},
    "checkpointing": {**ONCE, "gradient_checkpointing": "true"},
    "16 bit, padded": {**ONCE, "packing": "false"},
    "plain TRL and PEFT": {**ONCE, "engine": "trl"},
}


def start(base: Path, work: Path, name: str, steps: int) -> tuple[RunDir, subprocess.Popen[str]]:
    """One training by the stage itself."""
    train, valid = (lines_of(base / "rows" / f"{part}.jsonl") for part in ("train", "valid"))
    run = prepared(work / slug(name), base, train, valid)
    usual = {"load_in_4bit": "false", "load_in_fp8": "false", "gradient_checkpointing": "false", "max_steps": steps,
             "eval_steps": steps // 2}  # fmt: skip
    command = [sys.executable, "-m", "worker.stages.train", str(run.path)]
    command += [text for key, value in {**usual, **WAYS[name]}.items() for text in ("--set", f"{key}={value}")]
    log = run.log("train")
    log.parent.mkdir()
    with log.open("w") as output:
        return run, subprocess.Popen(command, stdout=output, stderr=output, text=True, stdin=subprocess.DEVNULL)


def result(name: str, base: Path, run: RunDir, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Its validation losses, at the middle and at the end, and that of its adapter on the base in 32 bit."""
    if process.wait():
        said = run.log("train").read_text(encoding="utf-8").strip().splitlines() or ["no output"]
        return {"way": name, "error": said[-1][:300]}
    looks = [line for line in read_jsonl(run.metrics) if "valid_loss" in line]
    losses = {line["step"]: round(line["valid_loss"], 4) for line in looks}
    return {"way": name, "losses": losses, "exact": round(exact_loss(base, run), 4)}


def exact_loss(base: Path, run: RunDir) -> float:
    """The mean loss of the held out rows' labels, the adapter on the base model in 32 bit."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    bare: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(bare.to(device), str(run.adapter)).eval()
    _, valid = rows.read(run.dataset, base, DatasetReport.read(run.dataset), False)
    total, count = 0.0, 0
    for row in valid:
        ids, labels = (torch.tensor([list(row[name])], device=device) for name in ("input_ids", "labels"))
        labelled = int((labels[:, 1:] != IGNORED).sum())
        with torch.inference_mode():
            total += float(model(input_ids=ids, labels=labels).loss) * labelled
        count += labelled
    return total / count


def table(found: list[dict[str, Any]]) -> tuple[str, bool]:
    """(A row for each way, whether all agree with 16 bit of their seed within what seeds differ by)."""
    seen = {row["way"]: (list(row["losses"].values())[-1], row["exact"]) for row in found if row.get("losses")}
    exact = {WAYS[way].get("seed"): seen[way] for way in SEEDS if way in seen}
    losses = [loss for _, loss in exact.values()]
    noise = max(losses) - min(losses) if losses else 0.0
    lines = [
        "| way | validation loss | less 16 bit's | on the base in 32 bit | less 16 bit's |",
        "|---|---|---|---|---|",
    ]
    agree = True
    for row in found:
        mine, first = seen.get(row["way"]), exact.get(WAYS[row["way"]].get("seed"))
        if mine is None or first is None:
            lines.append(f"| {row['way']} | {row.get('error', 'none')} | | | |")
            agree = False
            continue
        cells = (f"{loss:.4f} | {loss - other:+.4f}" for loss, other in zip(mine, first, strict=True))
        lines.append(f"| {row['way']} | {' | '.join(cells)} |")
        agree = agree and abs(mine[1] - first[1]) <= noise
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
                found.append(result(name, given.base.resolve(), run, process))
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
