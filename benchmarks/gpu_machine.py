"""The whole of ftq on a GPU machine: `ftq up`, the real queue, the real 135M model, and what goes wrong there.

    python -m benchmarks.gpu_machine --log benchmarks/results/gpu-machine.log [--llama-server PATH]

Two runs of documents/ go through `ftq up`. The first one's training is killed by kill -9 and goes on from its
checkpoint; the second trains while the first is exported and answers, on one card. Then both are asked, `ftq doctor
--deep` runs, and with --llama-server a llama-server with CUDA answers beside a training run. Whatever doesn't end as it
should is counted, and the exit code says whether anything was.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ftq.client.client import Client
from ftq.settings import Settings
from ftq.store.records import Run
from worker.llama.answer import Question
from worker.llama.pool import Pool

FTQ = [sys.executable, "-c", "from cli.main import main; main()"]
SECONDS = 420  # that a run may take
QUESTION = "Which command stops a run that I no longer want?"


class Log:
    """Lines on the screen and in the file, each with the seconds since the start; `failed` counts what went wrong."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file, self.began, self.failed = path.open("w", encoding="utf-8"), time.monotonic(), 0

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self.began:7.1f} s  {text}"
        print(line, flush=True)
        self.file.write(line + "\n")
        self.file.flush()

    def check(self, what: str, good: bool, detail: str = "") -> None:
        self.failed += not good
        self.say(f"{'ok    ' if good else 'FAILED'} {what}{f': {detail}' if detail else ''}")


def ftq(*words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FTQ, *words], capture_output=True, text=True, timeout=seconds)


def submit(name: str, *options: str) -> str:
    done = ftq("submit", "--model", "smollm2-135m", "--config", "demo.yaml", "--documents", "documents", "--name", name,
               "--quant", "q8_0", "--prompt", QUESTION, "--json", *options)  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    run_id: str = json.loads(done.stdout)["id"]
    return run_id


def wait(client: Client, run_id: str, condition: Callable[[Run], bool], seconds: float = SECONDS) -> Run:
    until = time.monotonic() + seconds
    while True:
        run = client.store.get(run_id)
        if condition(run) or run.is_finished or time.monotonic() > until:
            return run
        time.sleep(0.05)


def step_of(run: Run) -> int:
    """The training run's step; 0 before the first."""
    return (run.stage("train").progress or {}).get("step") or 0


def pid_of(client: Client, run_id: str, stage: str) -> int | None:
    started = [event for event in client.store.events(run_id) if event.kind == "started" and event.stage == stage]
    return int(started[-1].data["pid"]) if started and started[-1].data else None


def on_the_card() -> dict[int, str]:
    """{process id: MiB} of what holds memory of the GPU."""
    asked = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    lines = subprocess.run(asked, capture_output=True, text=True).stdout.splitlines()
    return {int(pid): memory.strip() for pid, memory in (line.split(",") for line in lines if "," in line)}


def kill_and_go_on(client: Client, log: Log, run_id: str, step: int) -> None:
    """kill -9 of the training process after a checkpoint."""
    run = wait(client, run_id, lambda run: step_of(run) >= step)
    pid = pid_of(client, run_id, "train")
    log.check("the training of the first run has begun", run.stage("train").status == "running" and pid is not None,
              str(run.stage("train").progress))  # fmt: skip
    if pid:
        os.kill(pid, signal.SIGKILL)
        log.say(f"kill -9 of its process {pid}")


def overlap(client: Client, exported: str, trained: str) -> float:
    """Seconds for which one run's export and the other's training went on side by side; negative if they didn't."""
    export, train = client.store.get(exported).stage("export"), client.store.get(trained).stage("train")
    return min(export.finished_at or 0, train.finished_at or 0) - max(export.started_at or 0, train.started_at or 0)


def two_runs(client: Client, log: Log) -> list[str]:
    runs = [submit("first", "--set", "save_steps=40"), submit("second", "--set", "seed=7")]
    kill_and_go_on(client, log, runs[0], step=100)
    wait(client, runs[0], lambda run: run.stage("train").status == "succeeded")
    wait(client, runs[0], lambda run: run.stage("export").status == "running")
    beside = wait(client, runs[1], lambda run: run.stage("train").status == "running").stage("train").status
    exporting = client.store.get(runs[0]).stage("export").status
    log.say(f"the first is in export ({exporting}), the second in train ({beside}); on the card: {on_the_card()}")
    for run_id in runs:
        run = wait(client, run_id, lambda run: run.is_finished)
        seconds = {stage.name: round(stage.finished_at - stage.started_at, 1) for stage in run.stages
                   if stage.finished_at and stage.started_at}  # fmt: skip
        log.check(f"{run.name} has succeeded", run.status == "succeeded", f"{seconds} {run.error or ''}")
    kinds = [event.kind for event in client.store.events(runs[0]) if event.stage == "train"]
    log.check("the killed training went on from a checkpoint", "resumed" in kinds, ", ".join(kinds))
    seconds_of_both = max(overlap(client, *pair) for pair in (runs, runs[::-1]))
    log.check("one was exported while the other trained", seconds_of_both > 0, f"{seconds_of_both:.1f} s side by side")
    for run_id in runs:
        for event in client.store.events(run_id):
            log.say(f"  {run_id} {event.stage or '-':8} {event.kind:10} {event.message[:150]}")
    return runs


def ask(log: Log, runs: list[str]) -> None:
    for run_id, words in ((runs[0], ()), (runs[0], ()), (runs[1], ()), (runs[0], ("--base",))):
        began = time.monotonic()
        done = ftq("infer", run_id, QUESTION, "--json", *words)
        said = (done.stdout or done.stderr).strip().replace("\n", " ")
        log.check(f"ftq infer {run_id} {' '.join(words)}", done.returncode == 0,
                  f"{time.monotonic() - began:.1f} s {said[:300]}")  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "benchmarks.questions", runs[0]], capture_output=True, text=True)
    log.check("the questions", done.returncode == 0, (done.stdout or done.stderr)[-700:])


def answer_on_the_card(client: Client, log: Log, binary: str, run_id: str) -> None:
    """A llama-server with CUDA answers while a training run holds the same card."""
    os.environ["FTQ_LLAMA_SERVER"] = binary
    third = submit("third", "--set", "seed=8")
    wait(client, third, lambda run: step_of(run) >= 20)
    before, pool = on_the_card(), Pool(gpu=True)
    file = client.run_dir(run_id).gguf("q8_0")
    answers = [pool.ask(file, Question(QUESTION)) for _ in range(3)]
    with pool.server(file) as server:
        log.say(f"on the card before {before}, with the server {server.pid}: {on_the_card()}")
    log.check(
        "llama-server with CUDA answers beside a training run",
        all(one.tokens for one in answers),
        "; ".join(f"{one.tokens / one.seconds:.0f} tokens/s" for one in answers) + f": {answers[0].answer[:200]}",
    )
    pool.close()
    del os.environ["FTQ_LLAMA_SERVER"]
    run = wait(client, third, lambda run: run.is_finished)
    log.check("and the training run beside it has succeeded", run.status == "succeeded", str(run.error or ""))


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.gpu_machine")
    arguments.add_argument("--log", type=Path, required=True, help="where the log goes")
    arguments.add_argument("--llama-server", default="", help="a llama-server with CUDA, to answer on the card too")
    given = arguments.parse_args()
    log = Log(given.log)
    os.environ.setdefault("FTQ_HOME", tempfile.mkdtemp(prefix="ftq-gpu-"))
    smi = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    log.say(subprocess.run(smi, capture_output=True, text=True).stdout.strip())
    with open(Path(os.environ["FTQ_HOME"]).with_suffix(".up.log"), "wb") as output:
        up = subprocess.Popen([*FTQ, "up"], stdout=output, stderr=output)
    try:
        client = Client(Settings.from_env())
        while not {"cpu", "gpu", "ask"} <= client.store.live_queues():
            if up.poll() is not None:
                raise SystemExit(Path(output.name).read_text())
            time.sleep(0.2)
        log.say("ftq up: every queue is served")
        done = ftq("doctor")
        log.check("ftq doctor", done.returncode == 0, "\n" + done.stdout + done.stderr)
        runs = two_runs(client, log)
        ask(log, runs)
        if given.llama_server:
            answer_on_the_card(client, log, given.llama_server, runs[0])
        done = ftq("doctor", "--deep")
        log.check("ftq doctor --deep", done.returncode == 0, "\n" + done.stdout[-3000:] + done.stderr[-1500:])
    finally:
        up.terminate()
        up.wait()
    log.check("nothing is left on the card", not on_the_card(), str(on_the_card()))
    log.say(f"{log.failed} failed")
    sys.exit(bool(log.failed))


if __name__ == "__main__":
    main()
